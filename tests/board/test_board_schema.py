"""The OpenAPI document is kept to: schemathesis makes requests of it, right and wrong, and judges every answer by it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import schemathesis
from board_world import Served
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from harness import body
from ledger_box import report
from tasks.states import Event

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = 30
"""Requests of each kind, right and wrong, for each operation."""


@pytest.fixture(scope="module")
def known(board: Served) -> dict[str, list[str]]:
    """Ids that exist: of jobs and batches that have ended, so that nobody waits for long."""
    ids = board.submit("s-1", "s-2", "s-3", batch="known")
    board.box.settle(report(board.box.take(), Event.CREATE))
    board.box.settle(report(board.box.take(), Event.FAIL, category="rejected", message="不"))
    board.launcher.cancel(["known"])
    put = board.client.put("/api/v1/schedules/nightly", params={"cron": "0 2 * * *"}, json=body("s-4"))
    assert put.status_code == 201
    return {"job_id": ids, "batch_id": ["known"], "name": ["nightly"]}


def operations(board: Served) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{board.url}/api/v1/openapi.json")
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    return [result.ok() for result in schema.get_all_operations()]


def ask(operation: Any, mode: GenerationMode, known: dict[str, list[str]]) -> int:
    """Ask for it in many ways, and judge the answers; how often."""
    turns = {name: itertools.cycle([*ids, None]) for name, ids in known.items()}
    asked = 0

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def once(case: Case) -> None:
        nonlocal asked
        asked += 1
        for name in case.path_parameters.keys() & turns.keys():
            if (one := next(turns[name])) is not None:  # every now and then one that does not exist
                case.path_parameters[name] = one
        if operation.path.endswith("/wait") and not isinstance(case.query.get("timeout", 0.0), str):
            case.query["timeout"] = 0.05  # what was retried has not ended
        case.call_and_validate(checks=CHECKS)

    once()
    return asked


def test_no_request_finds_a_500_or_an_answer_outside_its_schema(
    board: Served, known: dict[str, list[str]]
) -> None:
    asked = sum(
        ask(operation, mode, known)
        for operation in operations(board)
        if operation.path != "/api/v1/events"  # has no end; test_board_api has it
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    )
    assert asked > 150
    # The board is none the worse for it.
    assert board.post("/api/v1/account/resume").status_code == 200
    board.launcher.cancel(board.submit("after-all"))


def test_every_operation_says_what_it_is_and_which_errors_it_has(board: Served) -> None:
    document = board.get("/api/v1/openapi.json").json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert {"401", "422", "503"} <= operation["responses"].keys(), path
            assert "application/problem+json" in operation["responses"]["422"]["content"]
    assert {"ProblemDocument", "JobDocument", "BatchDocument", "EventDocument"} <= document["components"][
        "schemas"
    ].keys()
