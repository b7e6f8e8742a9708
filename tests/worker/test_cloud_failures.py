"""The table of failures: complete, and never alone in saying that nothing was sent."""

from __future__ import annotations

from types import ModuleType

import aiohttp
import aiohttp.client_exceptions
import aiohttp.http_exceptions
import httpx
import httpx_aiohttp.transport
import pytest

from worker.transport import FAILURES, Call, Peer, Stage, failed

PEER = Peer("cloud.example", 443, timeout=30, connect_timeout=10)


def exceptions_of(module: ModuleType) -> set[type[BaseException]]:
    return {
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        and not issubclass(kind, Warning)
        and kind.__module__.partition(".")[0] in ("aiohttp", "httpx")
    }


@pytest.mark.parametrize(
    "module", [aiohttp, aiohttp.client_exceptions, aiohttp.http_exceptions, httpx], ids=lambda m: m.__name__
)
def test_every_exception_class_of_the_libraries_is_in_the_table(module: ModuleType) -> None:
    """A new release brought a new class? Decide whether it is raised only before a connection is there."""
    known = set(FAILURES) | NOT_OF_A_CALL
    assert sorted(kind.__qualname__ for kind in exceptions_of(module) - known) == []


NOT_OF_A_CALL: set[type[BaseException]] = {
    aiohttp.EofStream,  # a signal between the parts of aiohttp
    aiohttp.WebSocketError,
}


def test_everything_that_httpx_aiohttp_translates_is_in_the_table() -> None:
    for ours, theirs in httpx_aiohttp.transport.AIOHTTP_EXC_MAP.items():
        assert {ours, theirs} <= set(FAILURES)


@pytest.mark.parametrize("kind", FAILURES, ids=lambda kind: kind.__qualname__)
@pytest.mark.parametrize("stage", Stage)
def test_nothing_left_only_where_table_and_connector_agree(kind: type[BaseException], stage: Stage) -> None:
    exc = kind.__new__(kind)
    exc.args = ()
    if isinstance(exc, aiohttp.ClientConnectorError):
        exc._os_error = OSError()
    assert isinstance(exc, Exception)
    reply = failed(exc, Call(stage), PEER)
    agreed = stage is Stage.BUILDING or (FAILURES[kind].early and stage is Stage.CONNECTING)
    assert reply.sent is not agreed
    assert "{" not in reply.reason


def test_an_unknown_exception_counts_as_sent_even_while_connecting() -> None:
    class Novelty(Exception):  # noqa: N818
        pass

    reply = failed(Novelty("secret"), Call(Stage.CONNECTING), PEER)
    assert reply.sent
    assert reply.reason == "the call to cloud.example:443 failed (Novelty)"


def test_an_address_of_version_6_is_shown_in_brackets() -> None:
    assert str(Peer("::1", 80, timeout=1, connect_timeout=1)) == "[::1]:80"


def test_a_call_never_steps_back() -> None:
    call = Call()
    for stage in (Stage.CONNECTED, Stage.CONNECTING):
        call.reached(stage)
    assert call.stage is Stage.CONNECTED
