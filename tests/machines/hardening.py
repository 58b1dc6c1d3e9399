"""What must be seen of a running sidecar: its confinement, as told by service manager and kernel, and AUTH.

Knows systemd.exec(5) and proc(5). Must not know what the sidecar does.
"""

from __future__ import annotations

from tests.machines.machine import Machine

_CONFINED = {
    "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
    "PrivateDevices": "yes", "PrivateUsers": "yes", "ProtectProc": "invisible", "ProcSubset": "pid",
    "ProtectKernelTunables": "yes", "ProtectKernelModules": "yes", "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes", "ProtectClock": "yes", "ProtectHostname": "yes",
    "RestrictRealtime": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes",
    "RestrictNamespaces": "yes", "CapabilityBoundingSet": "",
    "AmbientCapabilities": "", "SystemCallArchitectures": "native",
}  # fmt: skip
_WANTED = _CONFINED | {
    "ActiveState": "active", "SubState": "running", "Group": "submitward", "UMask": "0007", "Type": "notify",
    "WatchdogUSec": "30s",
}  # fmt: skip
#: Of these one writes what all may read, and the other is root, without a capability and alone.
_NOW_AND_THEN = {"export": {"User": "submitward-export"}, "reload": {"User": "root", "PrivateUsers": "no"}}

_OTHERS = ("User", "MainPID", "MemoryDenyWriteExecute", "RestrictAddressFamilies", "SystemCallFilter")


def assert_hardened(machine: Machine, unit: str) -> None:
    """The sidecar of that unit runs, and it runs under all that its unit says."""
    service = f"submitward-{unit}.service"
    shown = machine.show(service, *_WANTED, *_OTHERS)
    pid = shown.pop("MainPID")
    assert shown.pop("User") == f"submitward-{unit}"
    # Without it no password could be checked by LDAP over TLS: cffi writes callbacks at run time.
    assert shown.pop("MemoryDenyWriteExecute") == ("no" if unit == "auth" else "yes")
    assert set(shown.pop("RestrictAddressFamilies").split()) == {"AF_UNIX", "AF_INET", "AF_INET6"}
    calls = shown.pop("SystemCallFilter").split()
    assert "read" in calls
    assert not {"mount", "ptrace", "setuid", "bpf"} & set(calls)
    assert shown == {name: value for name, value in _WANTED.items() if name in shown}
    assert shown.keys() == _WANTED.keys()
    status = machine.run("cat", f"/proc/{pid}/status").stdout
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert "CapEff:\t0000000000000000" in status
    machine.run("systemd-analyze", "security", "--no-pager", "--threshold=20", service)  # tenths: 2.0
    users = machine.run("stat", "-c", "%U", f"/proc/{pid}").stdout
    assert users == f"submitward-{unit}\n"


def assert_ran_hardened(machine: Machine, unit: str) -> None:
    """The service of that unit, which runs now and then, has ended well, under all that its unit says."""
    service = f"submitward-{unit}.service"
    wanted = _CONFINED | _NOW_AND_THEN[unit] | {"Type": "oneshot", "Result": "success", "ExecMainStatus": "0"}
    shown = machine.show(service, *wanted, "ExecMainExitTimestampMonotonic", "SystemCallFilter")
    assert shown.pop("ExecMainExitTimestampMonotonic") != "0"
    assert not {"mount", "ptrace", "setuid", "bpf"} & set(shown.pop("SystemCallFilter").split())
    assert shown == wanted
    machine.run("systemd-analyze", "security", "--no-pager", "--threshold=20", service)  # tenths: 2.0


def assert_always_offered_auth(machine: Machine) -> None:
    """No smtpd has ever found saslauthd's socket closed, over all boots; and they did log."""
    journal = machine.journal()
    assert "sasl_username=bob" in journal
    assert "no SASL authentication mechanisms" not in journal
