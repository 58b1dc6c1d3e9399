"""Booted Debian machines in systemd-nspawn: the playbooks run on them as they run on a mail host."""
