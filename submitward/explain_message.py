"""`submitward explain PRINCIPAL --message FILE`: the author check of a message that lies somewhere.

Knows where the message, the principal and the signer's tables come from. Must not judge: the milter's own
code does.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from typing import Any, BinaryIO

from directory.identity import Principal
from directory.settings import open_directory
from milter.keys import Keys
from milter.questions import Signing
from milter.settings import SignSettings
from milter.settings import load_settings as load_milter_settings
from policyd.deadline import within
from policyd.facts import AWAY
from policyd.inquiry import plan
from policyd.settings import Settings
from policyd.wire import Request
from sidecar.log import Log
from submitward.explanation import PATIENCE, open_known_ledger, who
from submitward.message_explanation import MessageExplanation, as_json, as_text, explain_message
from submitward.message_file import MessageFile
from submitward.running import run_coroutine


def run_message(options: argparse.Namespace, settings: Settings, request: Request) -> int:
    """Explain; returns 0 when it would pass, 1 when refused, 2 for a file that cannot be read, 75 when
    unavailable. Raises SettingsError."""
    milter = load_milter_settings(options.settings)
    log = Log(io.StringIO(), program="explain")
    try:
        with _open(options.message) as stream:
            principal = run_coroutine(lambda reactor: find(settings, request, reactor=reactor, log=log))
            signing = tables(milter.sign, log)
            explanation = explain_message(MessageFile(stream), principal, milter.rules, signing)
    except OSError as wrong:
        print(f"{options.message}: cannot be read: {wrong.strerror}", file=sys.stderr)
        return 2
    _print(explanation, options.json)
    return explanation.exit_status


def _open(name: str) -> BinaryIO:
    return sys.stdin.buffer if name == "-" else open(name, "rb")


def _print(explanation: MessageExplanation, wants_json: bool) -> None:
    print(json.dumps(as_json(explanation)) if wants_json else as_text(explanation))


async def find(settings: Settings, request: Request, *, reactor: Any, log: Log) -> Principal | str | None:
    """The principal that submits, None when nobody is listed, words when that cannot be known now."""
    directory = open_directory(settings.directory, reactor=reactor, log=log)
    ledger = open_known_ledger(settings, reactor=reactor, log=log)
    directory.start()
    if ledger is not None:
        ledger.start()
    try:
        asked = who(settings, directory, ledger, plan(request, "submission"), time.time())
        found = await within(reactor, PATIENCE, asked)
    finally:
        directory.stop()
        if ledger is not None:
            await ledger.stop()
    return "the directory cannot answer" if found is AWAY else found


def tables(sign: SignSettings, log: Log) -> Signing:
    """The signer's tables as the milter reads them."""
    if sign.key_table is None or sign.signing_table is None:
        return None
    keys = Keys(sign.key_table, sign.signing_table, clock=time.monotonic, log=log)
    keys.look()
    return keys.tables
