"""What carries Submitward onto a mail host: units, the graft onto Postfix, the role."""
