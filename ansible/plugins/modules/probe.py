#!/usr/bin/python
"""Asks the three sidecars what Postfix would ask them. Knows one exchange of each protocol, and nothing more."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: probe
short_description: Ask the three sidecars of Submitward what Postfix would ask them
version_added: "0.1.0"
description:
  - A policy question, the handshake of the auth socket, and a milter negotiation, each on its real socket.
  - Changes nothing. Fails with the first one that does not answer as it must.
options:
  directory:
    description: The directory of the three sockets.
    type: path
    default: /var/spool/postfix/submitward
  only:
    description: Which sockets are asked.
    type: list
    elements: str
    choices: [policy, auth, milter]
    default: [policy, auth, milter]
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

import os
import socket
import struct

from ansible.module_utils.basic import AnsibleModule

#: A recipient from nobody: every policy has an answer to that, and none is charged.
QUESTION = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.1\n"
    b"client_name=unknown\nhelo_name=probe\nsender=probe@invalid\nrecipient=probe@invalid\ninstance=probe\n\n"
)
#: SMFIC_OPTNEG, version 6, all actions and steps (libmilter's mfdef.h).
NEGOTIATION = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)


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
    """The action of the answer."""
    answer = ask(path, QUESTION, lambda text: text.endswith(b"\n\n"), seconds)
    if not answer.startswith(b"action=") or len(answer) < len(b"action=x\n\n"):
        raise OSError(f"answers {answer[:100]!r}")
    return answer.strip().decode("ascii", "replace")


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


def main():
    """Ask each of them."""
    asked = {"policy": policy, "auth": auth, "milter": milter}
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/var/spool/postfix/submitward"},
            "only": {"type": "list", "elements": "str", "choices": list(asked), "default": list(asked)},
            "timeout": {"type": "int", "default": 8},
        },
        supports_check_mode=True,
    )
    answers = {}
    for name in module.params["only"]:
        path = os.path.join(module.params["directory"], name)
        try:
            answers[name] = asked[name](path, module.params["timeout"])
        except OSError as error:
            module.fail_json(msg=f"{path}: {error}", answers=answers)
    module.exit_json(changed=False, answers=answers)


if __name__ == "__main__":
    main()
