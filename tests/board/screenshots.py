"""Makes the pictures of the board in docs/images: `make screenshots`. A simulated cloud, a fleet in trouble, and Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright
from test_board_browser import QUIET, address_of

from harness import World, body, wait_until
from sandbox import CloudOptions

HERE, KIND = body()["region"], body()["instanceTypeId"]


def something_to_look_at(world: World) -> None:
    """A batch under way with two kinds of errors, one that waits for capacity, one for later, and two schedules."""
    world.cloud.set_capacity(HERE, KIND, 0, is_spot_instance=True)
    world.cloud.set_fault_rates({"message:镜像不存在": 0.03, "message:参数错误": 0.015})
    give = {"stdin": json.dumps(body("spot"))}
    world.run("submit", "-", "--count", "12", "--spot", "--batch", "spot-trainers", **give)
    world.run("submit", "-", "--at", "02:00", "--batch", "tonight", stdin=json.dumps(body("evaluation")))
    world.run("schedule", "add", "nightly", "-", "--cron", "0 2 * * *", stdin=json.dumps(body("evaluation")))
    world.run("schedule", "add", "weekdays", "-", "--cron", "0 8 * * 1-5", stdin=json.dumps(body("desk")))
    world.run(
        "submit",
        "-",
        "--count",
        "200",
        "--yes",
        "--batch",
        "nightly-training",
        stdin=json.dumps(body("trainer")),
    )


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cloud = CloudOptions(latency=0.4)
    with (
        World(cloud=cloud, capacity_interval="20s", rate_limit="25/s") as world,
        sync_playwright() as playwright,
    ):
        world.worker(processes=1)
        something_to_look_at(world)
        board = subprocess.Popen(
            [sys.executable, "-m", "launchq", "board", "--port", "0"],
            env=world.environment, cwd=world.folder, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            url = address_of(board)
            wait_until(
                lambda: (
                    sum(world.launcher.batch("nightly-training").counts.values())
                    and len(world.names_created()) > 110
                ),
                description="half of it is launched",
            )
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
            for name, path, size, options in (
                ("board-overview", "/", (1180, 860), {}),
                ("board-batch", "/batches/nightly-training", (1180, 820), {"color_scheme": "dark"}),
                ("board-phone", "/", (390, 800), {"locale": "zh-CN"}),
            ):
                page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **options)
                page.goto(url + path)
                time.sleep(1)  # for the connection's light
                page.screenshot(path=folder / f"{name}.jpg", type="jpeg", quality=80)
            browser.close()
        finally:
            board.terminate()
            board.communicate(timeout=20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
