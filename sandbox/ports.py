"""Ports that stay ours while nothing listens on them."""

import socket
import sys


class HeldPort:
    """A port (0: a free one) on ``host`` that is ours until `close`; a socket of `listen_on` may listen on it meanwhile.

    Connections to a port that is only held are refused. Holding it matters twice: nobody else is given the port while
    it is closed, and no connection to it can be given the same number as its own local port, which on Linux would
    connect it to itself in place of being refused.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self._socket = _bound_socket(host, port)
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":  # elsewhere two sockets cannot share a port: choose it, and hope
            self._socket.close()

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


def listen_on(host: str, port: int, *, backlog: int = 4096) -> socket.socket:
    """A non-blocking socket that listens on ``port``, which may be held."""
    listening = _bound_socket(host, port)
    try:
        listening.setblocking(False)
        listening.listen(backlog)
    except OSError:
        listening.close()
        raise
    return listening


def _bound_socket(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
