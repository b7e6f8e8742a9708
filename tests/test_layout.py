"""The layout: who imports whom, what is loaded when, and who reads the environment."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from sandbox.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT: dict[str, set[str]] = {
    "config": set(),
    "tasks": set(),
    "sandbox": set(),
    "ledger": {"tasks"},
    "worker": {"tasks", "ledger", "config"},
    "launchq": {"tasks", "ledger", "config", "worker", "sandbox"},
}
"""Package -> the packages of ours that it may import beside itself."""

PURE = {"tasks"}
"""Packages with no I/O, no clock and no randomness of their own."""
NOT_PURE = {
    "asyncio",
    "http",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
}

READS_THE_ENVIRONMENT = {
    "config/settings.py": "the one reader of LAUNCHQ_*",
    "launchq/cli/local.py": "starts child processes, and gives them their environment",
    "launchq/cli/demo.py": "becomes a client of the world that it has started",
    "sandbox/process.py": "starts a child process that must find this package; reads no setting",
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


ALL = [path for package in MAY_IMPORT for path in modules(package)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """The dotted names of all modules that a module imports, anywhere in it, also for types only."""
    names: set[str] = set()
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            names.add(".".join(part for part in (base, node.module) if part))
    return names


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_every_package_has_modules_and_every_module_a_rule() -> None:
    assert all(modules(package) for package in MAY_IMPORT)
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(shipped["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(MAY_IMPORT)


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = top(imported(path)) & {*MAY_IMPORT, "bench", "docs", "examples", "tests"}
    assert ours - {package} <= MAY_IMPORT[package]


@pytest.mark.parametrize(
    "path", [path for path in ALL if path.relative_to(ROOT).parts[0] in PURE], ids=name_of
)
def test_what_is_pure_has_no_clock_no_dice_and_no_files(path: Path) -> None:
    assert not top(imported(path)) & NOT_PURE
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not called & {
        "open",
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "date.today",
        "print",
        "input",
    }


def test_no_module_bears_the_name_of_a_library_or_says_nothing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for many in project["optional-dependencies"].values() for one in many),
    ]
    named = {required(line).lower().replace("-", "_") for line in wanted}
    assert {"celery", "redis", "httpx"} <= named
    under_another_name = {"kombu", "billiard", "dotenv", "jwt", "yaml", "pydantic_core", "valkey"}
    says_nothing = {"utils", "util", "common", "helpers", "helper", "misc", "shared", "base", "core", "lib"}
    forbidden = named | under_another_name | says_nothing | set(sys.stdlib_module_names) - {"__main__"}
    for path in ALL:
        parts = path.relative_to(ROOT).with_suffix("").parts
        assert not {part.lower() for part in parts if not part.startswith("__")} & forbidden, name_of(path)


def required(requirement: str) -> str:
    """`celery` of `celery[redis]>=5.6,<6`."""
    end = next(
        (at for at, letter in enumerate(requirement) if not (letter.isalnum() or letter in "-_.")), None
    )
    return requirement[:end]


def test_no_two_test_files_share_a_name() -> None:
    """The folders of tests are no packages, so equal names would hide one another."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
    assert not list((ROOT / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_only_settings_read_the_environment(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    reads = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"}
    }
    from_os = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "os"
        for alias in node.names
    }
    found = {read for read in reads if read.startswith("os.")} | from_os & {
        "environ",
        "environb",
        "getenv",
        "getenvb",
    }
    # An allowance that nothing needs any more is to be taken back.
    assert bool(found) == (name_of(path) in READS_THE_ENVIRONMENT)


def loaded_after(code: str, environment: dict[str, str] | None = None) -> set[str]:
    """The modules that a fresh interpreter has loaded after running this code, as the first parts of their names."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAUNCHQ_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**clean, "PYTHONPATH": str(ROOT), **(environment or {})},
        cwd=tempfile.gettempdir(),  # where no .env is
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


HTTP = {"httpx", "httpcore", "aiohttp", "httpx_aiohttp"}


class TestWhatIsLoaded:
    def test_importing_launchq_loads_next_to_nothing(self) -> None:
        assert not loaded_after("import launchq") & {
            *HTTP,
            "celery",
            "kombu",
            "rich",
            "redis",
            "pydantic",
            "click",
        }

    def test_a_launcher_needs_neither_http_nor_celery(self) -> None:
        loaded = loaded_after("from launchq import Launcher\nLauncher().close()")
        assert "redis" in loaded
        assert not loaded & {*HTTP, "celery", "kombu", "rich", "click", "worker", "sandbox"}

    def test_everything_that_it_names_can_be_had(self) -> None:
        code = "import launchq\nfor name in launchq.__all__: assert getattr(launchq, name).__name__ == name"
        assert not loaded_after(code) & {*HTTP, "celery", "rich"}

    def test_an_unknown_name_is_an_error_as_everywhere(self) -> None:
        import launchq

        with pytest.raises(AttributeError, match="Nothing"):
            _ = launchq.Nothing

    @pytest.mark.parametrize("command", ["list", "status", "events", "cancel x", "retry x"])
    def test_reading_and_acting_load_little(self, command: str, redis: RedisServer) -> None:
        code = (
            "import io, sys\nfrom contextlib import redirect_stdout\nfrom launchq.cli import main\n"
            "try:\n    with redirect_stdout(io.StringIO()):\n"
            f"        main({command.split()!r} + ['--json'])\nexcept SystemExit: pass"
        )
        environment = {"LAUNCHQ_REDIS_URL": redis.url, "LAUNCHQ_PREFIX": "t-layout"}
        loaded = loaded_after(code, environment)
        assert {"redis", "click"} <= loaded
        assert not loaded & {*HTTP, "celery", "sandbox", "pydantic", "rich", "yaml"}

    @pytest.mark.parametrize(
        "module",
        ["launchq.cli", "launchq.cli.output", "launchq.cli.read", "launchq.cli.act", "launchq.cli.follow"],
    )
    def test_nor_does_any_module_of_theirs(self, module: str) -> None:
        assert not loaded_after(f"import {module}") & {*HTTP, "celery", "sandbox"}

    def test_the_worker_app_waits_with_its_settings_and_its_http_client(self) -> None:
        """Celery's own command imports the app before anything is known to be in order."""
        loaded = loaded_after("import worker", {"LAUNCHQ_PREFIX": "not a prefix"})
        assert "celery" in loaded
        assert not loaded & {*HTTP, "rich"}

    def test_a_worker_checks_no_requests_and_does_not_load_what_does(self) -> None:
        modules = "shift, app, pulse, stock, notices, timetable, lookup, doorway"
        assert "pydantic" not in loaded_after(f"from worker import {modules}")

    def test_nothing_is_traced_where_nobody_asks_for_it(self) -> None:
        """redis-py loads OpenTelemetry by itself where it is installed; we do not, and that alone sends nothing."""
        modules = "worker.shift, worker.app, launchq.board.app, config.traces"
        loaded_after(f"import {modules}\nassert not config.traces.active()")
        assert "opentelemetry" not in loaded_after("import config.traces; config.traces.begin('', 'x')")

    def test_what_is_remembered_and_what_is_pure_stand_alone(self) -> None:
        assert not loaded_after("import tasks.states, tasks.verdicts, tasks.retry, tasks.jobs") & (
            {*HTTP, "celery", "redis", *MAY_IMPORT} - {"tasks"}
        )
        assert not loaded_after("import ledger") & ({*HTTP, "celery", *MAY_IMPORT} - {"tasks", "ledger"})
