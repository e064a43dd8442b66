"""A fleet in a browser: its live table, on a desk and on a phone, and the buttons that steer the run."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.seeing import fits, picture
from tests.scenarios.town import DEADLINES, Town, elsewhere

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(180)]

PATIENCE = 60_000
"""Milliseconds that an answer of the bot may take."""
HELD = ("web-05", "web-16")
"""Where a deployment holds up the first and the second wave, so that nothing is over before it was looked at."""
STEPS = ("Wait until idle", "Make a new certificate", "Restart the service", "Octopus health check")


def test_a_fleet_is_watched_and_steered_on_the_page(tmp_path: Path, look: Any) -> None:
    """The table says how many are at which step and who is waited for; Pause, Resume and Stop work from the page."""
    with Town(tmp_path, hosts=40, pace=0.05, extra=DEADLINES.replace("idle = 50", "idle = 600")) as town:
        town.tentacle("web-04").host.faults.import_fails = "There is not enough space on the disk."
        first, second = (town.octopus.start_deployment(town.sandbox.estate.records[n][0], 600) for n in HELD)
        root = elsewhere(lambda: town.ask("rita", "rotate role:web --canary 0 --batch 12 --reason “yearly rotation”"))
        desk = look(town.slack.url, "ada", width=1280, height=900)
        phone = look(town.slack.url, "ada", width=390, height=844)
        desk.get_by_role("button", name="Hide these hints").click()
        press(desk, "Approve")
        sure(desk, "Approve")
        for page, width in ((desk, 1280), (phone, 390)):
            table = page.get_by_role("table")
            expect(table).to_contain_text("web-05: waiting for", timeout=PATIENCE)
            for step in STEPS:
                expect(table).to_contain_text(step)
            expect(page.get_by_text("There is not enough space on the disk").first).to_be_visible(timeout=PATIENCE)
            fits(page)
            picture(page, f"fleet-{width}")

        press(desk, "Pause")
        town.octopus.end_deployment(first)
        for page in (desk, phone):
            expect(page.get_by_role("button", name="Resume", exact=True)).to_be_visible(timeout=PATIENCE)
            fits(page)
        press(phone, "Resume")
        expect(desk.get_by_role("table")).to_contain_text("web-16: waiting for", timeout=PATIENCE)
        press(desk, "Stop")
        sure(desk, "Stop")
        expect(desk.get_by_text("Stopping at the next safe point")).to_be_visible(timeout=PATIENCE)
        town.octopus.end_deployment(second)
        for page in (desk, phone):
            expect(page.get_by_role("button", name="Retry failed").first).to_be_visible(timeout=PATIENCE)
            expect(page.get_by_text("Stopped by").first).to_be_visible()
            expect(page.get_by_role("table")).to_have_count(0)
            fits(page)
        assert "6 untouched" in town.slack.message(root.ts).content


def press(page: Any, label: str) -> None:
    """Press a button of the run's message."""
    page.get_by_role("button", name=label, exact=True).click(timeout=PATIENCE)


def sure(page: Any, label: str) -> None:
    """Press the button of the question whether that is meant."""
    page.locator("dialog, [role=dialog]").get_by_role("button").filter(has_text=label).last.click()
