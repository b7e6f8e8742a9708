"""What others can see of a launch: one trace from the caller to the note of its end, metrics, and logs that programs read."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from config import SettingsError, traces
from harness import ROOT, World, body, wait_until
from ledger.measures import CALL, Tally
from notice_receiver import Receiver
from sandbox.redis_server import RedisServer
from tasks.states import State

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def spans(receiver: Receiver) -> dict[str, tuple[str, str, str]]:
    """Name -> trace, id and parent of each span that has arrived."""
    found = {}
    for arrived in receiver.arrived:
        request = ExportTraceServiceRequest.FromString(arrived.content)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    found[span.name] = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    return found


def test_a_launch_over_http_is_one_trace_is_measured_and_is_logged_as_json(redis: RedisServer) -> None:
    script = {"enableCommonData": False, "enableDocker": False, "initScript": "password=hunter2"}
    given = body("traced", instanceConfiguration=script)
    quick = {"OTEL_BSP_SCHEDULE_DELAY": "50", "PYTHONWARNINGS": "ignore"}  # Celery warns root
    with Receiver() as collector, World(redis, log_format="json") as world:
        assert world.launcher  # made before: this process does not trace, nor do the tests after this one
        world.set(traces=f"http://127.0.0.1:{collector.port}")
        worker = world.worker(processes=1, variables=quick)
        board = world.worker(command=["-m", "launchq", "board", "--port", "0"], variables=quick, ready=False)
        address = wait_until(lambda: re.search(r"http://\S+", board.log()), description="the board")[0]
        answer = httpx.post(
            f"{address}/api/v1/submit", json=given, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"}
        )
        world.wait_for(answer.json()["jobs"][0]["id"], State.SUCCEEDED)
        wait_until(
            lambda: (
                {"launchq.submit", "launchq.attempt", "launchq.settle", "POST /api/v1/submit"}
                <= spans(collector).keys()
            ),
            description="the spans",
        )
        found = spans(collector)
        of_http, of_submit = found["POST /api/v1/submit"], found["launchq.submit"]
        of_attempt, of_settle = found["launchq.attempt"], found["launchq.settle"]
        assert {one[0] for one in (of_http, of_submit, of_attempt, of_settle)} == {TRACE}
        assert [one[2] for one in (of_http, of_submit, of_attempt, of_settle)] == [
            CALLER,
            of_http[1],
            of_submit[1],
            of_attempt[1],
        ]
        assert not any(b"hunter2" in arrived.content for arrived in collector.arrived)

        def measured() -> str:
            return httpx.get(f"{address}/metrics").text

        wait_until(
            lambda: (
                "launchq_create_call_seconds_count 1.0" in measured()
                and "launchq_shift_calls_count" in measured()
            ),
            description="what the shift has measured",
        )
        lines = [json.loads(line) for line in worker.log().splitlines()]
        assert {"time", "level", "logger", "process", "message"} <= lines[0].keys()
        assert any("ready" in line["message"] for line in lines)


PRODUCER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from launchq import Launcher
import json, sys
trace.set_tracer_provider(TracerProvider())
with trace.get_tracer("mine").start_as_current_span("order") as span, Launcher() as launcher:
    job = launcher.submit(json.loads(sys.argv[1]))
    print(job.id, format(span.get_span_context().trace_id, "032x"))
"""


def test_a_producer_that_traces_by_itself_needs_no_setting(redis: RedisServer) -> None:
    with World(redis) as world:
        arguments = [sys.executable, "-c", PRODUCER, json.dumps(body())]
        done = subprocess.run(
            arguments,
            check=False,
            env=world.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        job_id, trace_id = done.stdout.split()
        place = world.launcher.ledger.redis.get(world.launcher.ledger.keys.trace(job_id))
        assert str(place).split("-")[1] == trace_id


def test_without_the_extra_a_setting_that_wants_traces_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traces, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match="launchq\\[otel\\]"):
        traces.must_be_there("http://127.0.0.1:4318")
    traces.must_be_there("")


def test_buckets_add_up_and_the_sum_is_kept() -> None:
    tally = Tally()
    for value in (0.05, 0.3, 99.0):
        tally.add(CALL, value)
    buckets, total = CALL.read({field: str(by) for field, by in tally.take().items()})
    assert dict(buckets) == {"0.05": 1, "0.1": 1, "0.25": 1} | dict.fromkeys(
        ("0.5", "1", "2.5", "5", "10", "30", "60"), 2
    ) | {"+Inf": 3}
    assert total == pytest.approx(99.35)
    assert tally.take() == {}
