"""Every bad input is refused with exit code 2 and its path named, and reaches neither Redis nor the API."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bad_input_corpus import BadInput, bad_inputs
from launchq.cli import main

CORPUS = list(bad_inputs())


def test_the_corpus_is_large_enough() -> None:
    assert len({bad.id for bad in CORPUS}) >= 150


@pytest.fixture(scope="module")
def trap() -> Iterator[socket.socket]:
    """Stands for both Redis and the API: whoever knocks here has let bad input through."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize("command", ["plan", "submit"])
@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.id)
def test_a_bad_input_is_refused(
    bad: BadInput,
    command: str,
    trap: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: object,
) -> None:
    port = trap.getsockname()[1]
    monkeypatch.setenv("LAUNCHQ_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    monkeypatch.setenv("LAUNCHQ_API_URL", f"http://127.0.0.1:{port}/api")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(bad.text)))
    with pytest.raises(SystemExit) as ended:
        main([command, "-", "--json"])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    problems = json.loads(out)["error"]["problems"]
    paths = {problem["path"] for problem in problems}
    assert set(bad.expected_paths) <= paths, (problems, err)
    with pytest.raises(BlockingIOError):
        trap.accept()


def test_people_read_every_problem_with_its_path_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sys.stdin",
        SimpleNamespace(
            buffer=io.BytesIO(b'{"name": "", "billing": {"chargeMode": "perhour", "duration": 1}}')
        ),
    )
    with pytest.raises(SystemExit) as ended:
        main(["submit", "-"])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    for path in ("name", "billing.chargeMode", "imageId", "nodePorts"):
        assert f"{path}: " in err
    assert "Nothing was launched" in err
