"""Any bytes on the three sockets: the harnesses, the kept corpus, and a test that replays it."""
