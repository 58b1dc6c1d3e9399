"""A TCP proxy that can become a black hole.

Closed (`is_open` False): connections stay and are made, and nothing that is sent arrives, as with a host that
hangs.
Dropping (`drop`): what is there hangs too, and who connects gets no answer at all, as behind a firewall.
"""

import contextlib
import select
import socket
import threading

BACKLOG = 8


class Proxy:
    """Forwards to 127.0.0.1:`port` while `is_open`."""

    def __init__(self, port):
        self._to = port
        self.is_open = True
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.port = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._accepts = threading.Event()
        self._accepts.set()
        self._fillers = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self._ended.set()
        self._accepts.set()
        self.open()
        self._listener.close()

    def drop(self):
        """Let nobody in any more: the backlog is kept full, so that the kernel drops every SYN."""
        self.is_open = False
        self._accepts.clear()
        for _ in range(BACKLOG + 4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)

    def open(self):
        """Be an ordinary proxy again."""
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        self.is_open = True
        self._accepts.set()

    def _accept(self):
        while not self._ended.is_set():
            self._accepts.wait()
            with contextlib.suppress(OSError, ValueError):
                if self._accepts.is_set() and select.select([self._listener], [], [], 0.05)[0]:
                    client, _ = self._listener.accept()
                    threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client):
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._to)) as server,
        ):
            while not self._ended.is_set():
                for one in select.select([client, server], [], [], 0.1)[0]:
                    data = one.recv(65536)
                    if self.is_open:
                        if not data:
                            return
                        (server if one is client else client).sendall(data)
                    elif not data:
                        return
