"""A server that resets a connection before TLS begins leaves no socket behind."""

import gc
import socket
import ssl
import struct
from types import SimpleNamespace

import pytest

from directory.ldap import _Tls


def test_a_reset_before_tls_leaves_no_open_socket():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(OSError, match="reset"):
            _Tls(ssl.create_default_context(), "localhost").wrap_socket(SimpleNamespace(socket=client))
        gc.collect()  # whatever is open now is an error of this test
