"""Which calls go wrong, and how: faults by script, and by probability.

A fault is written ``KIND[:ARGUMENT]``. ``-before`` means that the cloud did nothing, ``-after`` that it did what it was
asked to (bought the instance) and only its answer is lost.

====================  ============  ========================================================================
kind                  argument      what the client meets
====================  ============  ========================================================================
close-before/-after                 the connection is closed after the request was read, without an answer
reset-before/-after                 the same with a TCP reset
hang-before/-after    seconds, 60   no answer for so long, then the connection is closed
5xx-before/-after                   an HTML error page with that status (``502-after``; ``502`` is before)
garbage-before/-after               bytes that are not HTTP
half                                the answer's head and half its body (after)
429                   seconds       HTTP 429, with ``Retry-After`` if given (before)
429-date              seconds       the same with ``Retry-After`` as a date (before)
expired                             ``code`` -1 although the token is good (before)
sold-out                            the message of a lane without capacity (before)
message               the text      any other rejection (before)
====================  ============  ========================================================================
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

_NAMES = re.compile(
    r"(?:(?:close|reset|hang|garbage|5\d\d)-(?:before|after)|5\d\d|half|429(?:-date)?|expired|sold-out|message)"
)
_DEFAULT_HANG = 60.0

ENDPOINTS = ("login", "create", "list", "stop", "terminate", "catalogue", "balance")
"""The calls that can go wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a call goes wrong. Make it with `parse`."""

    name: str
    """As it was asked for, with -before or -after, without the argument."""
    kind: str
    """close, reset, hang, garbage, half, status, 429, 429-date, expired, sold-out or message."""
    after: bool
    """Whether the cloud does what it was asked to."""
    status: int = 0
    """HTTP status of kind status."""
    seconds: float | None = None
    """Argument of hang, 429 and 429-date."""
    text: str = ""
    """Argument of message."""

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read ``KIND[:ARGUMENT]``; ValueError says what is wrong."""
        name, _, argument = text.partition(":")
        if not _NAMES.fullmatch(name):
            raise ValueError(f"unknown fault {name!r}: see the table in sandbox/faults.py")
        if name[0] == "5" and "-" not in name:
            name += "-before"
        kind, _, side = name.rpartition("-") if name.endswith(("-before", "-after")) else (name, "", "")
        after = side == "after" or name == "half"
        status = 0
        if kind[0] == "5":
            kind, status = "status", int(kind)
        seconds: float | None = _DEFAULT_HANG if kind == "hang" else None
        if kind in {"hang", "429", "429-date"}:
            if argument:
                seconds = _seconds(text, argument)
        elif kind == "message":
            if not argument:
                raise ValueError("the fault message needs its text: message:TEXT")
        elif argument:
            raise ValueError(f"the fault {name} takes no argument: {text!r}")
        return cls(name, kind, after, status, seconds, argument if kind == "message" else "")


def _seconds(text: str, argument: str) -> float:
    try:
        seconds = float(argument)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{text!r}: {argument!r} is not a number of seconds")
    return seconds


def parse_option(text: str) -> tuple[Fault, float | None]:
    """Read ``KIND[:ARGUMENT][=PROBABILITY]`` as the command line takes it; no probability means once."""
    head, equals, tail = text.rpartition("=")
    if equals and re.fullmatch(r"[0-9.]+", tail):
        return Fault.parse(head), float(tail)
    return Fault.parse(text), None


@dataclass(slots=True)
class _Rule:
    fault: Fault
    times: int
    name: str | None
    endpoint: str


class FaultPlan:
    """Decides the fault of each call: the first scripted rule that fits, else the dice."""

    def __init__(self, seed: int | None = None) -> None:
        # Dice of its own for each endpoint: how often others are called must not change which create goes wrong.
        self._dice = {
            endpoint: random.Random(None if seed is None else f"{seed} {endpoint}") for endpoint in ENDPOINTS
        }
        self._script: list[_Rule] = []
        self._rates: dict[str, dict[Fault, float]] = {}

    def script(
        self, fault: Fault | str, *, times: int = 1, name: str | None = None, endpoint: str = "create"
    ) -> None:
        """Let the next ``times`` calls go wrong.

        ``name`` limits it to creates of instances with that name (a pattern with ``*`` and ``?``); ``endpoint`` is
        one of `ENDPOINTS`.
        """
        _check_endpoint(endpoint)
        if times < 1:
            raise ValueError("times must be 1 or more")
        if name is not None and endpoint != "create":
            raise ValueError("only creates have a name")
        self._script.append(_Rule(_parsed(fault), times, name, endpoint))

    def set_rates(self, rates: Mapping[str, float], endpoint: str = "create") -> None:
        """Let any call of ``endpoint`` go wrong by these probabilities (0 to 1, in all at most 1), in place of those
        before; none for an empty table."""
        _check_endpoint(endpoint)
        parsed = {Fault.parse(text): rate for text, rate in rates.items()}
        if any(not 0 <= rate <= 1 for rate in parsed.values()) or sum(parsed.values()) > 1 + 1e-9:
            raise ValueError(f"probabilities must be between 0 and 1 and add up to at most 1: {dict(rates)}")
        self._rates[endpoint] = parsed

    def clear(self) -> None:
        """No more faults."""
        self._script.clear()
        self._rates = {}

    @property
    def scripted(self) -> int:
        """How many calls are still to go wrong by script."""
        return sum(rule.times for rule in self._script)

    @property
    def rates(self) -> dict[str, dict[str, float]]:
        """The probabilities by endpoint and fault, where there are some."""
        return {
            endpoint: {fault.name: rate for fault, rate in rates.items()}
            for endpoint, rates in self._rates.items()
            if rates
        }

    def pick(self, endpoint: str, instance_name: str | None = None) -> Fault | None:
        """The fault of the call that has just arrived, or None."""
        for rule in self._script:
            if rule.endpoint == endpoint and (
                rule.name is None or (instance_name is not None and fnmatchcase(instance_name, rule.name))
            ):
                rule.times -= 1
                if not rule.times:
                    self._script.remove(rule)
                return rule.fault
        if rates := self._rates.get(endpoint):
            roll = self._dice[endpoint].random()
            for fault, rate in rates.items():
                roll -= rate
                if roll < 0:
                    return fault
        return None


def _check_endpoint(endpoint: str) -> None:
    if endpoint not in ENDPOINTS:
        raise ValueError(f"unknown endpoint {endpoint!r}: it is one of {', '.join(ENDPOINTS)}")


def _parsed(fault: Fault | str) -> Fault:
    return Fault.parse(fault) if isinstance(fault, str) else fault
