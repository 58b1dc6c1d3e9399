#!/usr/bin/python
"""Ansible's way to the graft. Knows Ansible's arguments; what is planned is decided in module_utils/graft."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: graft
short_description: Plug Submitward into a Postfix that is already there, or take it out
version_added: "0.1.0"
description:
  - Plans on a copy of the configuration directory, lets Postfix check it, and replaces main.cf and master.cf only then.
  - Puts single words into existing lists and blocks beside them; nothing that was there is rewritten.
  - What it cannot follow it refuses with file and line.
  - A Postfix that runs is reloaded, and one that is stopped is left so.
options:
  state:
    description: Whether Submitward is plugged in.
    type: str
    choices: [present, absent]
    default: present
  directory:
    description: Postfix's configuration directory.
    type: path
    default: /etc/postfix
  backups:
    description: Where both files are kept as they were, in a directory named by the moment.
    type: path
    default: /var/backups/submitward
  services:
    description: Submission services that are there, as postconf writes them. Empty means those named for submission.
    type: list
    elements: str
    default: []
  own:
    description: Submission services to make, as master.cf names them.
    type: list
    elements: str
    default: []
  own_tls:
    description: Submission services to make that begin with TLS.
    type: list
    elements: str
    default: []
  policy:
    description: Whether policyd is asked.
    type: bool
    default: true
  authentication:
    description: Whether saslauthd judges logins.
    type: bool
    default: true
  milter:
    description: Whether the author milter judges messages.
    type: bool
    default: true
  hosts:
    description: Whether certificates and networks of the directory may relay.
    type: bool
    default: false
  observe:
    description: Whether all mail passes as it did, so that nothing is taken from a service and a sidecar that is away stops nobody.
    type: bool
    default: false
  mx:
    description: Whether the policy is asked on the MX port too; never beside AUTH.
    type: bool
    default: false
  signer:
    description: OpenDKIM's socket as smtpd names it. Empty leaves signing alone.
    type: str
    default: ""
  sockets:
    description: Where the sidecars listen; refused when the instance's queue_directory does not hold them.
    type: path
    default: /var/spool/postfix/submitward
  tables:
    description: Where the tables of certificates and networks are.
    type: path
    default: /var/lib/submitward-export
author:
  - The Submitward authors (@submitward)
"""

EXAMPLES = r"""
- name: Plug Submitward into the submission services
  submitward.relay.graft:
    signer: unix:opendkim/opendkim.sock

- name: Take it out
  submitward.relay.graft:
    state: absent
"""

RETURN = r"""
notes:
  description: What an operator ought to know of the plan.
  type: list
  elements: str
  returned: always
backup:
  description: Where both files are kept as they were.
  type: str
  returned: when something was replaced
"""

import functools
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.graft.applying import carry_out, owed
from ..module_utils.graft.files import Refused
from ..module_utils.graft.host import try_out
from ..module_utils.graft.plan import plan, remove
from ..module_utils.graft.texts import shown
from ..module_utils.graft.wish import Wish

PARTS = ("policy", "authentication", "milter", "hosts", "observe", "mx", "signer", "tables")


def main():
    """Plan, and replace unless this is a check."""
    strings = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "directory": {"type": "path", "default": "/etc/postfix"},
            "backups": {"type": "path", "default": "/var/backups/submitward"},
            **{name: dict(strings) for name in ("services", "own", "own_tls")},
            **{name: {"type": "bool", "default": True} for name in ("policy", "authentication", "milter")},
            **{name: {"type": "bool", "default": False} for name in ("hosts", "observe", "mx")},
            "signer": {"type": "str", "default": ""},
            "sockets": {"type": "path", "default": "/var/spool/postfix/submitward"},
            "tables": {"type": "path", "default": "/var/lib/submitward-export"},
        },
        supports_check_mode=True,
    )
    given = module.params
    wish = Wish(
        services=tuple(given["services"]),
        own=(*given["own"], *given["own_tls"]),
        wrapped=tuple(given["own_tls"]),
        **{name: given[name] for name in PARTS},
    )
    planner = remove if given["state"] == "absent" else functools.partial(plan, wish=wish)
    try:
        outcome = try_out(Path(given["directory"]), planner, Path(given["sockets"]))
        late = owed(outcome, Path(given["backups"]))
        kept = None if module.check_mode else carry_out(outcome, Path(given["backups"]))
    except Refused as refused:
        module.fail_json(msg=shown(str(refused)))
    result = {"changed": bool(outcome.changed or late), "notes": [*map(shown, outcome.notes), *late]}
    if kept:
        result["backup"] = str(kept)
    if module._diff:
        result["diff"] = [
            {
                "before_header": f"{given['directory']}/{name}",
                "after_header": f"{given['directory']}/{name}",
                "before": shown(outcome.before[name]),
                "after": shown(outcome.after[name]),
            }
            for name in outcome.changed
        ]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
