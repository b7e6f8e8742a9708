"""The calls about the catalogue's stock. Each is a value that a `Ledger` carries out, as in calls.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.calls import Call, milliseconds
from ledger.scripts import script


@dataclass(frozen=True)
class Look:
    """Whether the catalogue is to be read now. `lanes`: sold-out lanes whose probes are near, for whoever has the turn.

    `wait`: seconds until it is to be asked again; None is whenever.
    """

    wait: float | None
    lanes: tuple[str, ...] = ()


def take(*, lead: float, window: float, lasts: float, rate: float) -> Call[Look]:
    """Take the turn to read the catalogue, `lead` seconds before a probe, for those of the next `window` seconds.

    `rate`: create calls a second of the whole account, 0 is any number. The reading counts as one of them, and is not made
    while there is none to spare.
    """
    return Call(
        script("stock_take"),
        (milliseconds(lead), milliseconds(window), milliseconds(lasts), repr(rate)),
        lambda reply: Look(int(reply[0]) / 1000 if reply[0] != "" else None, tuple(reply[1:])),
    )


def told(
    empty: Mapping[str, float], *, why: str = "", rest: float, longest: float, in_a_row: int
) -> Call[int]:
    """Note what the catalogue said: lanes without stock, and for how long their probes are put off (seconds).

    `why`: it could not be read. It may be read again after `rest` seconds, after failures in a row up to `longest`. No more
    than `in_a_row` probes of a lane are put off, one after the other. Returns how many were.
    """
    flat = [text for lane, wait in empty.items() for text in (lane, milliseconds(wait))]
    args = (why or "read", milliseconds(rest), milliseconds(longest), str(in_a_row), *flat)
    return Call(script("stock_told"), args, int)
