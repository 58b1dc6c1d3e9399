"""A TCP proxy that can become a black hole: connections stay, and nothing that is sent arrives."""

import contextlib
import select
import socket
import threading


class Proxy:
    """Forwards to 127.0.0.1:`port` while `is_open`."""

    def __init__(self, port):
        self._to = port
        self.is_open = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client):
        server = socket.create_connection(("127.0.0.1", self._to))
        with client, server:
            while not self._ended.is_set():
                for one in select.select([client, server], [], [], 0.1)[0]:
                    try:
                        data = one.recv(65536)
                        if self.is_open:
                            if not data:
                                return
                            (server if one is client else client).sendall(data)
                    except OSError:
                        return
                    if not data:
                        return
