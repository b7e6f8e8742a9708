"""What Prometheus is told: every metric that the dashboard shows is there, whatever the ledger holds."""

from __future__ import annotations

import json
import re
from typing import Any

from board_world import Served
from prometheus_client.parser import text_string_to_metric_families

from harness import ROOT
from ledger_box import report
from tasks.states import Event

DASHBOARD = ROOT / "docker/grafana/launchq.json"


def samples(board: Served) -> dict[tuple[str, ...], float]:
    """(name, label values ...) -> value, of everything that is exported."""
    families = text_string_to_metric_families(board.get("/metrics").text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def expressions() -> list[str]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_metric_and_label_of_the_dashboard_is_exported(board: Served) -> None:
    board.launcher.set_token("token-without-an-end")
    board.submit("m-1", "m-2", batch="measured")
    board.box.settle(report(board.box.take(), Event.FAIL, category="rejected", message="no"))
    board.box.redis.hset(board.box.keys.token, "expiresAt", str(board.box.now() + 60_000))
    families = list(text_string_to_metric_families(board.get("/metrics").text))
    names = {sample.name for family in families for sample in family.samples}
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    for expression in expressions():
        assert set(re.findall(r"launchq_\w+", expression)) <= names, expression
        assert set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", expression)) <= labels, expression
    board.launcher.cancel(["measured"])


def test_metrics_say_how_things_stand(board: Served) -> None:
    before = samples(board)
    [job_id] = board.submit("counted")
    assert samples(board)["launchq_jobs", "queued"] == before["launchq_jobs", "queued"] + 1
    board.box.settle(report(board.box.take(), Event.CREATE))
    found = samples(board)
    assert found["launchq_jobs", "succeeded"] == before["launchq_jobs", "succeeded"] + 1
    created = ("launchq_moves_total", "", "create")  # labels by name: category, event
    assert found[created] == before.get(created, 0) + 1
    assert found["launchq_attempts_total",] == before["launchq_attempts_total",] + 1
    assert found["launchq_account_state", "open"] == 1
    board.launcher.pause()
    assert samples(board)["launchq_account_state", "paused"] == 1
    board.launcher.resume()
    assert job_id not in board.get("/metrics").text, "a label for each job would be one too many"
