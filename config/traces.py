"""Traces (OpenTelemetry), from a submission through each attempt to the note of how it ended.

Costs nothing, not even an import, unless `LAUNCHQ_TRACES` says where they go, or the process traces by itself already. A span's
place in its trace travels as text (`traceparent`, W3C Trace Context), beside the job. No span holds anything of a request.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from config.settings import SettingsError

SCOPE = "launchq"
FLUSH_SECONDS = 2.0
"""How long the end of a process waits for its last spans to be sent."""

_provider: Any = None


def must_be_there(endpoint: str) -> None:
    """SettingsError where traces are wanted and what they need is not installed."""
    if not endpoint:
        return
    try:
        there = find_spec("opentelemetry.exporter.otlp.proto.http") and find_spec("opentelemetry.sdk.trace")
    except ModuleNotFoundError:  # not even what these are in
        there = None
    if there is None:
        raise SettingsError("LAUNCHQ_TRACES takes what the extra `otel` brings: pip install 'launchq[otel]'")


def begin(endpoint: str, service: str) -> None:
    """Send this process' spans to that collector (OTLP over HTTP), under the name of a service; "" sends none.

    Where the process has a provider of its own, its spans go where that one says. The SDK's own variables (`OTEL_...`) hold too.
    """
    global _provider  # noqa: PLW0603 (one a process, as OpenTelemetry's own)
    if not endpoint or _provider is not None:
        return
    must_be_there(endpoint)
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        _provider = provider
        return
    _provider = TracerProvider(resource=Resource.create({"service.name": service}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(_provider)


def flush() -> None:
    """Send what is still waiting to be sent; for the end of a process."""
    if _provider is not None:
        _provider.force_flush(round(FLUSH_SECONDS * 1000))


def active() -> bool:
    """Whether spans may go anywhere."""
    if _provider is not None:
        return True
    sdk: Any = sys.modules.get(
        "opentelemetry.sdk.trace"
    )  # libraries load it, where it is installed: that alone says nothing
    if sdk is None:
        return False
    from opentelemetry import trace

    return isinstance(trace.get_tracer_provider(), sdk.TracerProvider)


class Span:
    """One span under way. `place` is where it stands, for what follows from it; "" where nothing is traced."""

    def __init__(self, span: Any = None) -> None:
        self._span = span
        self.place = _place_of(span) if span is not None else ""

    def set(self, **attributes: str | int) -> None:
        """Note attributes, under launchq's name."""
        if self._span is not None:
            self._span.set_attributes(_named(attributes))


@contextmanager
def span(name: str, parent: str = "", **attributes: str | int) -> Iterator[Span]:
    """A span around what is done inside; below `parent`, or else below what this process is doing."""
    if not active():
        yield Span()
        return
    from opentelemetry import trace

    tracer = trace.get_tracer(SCOPE)
    with tracer.start_as_current_span(
        name, context=_context(parent), attributes=_named(attributes), record_exception=False
    ) as made:
        yield Span(made)


def note(name: str, parent: str, began: int, **attributes: str | int) -> None:
    """A span from `began` (ns since 1970) until now."""
    if parent and active():
        from opentelemetry import trace

        tracer = trace.get_tracer(SCOPE)
        tracer.start_span(
            name, context=_context(parent), attributes=_named(attributes), start_time=began
        ).end()


def now() -> int:
    """This moment, as `note` takes it."""
    return time.time_ns()


def _named(attributes: Mapping[str, str | int]) -> dict[str, str | int]:
    return {f"launchq.{name}": value for name, value in attributes.items()}


def _context(parent: str) -> Any:
    if not parent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _place_of(span: Any) -> str:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", "")
