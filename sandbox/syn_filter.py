"""A kernel filter that keeps new connections away from a listening socket while it is being closed."""

import ctypes
import socket
import struct
import sys
from contextlib import suppress

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; not in Python's socket module

# Classic BPF; offset 0 is the TCP header. Each instruction: code, jump if true, jump if false, operand.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte with the flags
        (0x45, 0, 1, 0x02),  # is SYN set?
        (0x06, 0, 0, 0),  # yes: drop the packet
        (0x06, 0, 0, 0xFFFF_FFFF),  # no: take all of it
    )
)


def drop_new_connections(listening: socket.socket) -> None:
    """From now on drop the first packet of every new connection; those that have begun go on.

    A client whose packet was dropped sends it again after a second, by itself. Without Linux this does nothing.
    """
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(_DROP_SYN)
        described = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
        with suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
