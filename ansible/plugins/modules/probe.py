#!/usr/bin/python
"""Asks the three sidecars what Postfix would ask them, as the user that Postfix runs as, and systemd how they are.

Knows one exchange of each protocol, and nothing more. Must not know what is done when an answer is a bad one.
"""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: probe
short_description: Ask the three sidecars of Submitward what Postfix would ask them
version_added: "0.1.0"
description:
  - A policy question, the handshake of the auth socket, and a milter negotiation, each on its real socket and as the user
    that Postfix runs as; then what the sidecar has told systemd of its directory and its ledger.
  - Changes nothing. Fails with the first one that does not answer as it must.
options:
  directory:
    description: The directory of the three sockets.
    type: path
    default: /var/spool/postfix/submitward
  configuration:
    description: Postfix's configuration directory, whose C(mail_owner) the sockets are asked as.
    type: path
    default: /etc/postfix
  only:
    description: Which sockets are asked.
    type: list
    elements: str
    choices: [policy, auth, milter]
    default: [policy, auth, milter]
  stores:
    description: Whether directory, ledger and tables must answer too. What says "try again later" answers without them.
    type: bool
    default: true
  patience:
    description: Seconds that a sidecar gets to read its directory and to open its ledger.
    type: int
    default: 30
  timeout:
    description: Seconds for each of them, connecting and answering.
    type: int
    default: 8
author:
  - The Submitward authors (@submitward)
"""

EXAMPLES = r"""
- name: Ask all three
  submitward.relay.probe:
"""

RETURN = r"""
answers:
  description: What each of them said.
  type: dict
  returned: success
"""

import contextlib
import os
import pwd
import socket
import struct
import time

from ansible.module_utils.basic import AnsibleModule

#: A recipient of a login that there is not: the directory must be asked to know that, and nothing is charged.
#: `submitward observe report` knows the instance, and leaves it out.
QUESTION = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.1\n"
    b"client_name=unknown\nhelo_name=probe\nsender=probe@invalid\nrecipient=probe@invalid\n"
    b"sasl_username=submitward-probe\nencryption_protocol=TLSv1.3\ninstance=submitward-probe\n\n"
)
#: SMFIC_OPTNEG, version 6, all actions and steps (libmilter's mfdef.h).
NEGOTIATION = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)
PAUSE = 0.5  # seconds between two looks at one that is not ready yet


class NotNow(OSError):
    """It answers, and cannot know what it is asked: a backend of it is away, or was not read yet."""


def ask(path, question, enough, seconds):
    """Send, and read until `enough` says so. Raises OSError, also when the peer hangs up before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(question)
        answer = b""
        while not enough(answer):
            piece = connection.recv(65536)
            if not piece:
                raise OSError(f"hangs up after {answer[:100]!r}")
            answer += piece
    return answer


def policy(path, seconds):
    """The action of the answer. Raises NotNow for a deferral, which is what Postfix would pass on to everybody."""
    answer = ask(path, QUESTION, lambda text: text.endswith(b"\n\n"), seconds)
    if not answer.startswith(b"action=") or len(answer) < len(b"action=x\n\n"):
        raise OSError(f"answers {answer[:100]!r}")
    text = answer.strip().decode("ascii", "replace")
    action, rest = text[len("action=") :].partition(" ")[::2]
    if action.upper().startswith("DEFER") or rest.startswith("4.3."):
        raise NotNow(f"answers {text}")
    return text


def auth(path, seconds):
    """The mechanisms of the handshake, which comes without a question."""
    answer = ask(path, b"VERSION\t1\t0\nCPID\t1\n", lambda text: b"\nDONE\n" in text, seconds)
    found = [
        line.split(b"\t")[1].decode("ascii") for line in answer.splitlines() if line.startswith(b"MECH\t")
    ]
    if not found:
        raise OSError("offers no mechanism")
    return " ".join(found)


def milter(path, seconds):
    """The version of the milter protocol."""

    def enough(answer):
        return len(answer) >= 4 and len(answer) >= 4 + struct.unpack("!I", answer[:4])[0]

    answer = ask(path, NEGOTIATION, enough, seconds)
    if answer[4:5] != b"O":
        raise OSError(f"answers {answer[:100]!r}")
    return "version {}".format(struct.unpack("!I", answer[5:9])[0])


def state(module, name):
    """What the sidecar told systemd last. Raises NotNow when that is not "ok", OSError when it will not become so."""
    unit = f"submitward-{name}.service"
    command = [
        module.get_bin_path("systemctl", required=True),
        "show",
        "--property=StatusText",
        "--value",
        unit,
    ]
    said = module.run_command(command)[1].strip()
    if said != "ok":
        wrong = OSError if "settings=refused" in said else NotNow
        raise wrong(f"{unit} says: {said or 'nothing'}; journalctl -u {unit} says why")
    return said


def ready(question, seconds):
    """The answer to `question`, once it is not "not now" any more. Raises NotNow after `seconds`."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return question()
        except NotNow:
            if time.monotonic() >= ends:
                raise
        time.sleep(PAUSE)


@contextlib.contextmanager
def acting_as(user):
    """As `user` with its groups where we are root, else as we are. Raises KeyError for a user that there is not."""
    if os.geteuid() != 0:
        yield
        return
    entry, groups = pwd.getpwnam(user), os.getgroups()
    os.initgroups(user, entry.pw_gid)
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def mail_owner(module):
    """The user that Postfix runs as."""
    postconf = module.get_bin_path("postconf", required=True)
    code, out, err = module.run_command([postconf, "-c", module.params["configuration"], "-h", "mail_owner"])
    if code or not out.strip():
        module.fail_json(msg=f"Postfix does not say as whom it runs: {(err or out).strip()}")
    return out.strip()


def look(module, name, user):
    """The answer of one sidecar. Raises OSError and KeyError."""
    path = os.path.join(module.params["directory"], name)
    patience = module.params["patience"] if module.params["stores"] else 0

    def asked():
        with acting_as(user):
            return ASKED[name](path, module.params["timeout"])

    try:
        answer = ready(asked, patience)
    except NotNow as trouble:
        if module.params["stores"]:
            raise
        return str(trouble)
    if module.params["stores"]:
        ready(lambda: state(module, name), patience)
    return answer


ASKED = {"policy": policy, "auth": auth, "milter": milter}


def main():
    """Ask each of them."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/var/spool/postfix/submitward"},
            "configuration": {"type": "path", "default": "/etc/postfix"},
            "only": {"type": "list", "elements": "str", "choices": list(ASKED), "default": list(ASKED)},
            "stores": {"type": "bool", "default": True},
            "patience": {"type": "int", "default": 30},
            "timeout": {"type": "int", "default": 8},
        },
        supports_check_mode=True,
    )
    answers = {}
    user = mail_owner(module)
    for name in module.params["only"]:
        path = os.path.join(module.params["directory"], name)
        try:
            answers[name] = look(module, name, user)
        except PermissionError as error:
            why = f"{user} may not connect ({error.strerror}); look at owner, group and mode of it and of its directories"
            module.fail_json(msg=f"{path}: {why}", answers=answers)
        except OSError as error:
            module.fail_json(msg=f"{path}: {error}", answers=answers)
        except KeyError:
            module.fail_json(msg=f"there is no user {user}, which is mail_owner of Postfix", answers=answers)
    module.exit_json(changed=False, answers=answers)


if __name__ == "__main__":
    main()
