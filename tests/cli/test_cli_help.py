"""`--help` is read at once: it loads no command, and says of each what the command says of itself."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from launchq.cli import COMMANDS, group

HEAVY = {"pydantic", "redis", "celery", "httpx", "yaml", "rich", "cryptography", "asyncio"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_each_command_is_its_own(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert COMMANDS[name][1] == command.get_short_help_str(1000)


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_it_loads_nothing_heavy(words: list[str]) -> None:
    script = f"""
import sys
from launchq.cli import main
try:
    main({words!r})
except SystemExit as exit:
    assert not exit.code
import json
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert not HEAVY & {name.partition(".")[0] for name in json.loads(done.stderr)}
    assert "launchq" in done.stdout
