"""The calls of those who send notices: which are to be sent, what came of them, how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ledger.calls import Call, milliseconds, pairs
from ledger.scripts import script
from tasks.jobs import moment

GATHER_SECONDS = 5.0
"""How long happenings are gathered after the first, before a message tells of them."""

AGAIN_SECONDS, AGAIN_CAP = 10.0, 600.0
"""After a message, the same thing (the failures of one batch, one lane) is told again only after 10, 20, 40, ... seconds,
unless it was quiet for as long: a fleet of a thousand that fails for minutes ends in a handful of messages."""

INTERVAL_SECONDS = 4.0
BURST = 3
"""To one address go at most `BURST` messages at once, and one each `INTERVAL_SECONDS` on average, tries counted: so at most 18
in any minute. WeCom and DingTalk take 20."""

REST_SECONDS = 1.0
"""Between two messages to one address: Slack takes one a second."""

DOCUMENTS_AT_ONCE = 10
"""What one message tells of, at most."""

GIVE_UP_SECONDS = 86400.0
"""For so long a message is tried again."""


@dataclass(frozen=True)
class Message:
    """What is to be sent to the address with this mark. `documents` is a JSON list; `tries` counts this one."""

    mark: str
    id: str
    tries: int
    documents: str = field(repr=False)


@dataclass(frozen=True)
class Delivery:
    """How it goes with one address. `held`: what is gathered for it and not yet in a message; `tries` of the one being sent."""

    mark: str
    heard: datetime | None
    held: int
    sent: int
    lost: int
    tries: int
    sent_at: datetime | None
    error: str | None
    error_at: datetime | None


def take_messages(
    asker: str,
    marks: Sequence[str],
    kinds: Sequence[str],
    *,
    lasts: float,
    gather: float | None = None,
    again: float | None = None,
) -> Call[list[Message]]:
    """Note which addresses a worker has, and take what is to be sent to them now. The asker has `lasts` seconds for it.

    `gather` and `again` are GATHER_SECONDS and AGAIN_SECONDS unless given; `again` 0 is at once.
    """
    args = (
        asker, ",".join(kinds), milliseconds(GATHER_SECONDS if gather is None else gather), milliseconds(INTERVAL_SECONDS), str(BURST),
        milliseconds(lasts), str(DOCUMENTS_AT_ONCE), milliseconds(AGAIN_SECONDS if again is None else again), milliseconds(AGAIN_CAP), *marks,
    )  # fmt: skip
    return Call(script("post"), args, lambda reply: [Message(m, i, int(t), d) for m, i, t, d in reply])


def posted(
    asker: str,
    message: Message,
    outcome: Literal["sent", "later", "refused"],
    *,
    text: str = "",
    delay: float = 0.0,
) -> Call[tuple[str, bool]]:
    """What came of a message; `delay`: seconds until it may be tried again.

    What follows (`sent`, `later`, `refused`, `given up`, or "" where it is somebody else's), and whether that is news.
    """
    args = (
        asker, message.mark, message.id, outcome, text, milliseconds(delay), milliseconds(GIVE_UP_SECONDS), milliseconds(REST_SECONDS),
    )  # fmt: skip
    return Call(
        script("posted"), args, lambda reply: (reply.removesuffix(" again"), not reply.endswith(" again"))
    )


def deliveries() -> Call[list[Delivery]]:
    """How it goes with every address that workers have."""

    def delivery(mark: str, heard: str, held: int, flat: Sequence[str]) -> Delivery:
        fields = pairs(flat)
        return Delivery(
            mark,
            moment(heard.partition(" ")[0]),
            held,
            int(fields.get("sent", 0)),
            int(fields.get("lost", 0)),
            int(fields.get("tries", 0)),
            moment(fields.get("sentAt")),
            fields.get("error"),
            moment(fields.get("errorAt")),
        )

    def parse(reply: list[Any]) -> list[Delivery]:
        return sorted((delivery(*one) for one in reply), key=lambda one: one.mark)

    return Call(script("deliveries"), (), parse)
