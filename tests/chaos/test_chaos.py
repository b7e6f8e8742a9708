"""The short run of the chaos harness, and whether the harness itself can be trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import chaos.__main__ as command
from chaos.plan import FAULT_MIX, Kind, Plan
from chaos.run import Blows, Result, run
from chaos.tally import Record, Tally, count
from tasks.states import State

SHORT = Plan(
    jobs=150,
    workers=2,
    concurrency=4,
    kill_every=1.0,
    kill_for=7.0,
    latency=0.3,
    request_timeout=1.0,
    verify_delays="0.5,1,2",
    hard_end=90.0,
)

KNOWS_HOW_TO_VERIFY = hasattr(State, "VERIFYING")
"""Before there was verification, every unknown end was `uncertain`."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("names", ["unique", "exact"])
def test_under_fire_nothing_is_lost_and_nothing_is_bought_twice(names: str) -> None:
    result = run("launchq", names, SHORT)
    seen = json.dumps(result.document(), indent=1)
    bound = result.uncertain_at_most if KNOWS_HOW_TO_VERIFY else None
    broken = result.tally.broken(uncertain_at_most=bound)
    assert broken == [], f"{broken}\n{seen}"
    # It proves nothing where nothing was under fire.
    assert result.tally.asked == SHORT.jobs, seen
    assert result.blows.workers_killed >= 4, seen
    assert result.blows.redis_killed == 1, seen
    assert result.blows.workers_ended == 0, seen
    assert result.faults_met >= 0.2 * result.cloud["creates"], seen
    assert result.cloud["logins"]["ok"] >= 2, seen


@pytest.mark.timeout(120)
def test_plain_celery_buys_twice_where_an_answer_is_lost() -> None:
    """The comparison works, and the harness sees what it is there to see."""
    plan = replace(SHORT, jobs=10, workers=1, faults=0.3, kill_every=0, redis_kills=0)
    result = run("celery", "exact", plan)
    seen = json.dumps(result.document(), indent=1)
    assert not result.timed_out, seen
    assert result.tally.succeeded == 10, seen
    assert result.tally.twice, seen
    assert not result.tally.lost, seen


def test_a_plan_repeats_with_its_seed_and_another_seed_makes_another() -> None:
    assert Plan(seed=3).strikes() == Plan(seed=3).strikes() != Plan(seed=4).strikes()
    strikes = Plan(redis_kills=2).strikes()
    assert strikes == sorted(strikes)
    kills = [strike for strike in strikes if strike.kind is Kind.WORKER]
    assert 30 <= len(kills) <= 50  # one every 1.5 s for 60 s
    assert {strike.place for strike in kills} == {0, 1, 2}
    of_redis = [strike.kind for strike in strikes if strike.kind is not Kind.WORKER]
    assert of_redis == [Kind.REDIS, Kind.REDIS_BACK] * 2
    assert Plan(kill_every=0, redis_kills=0).strikes() == []


def test_fault_rates_add_up_and_hangs_outlast_the_timeout() -> None:
    plan = Plan(request_timeout=2)
    assert sum(plan.create_fault_rates().values()) == pytest.approx(0.3)
    assert sum(plan.list_fault_rates().values()) == pytest.approx(0.05)
    assert len(plan.create_fault_rates()) == len(FAULT_MIX)
    hangs = [float(fault.partition(":")[2]) for fault in plan.create_fault_rates() if "hang" in fault]
    assert len(hangs) == 2
    assert min(hangs) > plan.request_timeout


@pytest.mark.parametrize(
    ("subject", "names", "expected"),
    [
        ("both", "both", [("launchq", "unique"), ("launchq", "exact"), ("celery", "exact")]),
        ("launchq", "same", [("launchq", "same")]),
        ("celery", "unique", [("celery", "exact")]),
    ],
)
def test_plain_celery_runs_with_exact_names_only(
    subject: str, names: str, expected: list[tuple[str, str]]
) -> None:
    assert command.runs(subject, names) == expected


@pytest.mark.parametrize(
    ("subject", "names", "records", "code"),
    [
        ("launchq", "unique", [Record("a", "succeeded", "i-a")], 0),
        ("launchq", "unique", [Record("a", "succeeded", None)], 1),
        ("launchq", "unique", [Record("a", "uncertain")], 1),
        ("launchq", "exact", [Record("a", "uncertain")], 0),
        ("celery", "exact", [Record("a", "succeeded", None)], 0),
    ],
)
def test_the_exit_code_says_whether_launchq_kept_its_promise(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    subject: str,
    names: str,
    records: list[Record],
    code: int,
) -> None:
    def made_up(which: str, names: str, plan: Plan, progress: Any, *, logs: Any) -> Result:
        cloud = {"creates": 1, "calls": {}, "logins": {"ok": 1}}
        tally: Tally = count(records, [{"instanceId": "i-a", "name": "a"}])
        return Result(which, names, plan, tally, Blows(), 1.0, False, 0, cloud)

    monkeypatch.setattr(command, "run", made_up)
    target = tmp_path / "new" / "figures.json"
    arguments = ["--subject", subject, "--names", names, "--seed", "5", "--json", str(target)]
    ran = CliRunner().invoke(command.main, arguments)
    assert ran.exit_code == code, ran.output
    assert "jobs LOST\t" in ran.output
    [document] = json.loads(target.read_text(encoding="utf-8"))
    assert (document["subject"], document["names"], document["plan"]["seed"]) == (subject, names, 5)
