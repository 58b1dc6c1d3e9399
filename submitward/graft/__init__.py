"""The graft: how Submitward is set into a Postfix that has settings of its own, and taken out again.

Standard library, Python 3.9 and relative imports only: the Ansible role carries this package to hosts that
have nothing of ours yet.
"""
