"""The cloud's front door: it accepts connections, and can be really closed so that they are refused."""

import asyncio
import socket
import time
from collections.abc import Callable

from sandbox.ports import HeldPort, listen_on
from sandbox.syn_filter import drop_new_connections

_HANDSHAKE = 0.0003
"""Seconds in which a connection that has begun is surely made: on one machine that takes some microseconds."""


class Listener:
    """Accepts connections on one port and hands them to protocols made by ``factory``.

    It owns its accept loop because closing a listening socket resets every connection that the kernel has accepted and
    we have not: some of those have sent their request already, and to reset them is not to refuse them. So before the
    socket is closed, new connections are kept away from it, those that have begun are let in, and the kernel's queue is
    emptied, all in one step.
    """

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int = 0) -> None:
        self._factory = factory
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._held = HeldPort(host, port)
        self._listening: socket.socket | None = None
        self._handovers: set[asyncio.Task[object]] = set()
        self._paused = False
        self._in_window = False
        self._share = 0.0
        self._window_timer: asyncio.TimerHandle | None = None
        self._resume_timer: asyncio.TimerHandle | None = None
        self.connections = 0
        """How many connections were accepted."""
        self._follow()

    @property
    def port(self) -> int:
        """The port, also while it is closed."""
        return self._held.number

    @property
    def refusing(self) -> bool:
        """Whether connections are refused now or now and then, so that none should be kept alive."""
        return self._paused or self._share > 0

    def pause(self) -> None:
        """Refuse all new connections until `resume`."""
        self._paused = True
        self._follow()

    def resume(self) -> None:
        """Accept connections again, except in the windows of `refuse`."""
        if self._resume_timer is not None:
            self._resume_timer.cancel()
            self._resume_timer = None
        self._paused = False
        self._follow()

    def refuse_for(self, seconds: float) -> None:
        """Refuse all new connections for ``seconds`` from now."""
        self.resume()
        self.pause()
        self._resume_timer = self._loop.call_later(seconds, self.resume)

    def refuse(self, share: float, window: float = 0.02) -> None:
        """Refuse new connections for ``share`` of the time (0 to 0.95), for ``window`` seconds at a time."""
        if not (0 <= share <= 0.95 and window > 0):
            raise ValueError(
                "refuse takes a share of the time from 0 to 0.95, and a window longer than 0 seconds"
            )
        if self._window_timer is not None:
            self._window_timer.cancel()
            self._window_timer = None
        self._share = share
        self._in_window = False
        self._follow()
        if share > 0:
            self._next_window(window / share - window, window)

    async def close(self) -> None:
        """Stop for good and give the port back; connections that were accepted live on."""
        for timer in (self._window_timer, self._resume_timer):
            if timer is not None:
                timer.cancel()
        self._stop_listening()
        self._held.close()
        await asyncio.gather(*self._handovers, return_exceptions=True)

    def _next_window(self, open_time: float, closed_time: float) -> None:
        def turn() -> None:
            self._in_window = not self._in_window
            self._follow()
            wait = closed_time if self._in_window else open_time
            self._window_timer = self._loop.call_later(wait, turn)

        self._window_timer = self._loop.call_later(open_time, turn)

    def _follow(self) -> None:
        """Make the socket what the flags say."""
        if self._paused or self._in_window:
            self._stop_listening()
        elif self._listening is None:
            self._listening = listen_on(self._host, self.port)
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def _stop_listening(self) -> None:
        if self._listening is None:
            return
        self._loop.remove_reader(self._listening.fileno())
        drop_new_connections(self._listening)
        begun = time.monotonic()
        while time.monotonic() - begun < _HANDSHAKE:
            self._accept()
        self._listening.close()
        self._listening = None

    def _accept(self) -> None:
        """Take every connection that waits."""
        if self._listening is None:
            return
        while True:
            try:
                connection, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # it went away while it waited
            self.connections += 1
            connection.setblocking(False)
            task: asyncio.Task[object] = self._loop.create_task(
                self._loop.connect_accepted_socket(self._factory, connection)
            )
            self._handovers.add(task)
            task.add_done_callback(self._handovers.discard)
