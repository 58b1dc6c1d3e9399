"""Answers Postfix's SASL questions in the Dovecot auth protocol: is this login who it says it is."""
