"""The door of the operator's command: finds the subcommand's module and runs it.

Knows the names of the subcommands and the exit codes. Must not know what any of them does.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from sidecar import ending

#: subcommand → module; a module has HELP, arguments(parser) and run(options) -> exit code.
COMMANDS = {
    "serve": "submitward.serve",
    "check": "submitward.check",
    "explain": "submitward.explain",
    "export": "submitward.export",
    "graft": "submitward.grafting",
    "policy": "submitward.policy",
    "quota": "submitward.quota",
    "block": "submitward.block",
    "unblock": "submitward.unblock",
    "blocks": "submitward.blocks",
    "status": "submitward.status",
    "events": "submitward.events",
    "audit": "submitward.audit",
    "passwd": "submitward.passwd",
    "observe": "submitward.observe",
    "auth": "submitward.auth",
    "owns": "submitward.owns",
    "app-password": "submitward.app_password",
    "dkim": "submitward.dkim.command",
    "dns": "submitward.dns.command",
}

EXITS = "exit status: 0 yes or done, 1 no or refused, 2 usage or settings, 75 unavailable, try again"
NOBODY_READS = 141  # as a shell says of a command that SIGPIPE has ended
DEFAULT_SETTINGS = "/etc/submitward/config.yaml"


def parser(wanted: str | None = None) -> argparse.ArgumentParser:
    """The whole parser; with `wanted` only that subcommand's module is imported."""
    root = argparse.ArgumentParser(
        prog="submitward", description="Submitward: an authenticated relay beside your Postfix.", epilog=EXITS
    )
    root.add_argument("--settings", default=DEFAULT_SETTINGS, metavar="FILE", help="default: %(default)s")
    subcommands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module_name in COMMANDS.items():
        if wanted in COMMANDS and name != wanted:
            continue
        module = importlib.import_module(module_name)
        sub = subcommands.add_parser(name, help=module.HELP, description=module.HELP, epilog=EXITS)
        sub.add_argument("--settings", default=argparse.SUPPRESS, metavar="FILE", help=argparse.SUPPRESS)
        module.arguments(sub)
        sub.set_defaults(run=module.run)
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; returns its exit status, 141 when nobody reads what it prints (`… | head`)."""
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # What is still held back would be tried again, and complained about, when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS


def _run(arguments: list[str]) -> int:
    wanted = next((word for word in arguments if word in COMMANDS), None)
    if wanted == "serve":
        ending.leave_at_once()
    options = parser(wanted).parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
