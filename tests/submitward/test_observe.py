"""What `submitward observe report` makes of the log of a relay that only observes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from milter import journal as milter_journal
from milter.judgement import Verdict
from sidecar.log import Log
from submitward.observe import PROBE, observed, sum_up
from tests.policyd.house import ROOT
from tests.submitward.command import submitward

LINES = """\
<5>policyd: event=verdict protocol_state=RCPT action=DUNNO principal=login:alice sender=bob@example.org observed="sender: 553 5.7.1 not owned"
Nov 21 03:00:00 mx1 policyd[12]: event=verdict action=DUNNO principal=login:alice sender=carol@example.org observed="sender: 553 5.7.1 not owned; limits: 450 4.7.1 20 recipients per hour"
policyd: event=verdict action=DUNNO sender=x@example.org observed="principal: 554 5.7.1 no login, no listed certificate, no listed network"
<6>policyd: event=verdict action=DUNNO principal=login:bob sender=bob@example.org
<5>milter: event=author principal=login:bob author=eve@example.org verdict=pass observed=refuse reason="not owned"
{"time":"2026-11-21T03:00:00Z","level":"notice","program":"policyd","event":"verdict","principal":"login:alice","sender":"bob@example.org","observed":"sender: 553 5.7.1 not owned"}
postfix/smtpd[1]: connect from unknown[192.0.2.1] event=verdict observed=forged
{"half": "a line
"""  # noqa: E501


def test_what_would_have_been_refused_is_counted_by_principal_and_reason() -> None:
    rows = sum_up(observed(LINES.splitlines()))
    counted = {key: (row.count, row.examples) for key, row in rows.items()}
    assert counted == {
        ("login:alice", "sender: 553 5.7.1 not owned"): (3, ["bob@example.org", "carol@example.org"]),
        ("login:alice", "limits: 450 4.7.1 20 recipients per hour"): (1, ["carol@example.org"]),
        ("login:bob", "author: not owned"): (1, ["eve@example.org"]),
        (
            "nobody (no login, no listed host)",
            "principal: 554 5.7.1 no login, no listed certificate, no listed network",
        ): (1, ["x@example.org"]),
    }
    assert next(iter(rows)) == ("login:alice", "sender: 553 5.7.1 not owned")


def test_what_a_deployment_asks_is_nobodys_mail() -> None:
    lines = [f"policyd: event=verdict instance={PROBE} action=DUNNO sender=probe@invalid observed=principal"]
    assert list(observed(lines)) == []
    assert f"instance={PROBE}\\n" in (ROOT / "ansible/plugins/modules/probe.py").read_text()


def test_the_milters_own_line_is_understood() -> None:
    stream = io.StringIO()
    case = SimpleNamespace(
        claimed=SimpleNamespace(queue_id="q"), subject="login:bob", refund=None, incident="i",
        message=SimpleNamespace(envelope_sender="bob@example.org"),
    )  # fmt: skip
    verdict = Verdict("refuse", "not owned", b"", "eve@example.org")
    counters = SimpleNamespace(verdicts=SimpleNamespace(count=lambda *_: None))
    milter_journal.write(Log(stream, program="milter"), counters, case, verdict, observed=True, ms=1.0)  # type: ignore[arg-type]
    assert list(observed(stream.getvalue().splitlines())) == [
        ("login:bob", "author: not owned", "eve@example.org")
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_and_standard_input_are_read(tmp_path: Path, as_json: bool) -> None:
    log = tmp_path / "log"
    log.write_text(LINES)
    more = ["--json"] if as_json else []
    done = submitward("/nowhere", "observe", "report", str(log), *more)
    again = submitward("/nowhere", "observe", "report", "-", *more, stdin=LINES)
    assert (done.returncode, done.stdout) == (0, again.stdout)
    if as_json:
        assert len(json.loads(done.stdout)["observed"]) == 4
    else:
        assert done.stdout.splitlines()[0].split(maxsplit=1) == [
            "3",
            "login:alice: sender: 553 5.7.1 not owned",
        ]
        assert done.stdout.endswith("6 requests would have been refused\n")


def test_nothing_to_report_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    done = submitward("/nowhere", "observe", "report", str(tmp_path / "log"))
    assert (done.returncode, done.stdout) == (0, "nothing would have been refused\n")
    assert submitward("/nowhere", "observe", "report", str(tmp_path / "none")).returncode == 2
