#!/usr/bin/python
"""Tells whose the OpenDKIM of a host is. Knows where Debian has it and what the role notes; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: signer
short_description: Tell whose the OpenDKIM of a host is
version_added: "0.1.0"
description:
  - OpenDKIM is one program with one configuration. A host that has it for something of its own keeps it.
  - Changes nothing.
options:
  ours:
    description: The role's opendkim.conf.
    type: str
    required: true
  keeps_keys:
    description: Whether both tables are written from the inventory.
    type: bool
    default: false
  postfix:
    description: Postfix's configuration directory.
    type: path
    default: /etc/postfix
  conf:
    description: OpenDKIM's configuration.
    type: path
    default: /etc/opendkim.conf
  tables:
    description: The directory of KeyTable and SigningTable.
    type: path
    default: /etc/opendkim
  units:
    description: The administrator's units.
    type: path
    default: /etc/systemd/system
  kept:
    description: Where the role notes what was there before it.
    type: path
    default: /var/backups/submitward/opendkim
author:
  - The Submitward authors (@submitward)
"""

EXAMPLES = r"""
- name: See whose OpenDKIM this is
  submitward.relay.signer:
    ours: "{{ lookup('ansible.builtin.file', 'opendkim.conf', rstrip=false) }}"
"""

RETURN = r"""
ours:
  description: Whether the role has written its configuration, and nobody has changed it since.
  type: bool
  returned: always
wrong:
  description: Why the role may not set it up.
  type: list
  elements: str
  returned: always
asked:
  description: The lines of main.cf and master.cf that name the socket of the role's OpenDKIM.
  type: list
  elements: str
  returned: always
was:
  description: What the role has noted of it before it came; none when it has not set it up.
  type: str
  returned: always
"""

import hashlib
import os
import re
import subprocess

from ansible.module_utils.basic import AnsibleModule

FOREIGN = (
    "{}: neither as Debian's package brings it nor as the role wrote it; what signs or verifies with it would cease to. "
    "Set submitward_opendkim to false, and your OpenDKIM signs behind the author milter (postfix/README.md tells how); "
    "or, where nothing needs it, move the file away"
)
STARTED = "{}: starts OpenDKIM otherwise than the role reckons with; set submitward_opendkim to false, or take this out"
ASKED = (
    "{}: Postfix asks the OpenDKIM that is here, which would listen elsewhere and verify nothing any more; "
    "set submitward_opendkim to false, or take this out"
)
LINES = (
    "{}: not of submitward_opendkim_keys, which would write over it: line {}. Leave that variable empty, and "
    "`submitward dkim` keeps keys and tables on the host; or, where the keys of the inventory are to take the place of all "
    "that stands there, put the line `{}` on top of it and run again"
)
WRITTEN = "# Written from submitward_opendkim_keys."
#: A line as the role writes it, and wrote it before it put WRITTEN on top. `submitward dkim` puts one blank and keeps its
#: keys elsewhere.
OF_THE_ROLE = {
    "KeyTable": r"(\S+)  \1:([^\s:]+):/etc/opendkim/keys/\1\.\2\.private",
    "SigningTable": r"\*@(\S+)  \1",
}


def read(path):
    """The bytes of a file, or None."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def of_debian():
    """The MD5 that each version of the package which dpkg knows has noted for its /etc/opendkim.conf."""
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Conffiles}\n", "opendkim"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return []
    return re.findall(r"(?m)^ /etc/opendkim\.conf ([0-9a-f]{32})", done.stdout)


def naming(pattern, *paths):
    """``path:line: text`` of every line that is no comment and has `pattern`."""
    found = []
    for path in paths:
        lines = (read(path) or b"").decode("latin-1").split("\n")
        found += [f"{path}:{at}: {line.strip()}" for at, line in enumerate(lines, 1)
                  if re.match(rf"[^#]*{pattern}", line)]  # fmt: skip
    return found


def others(path):
    """The numbers of the lines of a table that the role has not written, if nothing in it says that it has."""
    lines = (read(path) or b"").decode("latin-1").split("\n")
    if any(re.match("# .*submitward_opendkim_keys", line) for line in lines):
        return []
    role = re.compile(OF_THE_ROLE[os.path.basename(path)])
    return [
        str(at)
        for at, line in enumerate(lines, 1)
        if re.match(r"\s*[^#\s]", line) and not role.fullmatch(line)
    ]


def units(directory):
    """Unit files of the administrator's that are OpenDKIM's."""
    drop_ins = os.path.join(directory, "opendkim.service.d")
    names = sorted(os.listdir(drop_ins)) if os.path.isdir(drop_ins) else []
    return [os.path.join(directory, "opendkim.service"), *(os.path.join(drop_ins, name) for name in names)]


def look(ours, keeps_keys, postfix, conf, tables, units_of, kept):
    """What the module returns."""
    postfixs = [os.path.join(postfix, name) for name in ("main.cf", "master.cf")]
    found, written = read(conf), (read(os.path.join(kept, "written")) or b"").decode().split()
    is_ours = found is not None and hashlib.sha256(found).hexdigest() in (
        hashlib.sha256(ours.encode()).hexdigest(),
        *written,
    )
    wrong = []
    if not is_ours:
        if found is not None and hashlib.md5(found, usedforsecurity=False).hexdigest() not in of_debian():
            wrong.append(FOREIGN.format(conf))
        wrong += [ASKED.format(line) for line in naming(r"/run/opendkim/", *postfixs)]
    wrong += [STARTED.format(line) for line in naming(r"\bExecStart=", *units(units_of))]
    for path in [os.path.join(tables, name) for name in OF_THE_ROLE] if keeps_keys else ():
        lost = others(path)
        # Not the lines themselves: a KeyTable may hold keys.
        wrong += [LINES.format(path, ", ".join(lost), WRITTEN)] if lost else []
    return {
        "ours": is_ours,
        "wrong": wrong,
        "asked": naming(r"opendkim/opendkim\.sock", *postfixs),
        "was": (read(os.path.join(kept, "was")) or b"").decode(),
    }


def main():
    """Look, and tell."""
    module = AnsibleModule(
        argument_spec={
            "ours": {"type": "str", "required": True},
            "keeps_keys": {"type": "bool", "default": False},
            "postfix": {"type": "path", "default": "/etc/postfix"},
            "conf": {"type": "path", "default": "/etc/opendkim.conf"},
            "tables": {"type": "path", "default": "/etc/opendkim"},
            "units": {"type": "path", "default": "/etc/systemd/system"},
            "kept": {"type": "path", "default": "/var/backups/submitward/opendkim"},
        },
        supports_check_mode=True,
    )
    told = dict(module.params)
    found = look(units_of=told.pop("units"), **told)
    if module.check_mode:  # nobody has taken them out, and a removal would have by now
        found["asked"] = [line for line in found["asked"] if not re.match(r"\S+:\d+: submitward_", line)]
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
