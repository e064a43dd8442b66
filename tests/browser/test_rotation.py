"""A certificate is rotated by clicking, as a newcomer does it in the demo."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.seeing import fits, picture
from tests.scenarios.town import Town

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(180)]

PATIENCE = 60_000
"""Milliseconds that an answer of the bot may take."""


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_a_newcomer_rotates_a_certificate(tmp_path: Path, look: Any, width: int, height: int) -> None:
    """Type, read the plan, be refused, become Ada, approve, see old → new in the thread."""
    with Town(tmp_path, pace=0.1) as town:
        old = str(town.tentacle("web-01").configured)
        page = look(town.slack.url, width=width, height=height)
        box = page.get_by_role("combobox", name="Message #deployments as Rita")
        box.fill('/octocert rotate web-01 --reason "the yearly rotation"')
        box.press("Enter")
        approve = page.get_by_role("button", name="Approve", exact=True)
        expect(approve).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text("the yearly rotation").first).to_be_visible()
        picture(page, f"plan-{width}")

        approve.click()
        page.locator("dialog, [role=dialog]").get_by_role("button").filter(has_text="Approve").last.click()
        expect(page.get_by_text("somebody else must approve").first).to_be_visible(timeout=PATIENCE)

        page.evaluate("location.hash = 'as=ada&in=deployments'")
        page.reload()
        page.wait_for_selector("html[data-ready=yes]")
        approve.click()
        page.locator("dialog, [role=dialog]").get_by_role("button").filter(has_text="Approve").last.click()
        expect(page.get_by_text("1 healthy").first).to_be_visible(timeout=PATIENCE)
        town.assert_good("web-01")
        new = str(town.tentacle("web-01").configured)
        assert new != old
        page.get_by_role("button", name="replies").click()
        thread = page.get_by_role("complementary", name="Thread")
        expect(thread.get_by_text(new).first).to_be_visible(timeout=PATIENCE)
        expect(thread.get_by_text(old).first).to_be_visible()
        fits(page)
        picture(page, f"thread-{width}")
