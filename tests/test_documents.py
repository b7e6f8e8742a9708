"""The documents say what the code does: tables are compared, commands and examples are run."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from config import Settings, load
from harness import ROOT, World, body, wait_until
from launchq.cli import group
from ledger.keys import NAMES
from tasks.states import State, markdown_table

READMES = ("README.md", "README.zh-CN.md")
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "examples/*", ".env.example")
    for path in ROOT.glob(pattern)
    if path.is_file()
)
INPUTS = ("body.json", "bodies.jsonl", "request.curl", "fleet.yaml", "fleet.csv")
VARIABLES = {f"LAUNCHQ_{one.name.upper()}" for one in fields(Settings)}


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(document), re.MULTILINE | re.DOTALL)


def commands(parent: click.Context) -> Iterator[str]:
    """Every command that does something by itself, as it is called."""
    assert isinstance(parent.command, click.Group)
    for name in parent.command.list_commands(parent):
        command = parent.command.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent)
        if isinstance(command, click.Group):
            yield from commands(context)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield context.command_path


COMMANDS = sorted(commands(click.Context(group, info_name="launchq")))


def test_the_table_of_states_is_the_one_in_the_code() -> None:
    shown = re.search(r"<!-- states -->\n(.*?)\n<!-- /states -->", text("docs/design.md"), re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == markdown_table()


def test_the_command_reference_is_the_one_made_from_the_commands() -> None:
    spec = importlib.util.spec_from_file_location("make_commands", ROOT / "docs/make_commands.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert text("docs/commands.md") == maker.document(), "run: python docs/make_commands.py"


@pytest.mark.parametrize("readme", READMES)
def test_every_command_is_in_the_readme_and_no_other(readme: str) -> None:
    shown = set(
        re.findall(
            r"`(launchq [a-z]+(?: (?:set-token|status|new-key|test|token [a-z]+|(?<=schedule )[a-z]+)\b)?)",
            text(readme),
        )
    )
    assert not set(COMMANDS) - shown
    assert not {name for name in shown if name not in COMMANDS and not name.startswith("launchq auth")}


@pytest.mark.parametrize("document", [*READMES, ".env.example"])
def test_every_setting_is_documented_and_no_other(document: str) -> None:
    shown = set(re.findall(r"LAUNCHQ_[A-Z_]+[A-Z]", text(document))) - {"LAUNCHQ_X", "LAUNCHQ_X_FILE"}
    assert {name.removesuffix("_FILE") if name not in VARIABLES else name for name in shown} == VARIABLES


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_names_a_setting_that_does_not_exist(document: str) -> None:
    shown = set(re.findall(r"LAUNCHQ_[A-Z_]+[A-Z]", text(document))) - {"LAUNCHQ_X", "LAUNCHQ_X_FILE"}
    assert not {
        name for name in shown if name not in VARIABLES and name.removesuffix("_FILE") not in VARIABLES
    }


def test_the_defaults_in_the_example_of_env_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES | {f"{name}_FILE" for name in VARIABLES}:
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / ".env"
    file.write_text(
        re.sub(r"^# (LAUNCHQ_\w+=(?!/path))", r"\1", text(".env.example"), flags=re.MULTILINE),
        encoding="utf-8",
    )
    assert file.read_text(encoding="utf-8").count("\nLAUNCHQ_") == len(VARIABLES)
    assert load(env_file=file) == Settings()


@pytest.mark.parametrize("readme", READMES)
def test_the_defaults_in_the_readme_are_the_defaults(readme: str) -> None:
    shown: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`LAUNCHQ_[^|]*) \|([^|]*)\|", text(readme), re.MULTILINE):
        values = re.split(r", |、", defaults.strip())
        for place, name in enumerate(re.findall(r"LAUNCHQ_\w+", names)):
            shown[name] = values[place if len(values) > 1 else 0].strip("`")
    assert shown.keys() == VARIABLES
    assert shown.pop("LAUNCHQ_BROKER_URL") in {"the ledger's", "同上"}
    assert load(shown) == Settings()


def test_every_key_of_the_ledger_is_documented() -> None:
    table = re.findall(r"^\| `\{launchq\}:([a-z]+:?)", text("docs/redis.md"), re.MULTILINE)
    assert sorted(table) == sorted(NAMES.values())


def test_every_state_is_documented_for_pollers() -> None:
    assert not {state for state in State if f"`{state}`" not in text("docs/redis.md")}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    named = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    reasons = re.findall(r"^\| `([\w-]+)` \| \S", text("docs/dependencies.md"), re.MULTILINE)
    assert sorted(reasons) == sorted({Requirement(one).name for one in named})


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document.endswith(".md")])
def test_every_link_leads_somewhere(document: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", text(document), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?://", target):
            continue
        name, _, heading = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, (
                target
            )


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_knows_the_machine_it_was_written_on(document: str) -> None:
    found = re.search(
        r"(?<![\w.}])/(work|home|Users|tmp|opt)/|pypi|registry\.|index-url|\bToDo\b|\bTODO\b", text(document)
    )
    assert found is None, found


def test_the_readmes_show_the_same_blocks() -> None:
    """What is run and what is printed does not depend on the language; only comments do."""
    english, chinese = (
        [
            re.sub(r" *#.*", "", block)
            for block in re.findall(r"^```.*?^```$", text(readme), re.MULTILINE | re.DOTALL)
        ]
        for readme in READMES
    )
    assert english == chinese


PYTHON = [(document, number) for document in DOCUMENTS for number, _ in enumerate(blocks(document, "python"))]


@pytest.mark.parametrize(("document", "number"), PYTHON)
def test_python_in_documents_compiles_and_imports_what_exists(document: str, number: int) -> None:
    for node in ast.walk(ast.parse(blocks(document, "python")[number])):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.parametrize("name", INPUTS)
def test_every_example_of_an_input_can_be_planned(name: str) -> None:
    run(
        "launchq",
        "plan",
        str(ROOT / "examples" / name),
        "--json",
        variables={"LAUNCHQ_REDIS_URL": "redis://127.0.0.1:1/0"},
    )


def test_the_example_of_the_demo_and_the_one_to_copy_are_the_same() -> None:
    assert text("examples/body.json") == text("launchq/example.json")


@pytest.fixture(scope="module")
def live() -> Iterator[World]:
    """A world in which what the documents show can be run: with a Redis of its own, under the default prefix."""
    with World() as world:
        world.prefix = "launchq"
        world.set(prefix="launchq")
        world.worker(processes=1)
        shutil.copy(ROOT / "examples/body.json", world.folder)
        yield world


def run(*command: str, variables: dict[str, str], folder: Path = ROOT, code: int = 0) -> str:
    """What a program prints; fails where it ends with another exit code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAUNCHQ_")}
    program = {"launchq": [sys.executable, "-m", "launchq"], "python": [sys.executable]}.get(
        command[0], [command[0]]
    )
    done = subprocess.run(
        [*program, *command[1:]],
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_python_door_of_the_readme_launches(live: World) -> None:
    [door, _] = blocks("README.md", "python")
    printed = run("python", "-c", door, variables=live.variables, folder=live.folder)
    assert re.fullmatch(r"succeeded notebook-\S+ None\n", printed)


def test_the_celery_door_of_the_readme_enters_a_job_under_its_task_id(live: World) -> None:
    [_, door] = blocks("README.md", "python")
    here = door.replace("redis://127.0.0.1:6379/0", live.redis.url)
    task_id = run("python", "-c", here, variables=live.variables, folder=live.folder).strip()
    live.wait_for(task_id, State.SUCCEEDED)
    assert live.launcher.ledger.redis.get("{launchq}:key:order-4712") == task_id


def test_the_example_of_the_python_door_launches_once_however_often_it_runs(live: World) -> None:
    example = str(ROOT / "examples/submit_and_wait.py")
    first, again = (
        run(
            "python", example, "body.json", "example-1", variables=live.variables, folder=live.folder
        ).splitlines()[-1]
        for _ in range(2)
    )
    assert first == again
    assert first.startswith("notebook-")


def test_the_example_of_the_celery_door_and_the_poller_work_together(live: World) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("there is no redis-cli on this machine")
    variables = {**live.variables, "LAUNCHQ_BROKER_URL": live.redis.url}
    example = str(ROOT / "examples/celery_producer.py")
    task_id = run(
        "python", example, "body.json", "example-2", variables=variables, folder=live.folder
    ).strip()
    # Until a worker has read the message there is no such job, and the poller says so.
    job_key = f"{{launchq}}:job:{task_id}"
    wait_until(lambda: live.launcher.ledger.redis.exists(job_key), description=f"{task_id} is entered")
    state, instance_id, *_ = run(
        "sh", str(ROOT / "examples/poll.sh"), task_id, variables=variables
    ).splitlines()
    assert (state, instance_id) == ("succeeded", live.job(task_id).instance_id)


def test_the_pollers_of_the_redis_page_read_what_is_there(live: World) -> None:
    job = live.launcher.submit(body(), key="redis-page")
    [job] = live.launcher.wait([job.id], timeout=30)
    poll, follow = blocks("docs/redis.md", "python")
    here = f"redis.Redis.from_url({live.redis.url!r}, "
    poll = poll.replace("redis.Redis(", here).replace("bc17eb4f-c15a-4748-b7df-149a73ab18c7", job.id)
    printed = run("python", "-c", f"{poll}\nprint(state, instance_id, message)", variables={})
    assert printed == f"succeeded {job.instance_id} None\n"
    # From the beginning instead of from now, so that there is something to read at once.
    from_now = 'last = next((event for event, _ in r.xrevrange("{launchq}:events", count=1)), "0-0")'
    assert from_now in follow
    follow = follow.replace("redis.Redis(", here).replace(from_now, 'last = "0-0"')
    assert f"{job.id} succeeded {job.instance_id}" in run("python", "-c", follow, variables={})
