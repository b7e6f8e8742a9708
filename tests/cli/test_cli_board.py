"""`launchq board`, its tokens, and the board beside a demo: as processes, from the first line to a clean end."""

from __future__ import annotations

import re
import signal

import httpx
import psutil

from harness import Worker, World, wait_until
from sandbox.redis_server import RedisServer


def address(process: Worker) -> str:
    """Where a board says that it is."""
    found = wait_until(
        lambda: re.search(r"board: (http://\S+)", process.log()) or process.ended, description="the board"
    )
    assert not process.ended, process.log()
    return str(found[1])


def test_a_token_lets_in_until_it_is_removed_and_the_board_ends_at_sigterm(redis: RedisServer) -> None:
    with World(redis) as world:
        made = world.run("board", "token", "add", "reader", "--read-only", "--json")
        assert (made.code, made.document["readOnly"]) == (0, True)
        headers = {"Authorization": f"Bearer {made.document['token']}"}
        assert world.run("board", "token", "add", "reader").code == 2, "the name is taken"
        listed = world.run("board", "token", "list", "--json")
        assert [one["name"] for one in listed.document["tokens"]] == ["reader"]
        assert made.document["token"] not in listed.out
        board = world.worker(
            command=["-m", "launchq", "board", "--port", "0", "--require-token"], ready=False
        )
        url = f"{address(board)}/api/v1/account"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers=headers).status_code == 200
        assert world.run("board", "token", "remove", "reader").code == 0
        assert httpx.get(url, headers=headers).status_code == 401
        assert world.run("board", "token", "remove", "reader").code == 2
        board.signal(signal.SIGTERM)
        assert board.wait(10) == 0


def test_a_demo_with_the_board_shows_a_fleet_under_way_and_leaves_nothing_behind(redis: RedisServer) -> None:
    with World(redis) as world:
        demo = world.worker(command=["-m", "launchq", "demo", "--board"], ready=False)
        url = address(demo)

        def fleet() -> dict[str, int]:
            batches = httpx.get(f"{url}/api/v1/batches").json()["batches"]
            return dict(batches[0]["counts"]) if batches else {}

        counts = wait_until(
            lambda: (seen := fleet()).get("succeeded", 0) >= 2 and seen, description="launches"
        )
        assert counts["queued"] > 5, "it is over before anybody has opened the page"
        children = [psutil.Process(pid) for pid in demo.children()]
        assert len(children) > 3
        demo.signal(signal.SIGINT)
        demo.wait(30)
        assert not [child for child in children if child.is_running()]
