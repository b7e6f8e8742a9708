"""The board in a real browser (Debian's Chromium): the flows of a person, live, and what an accessibility checker says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from harness import World, body, wait_until
from sandbox import CloudOptions
from tasks.states import State

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip(
        "there is no chromium: `make test` installs it where it may (Debian, root)", allow_module_level=True
    )

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""As root in a container, and without a word to anybody outside."""


def address_of(board: subprocess.Popen[str]) -> str:
    """Where a board answers, as it says itself."""
    assert board.stderr is not None
    for line in board.stderr:
        if found := re.search(r"http://\S+", line):
            return found.group(0).rstrip("/")
    raise AssertionError("the board ended")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[World, str]]:
    """A cloud, a worker and a board: `launchq board`, as a person starts it."""
    with World(cloud=CloudOptions(latency=0.05), verify_delays="0.1,0.2,0.3") as world:
        world.worker(processes=1)
        board = subprocess.Popen(
            [sys.executable, "-m", "launchq", "board", "--port", "0"],
            env=world.environment, cwd=world.folder, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield world, address_of(board)
        finally:
            board.terminate()
            board.communicate(timeout=20)


@pytest.fixture
def page(browser: Browser, place: tuple[World, str]) -> Iterator[Page]:
    """A browser of its own; nothing may go wrong in its console, such as a refusal by the page's own policy."""
    context = browser.new_context(base_url=place[1])
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_default_timeout(15_000)
    yield page
    context.close()
    assert [text for text in wrong if "409" not in text] == []


def test_a_pasted_body_is_planned_launched_and_watched_to_its_end(
    page: Page, place: tuple[World, str]
) -> None:
    page.goto("/")
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Text").fill(json.dumps(body("pasted")))
    page.get_by_label("Copies of each").fill("12")
    page.get_by_label(re.compile("^Batch")).fill("from-the-board")
    page.get_by_role("button", name="Show the plan").click()
    expect(page.get_by_role("heading", name="Plan: 12 would be launched")).to_be_visible()
    assert place[0].names_created() == []
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("heading", name="from-the-board")).to_be_visible()
    # Nobody reloads: the page does it by itself.
    expect(page.locator("#progress")).to_contain_text("12 of 12")
    expect(page.get_by_role("img", name=re.compile("Jobs over time"))).to_be_visible()
    assert len(place[0].names_created()) == 12


def test_what_failed_is_retried_from_its_message(page: Page, place: tuple[World, str]) -> None:
    world, _ = place
    world.cloud.script_faults("message:镜像不存在", times=1, name="r-01")
    world.cloud.script_faults("message:镜像不存在", times=1, name="r-02")
    world.run("submit", "-", "--count", "3", "--batch", "retried", "--wait", stdin=json.dumps(body("r")))
    assert world.launcher.batch("retried").counts[State.FAILED] == 2
    page.goto("/batches/retried")
    expect(page.locator("#errors")).to_contain_text("镜像不存在")
    page.get_by_role("button", name="Retry these").click()
    expect(page.locator("#progress")).to_contain_text("3 of 3")
    wait_until(
        lambda: world.launcher.batch("retried").counts[State.SUCCEEDED] == 3, description="all are there"
    )


def test_an_uncertain_job_is_resolved(page: Page, place: tuple[World, str]) -> None:
    world, _ = place
    world.cloud.set_fault_rates({"500": 1.0}, endpoint="list")
    world.cloud.script_faults("close-after", name="lost")
    job = world.launcher.submit(body("lost"))
    world.wait_for(job.id, State.UNCERTAIN)
    world.cloud.clear_faults()
    page.goto("/uncertain")
    expect(page.locator("article")).to_contain_text("closed the connection")
    page.get_by_label("Why").fill("looked in the console")
    page.get_by_role("button", name="No instance was created").click()
    wait_until(lambda: world.job(job.id).state is State.FAILED, description="it is resolved")


def test_a_job_is_cancelled_live_in_another_window(page: Page, place: tuple[World, str]) -> None:
    world, _ = place
    [job] = world.run("submit", "-", "--in", "1h", "--json", stdin=json.dumps(body("later"))).document["jobs"]
    page.goto(f"/jobs/{job['id']}")
    expect(page.locator("#now")).to_contain_text("scheduled")
    other = page.context.new_page()
    other.goto(f"/jobs/{job['id']}")
    other.get_by_role("button", name="Cancel").click()
    expect(page.locator("#now")).to_contain_text("cancelled")
    expect(page.locator("#connection")).to_have_text("live")


def test_the_language_is_switched_and_stays(page: Page) -> None:
    page.goto("/jobs")
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("任务")
    page.get_by_role("link", name="概览").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_accessibility_checker_finds_nothing_serious(
    page: Page, place: tuple[World, str], scheme: str
) -> None:
    world, _ = place
    world.run("schedule", "add", "nightly", "-", "--cron", "0 2 * * *", stdin=json.dumps(body("n")))
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    job = world.launcher.list_jobs(limit=1)[0]
    for path in (
        "/",
        "/batches",
        "/jobs",
        f"/jobs/{job.id}",
        "/uncertain",
        "/schedules",
        "/submit",
        "/login",
    ):
        page.goto(path)
        found = Axe().run(page).response["violations"]
        serious = [
            (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}
        ]
        assert serious == [], path


def test_on_a_phone_nothing_is_wider_than_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/", "/batches", "/jobs", "/uncertain", "/schedules", "/submit"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
