"""Everything that can be chosen before the simulated cloud starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudOptions:
    """Options of the simulated cloud. Every value can be written as JSON; all durations are in seconds."""

    host: str = "127.0.0.1"
    """Address to bind; containers need ``0.0.0.0``."""
    port: int = 0
    """Port of the API; 0 takes a free one."""
    control_port: int | None = None
    """A second port for ``/sandbox/...`` alone, which is never closed by ``refuse``; 0 takes a free one, None opens none."""

    username: str = "demo"
    password: str = "demo"  # noqa: S105  # a password that guards nothing
    api_keys: tuple[str, ...] = ()
    """Values accepted in the header ``X-API-Key``."""
    token_life: float = 86_400.0
    """How long a token is good, counted exactly from its issue. The real cloud's live one day."""
    single_session: bool = False
    """Whether a login ends all older tokens. What the real cloud does is not documented."""

    latency: float = 0.1
    """Time from the arrival of a request to its answer. What a request does, it does on arrival."""
    auth_status: int = 200
    """HTTP status of ``{"code": -1, ...}`` answers; not documented."""
    error_status: int = 200
    """HTTP status of ``{"message": ...}`` answers; not documented."""

    balance: float = 10_000.0
    """Account balance; creates are rejected when it is 0 or less. Creates do not lower it."""
    boot_time: float = 1.0
    """Time from an instance's creation until its status is ``Running``."""
    list_delay: float = 0.0
    """Time from an instance's creation until it appears in the list; not documented for the real cloud."""
    max_page_size: int = 100
    """The list answers at most so many rows a page, whatever the pager asks for."""

    faults: tuple[str, ...] = ()
    """Faults as on the command line: ``KIND[:ARGUMENT]`` for the next create call, ``...=PROBABILITY`` for any."""
    refuse: float = 0.0
    """Share of the time (0 to 0.95) in which the port is closed and connections are refused."""
    refuse_window: float = 0.02
    """How long the port stays closed each time."""
    seed: int | None = None
    """Seed of the random faults; None takes another one at every start."""

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Options from the values of a JSON object or a command line, where tuples are lists."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)
