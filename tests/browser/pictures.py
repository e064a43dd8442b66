"""The pictures of docs/images, of the real bot in the sandbox, by Chromium: `python -m tests.browser.pictures`.

Names of pictures on the command line take only those; OCTOCERT_PICTURES names another folder.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from bot.sandbox.slack.model import Message
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.scenarios.town import DEADLINES, Town, elsewhere

FOLDER = Path(__file__).parents[2] / "docs" / "images"
PATIENCE = 60_000
RADAR = '\n[radar]\nchannel = "C0RADAR"\n'


class Camera:
    """A browser before the town's Slack."""

    def __init__(self, page: Page, town: Town, folder: Path) -> None:
        self.page, self.town, self._folder = page, town, folder

    def show(self, person: str, place: str) -> None:
        """Be somebody, somewhere."""
        self.page.goto(f"{self.town.slack.url}#as={person}&in={place}")
        self.page.reload()
        self.page.wait_for_selector("html[data-ready=yes]")
        hide = self.page.get_by_role("button", name="Hide these hints")
        if hide.is_visible():
            hide.click()

    def take(self, name: str) -> None:
        """Take a picture once everything has faded in."""
        self.page.wait_for_timeout(800)
        self.page.screenshot(path=str(self._folder / f"{name}.png"))

    def asked(self, text: str) -> Message:
        """Have Rita ask; return the plan."""
        return elsewhere(lambda: self.town.ask("rita", text))

    def approved(self, root: Message) -> None:
        """Have Ada approve, and wait for the end."""
        elsewhere(lambda: self.town.press("ada", root, "Approve"))
        elsewhere(lambda: self.town.end(root, 120))

    def open_thread(self, root: Message, words: str) -> None:
        """Open the thread of a message and wait for what it says."""
        elsewhere(lambda: self.town.says(root, words, 60))
        self.page.locator(f"[data-ts='{root.ts}']").get_by_role("button", name="repl").last.click()
        expect(self.page.locator("#panel-body")).to_contain_text(words[:40], timeout=PATIENCE)


def radar(camera: Camera) -> None:
    """Show the first digest in its channel."""
    camera.show("rita", "radar")
    expect(camera.page.get_by_role("button", name="Plan rotation").first).to_be_visible(timeout=PATIENCE)
    camera.take("radar")


def plan(camera: Camera) -> None:
    """Show a plan that waits for its approval."""
    camera.show("ada", "deployments")
    root = camera.asked('rotate web-01 --reason "the yearly rotation"')
    expect(camera.page.get_by_role("button", name="Approve", exact=True)).to_be_visible(timeout=PATIENCE)
    camera.take("plan")
    camera.approved(root)


def fleet(camera: Camera) -> None:
    """Show a fleet at work: how far it is, who is at which step, one that is waited for, and what went wrong."""
    town = camera.town
    names = sorted(n for n in town.sandbox.estate.instances if n.startswith("web-"))
    for name in names[20:22]:
        town.tentacle(name).host.faults.import_fails = "There is not enough space on the disk."
    deployment = town.octopus.start_deployment(town.sandbox.estate.records[names[50]][0], 600)
    camera.show("ada", "deployments")
    root = camera.asked("rotate role:web --batch 40 --reason “the yearly rotation”")
    elsewhere(lambda: town.press("ada", root, "Approve"))
    table = camera.page.get_by_role("table")
    expect(table).to_contain_text(f"{names[50]}: waiting for", timeout=4 * PATIENCE)
    camera.take("fleet")
    elsewhere(lambda: town.press("ada", town.slack.message(root.ts), "Stop"))
    town.octopus.end_deployment(deployment)
    elsewhere(lambda: town.end(root, 120))


def home(camera: Camera) -> None:
    """Show the Home tab of somebody for whom a plan waits."""
    camera.asked("rotate web-02 --with ca:demo")
    camera.show("ada", "home")
    expect(camera.page.locator(".home")).to_contain_text("asked for by", timeout=PATIENCE)
    camera.take("home")


def form(camera: Camera) -> None:
    """Show the form while a target is searched."""
    camera.show("rita", "home")
    camera.page.locator(".home").get_by_role("button", name="Rotate…").first.click()
    dialog = camera.page.locator("dialog[open]")
    search = dialog.get_by_role("combobox").first
    search.press_sequentially("web-0")
    expect(dialog.get_by_role("option", name="web-02")).to_be_visible(timeout=PATIENCE)
    camera.take("form")
    camera.page.keyboard.press("Escape")
    camera.page.keyboard.press("Escape")


def server(camera: Camera) -> None:
    """Show the plan of the Server's own certificate."""
    camera.show("ada", "deployments")
    camera.asked("rotate server --with pfx:server --accept lost:2")
    expect(camera.page.get_by_role("button", name="Approve", exact=True).last).to_be_visible(timeout=PATIENCE)
    camera.take("server")


Take = Callable[[Camera], None]
ALL: tuple[tuple[int, tuple[Take, ...]], ...] = ((12, (radar, plan, home, form, server)), (200, (fleet,)))
"""What is taken in towns of so many Tentacles."""


def main() -> None:
    """Take the pictures."""
    folder = Path(os.environ.get("OCTOCERT_PICTURES") or FOLDER)
    with (
        tempfile.TemporaryDirectory() as state,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS)) as chromium,
    ):
        for hosts, takes in ALL:
            wanted = [take for take in takes if not sys.argv[1:] or take.__name__ in sys.argv[1:]]
            if wanted:
                _take(wanted, chromium, Path(state) / str(hosts), hosts, folder)


def _take(wanted: list[Take], chromium: Browser, state: Path, hosts: int, folder: Path) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, color_scheme="light", locale="en-GB")
    with Town(state, hosts=hosts, extra=DEADLINES.replace("idle = 50", "idle = 600") + RADAR, pace=0.1) as town:
        camera = Camera(context.new_page(), town, folder)
        for take in wanted:
            take(camera)
    context.close()


if __name__ == "__main__":
    main()
