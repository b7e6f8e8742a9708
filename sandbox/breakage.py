"""Carries out the faults that break a connection, on the connection itself."""

import asyncio
import socket
import struct

from sandbox.answers import Answer
from sandbox.faults import Fault

BREAKING = frozenset({"close", "reset", "hang", "garbage", "half"})
"""The kinds of faults that end the connection in place of a whole answer."""

_GARBAGE = b"\x16\x03\x01\x00\xfe\x00\x00 this is not HTTP\r\n\r\n"


async def break_connection(
    transport: asyncio.Transport, fault: Fault, answer: Answer | None, stopping: asyncio.Event
) -> None:
    """End the connection the way ``fault`` asks for; a hang ends early when ``stopping`` is set."""
    match fault.kind:
        case "reset":
            connection = transport.get_extra_info("socket")
            if connection is not None and not transport.is_closing():
                # Lingering for zero seconds turns close into a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
            return
        case "hang":
            try:
                async with asyncio.timeout(fault.seconds):
                    await stopping.wait()
            except TimeoutError:
                pass
        case "garbage":
            transport.write(_GARBAGE)
        case "half" if answer is not None:
            transport.write(answer.raw()[: -max(1, len(answer.body) // 2)])
    transport.close()
