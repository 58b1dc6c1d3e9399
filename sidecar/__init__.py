"""The manners of a long-running process; knows no mail."""
