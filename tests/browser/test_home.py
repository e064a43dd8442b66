"""The Home tab and the modal in a browser, before the real bot: pick targets, send, see the plan and the tab follow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.seeing import fits
from tests.scenarios.town import Town, elsewhere

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(180)]
SIZES = [(1280, 800), (390, 844)]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Return a town whose radar has looked."""
    with Town(tmp_path_factory.mktemp("home"), extra='\n[radar]\nchannel = "C0DEPLOY"\n') as built:
        built.wait(lambda: built.bot and built.bot.radar.latest(), 60)
        yield built


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_home_shows_the_estate_and_its_button_opens_the_form(town: Town, look: Any, width: int, height: int) -> None:
    """On a desk and on a phone; the form's button is always in sight."""
    page = look(f"{town.slack.url}", "otto", width=width, height=height)
    page.goto(f"{town.slack.url}#as=otto&in=home")
    page.reload()
    home = page.locator(".home")
    expect(home).to_contain_text("legacy-01")
    expect(home).to_contain_text("Nothing waits for your approval")
    fits(page)
    home.get_by_role("button", name="Rotate…").first.click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("Rotate certificates")
    expect(dialog.get_by_role("button", name="Look and plan")).to_be_in_viewport()
    fits(page)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_targets_are_picked_by_keyboard_and_the_plan_is_posted(town: Town, look: Any) -> None:
    """Type, choose, take one back, send; the plan stands in the channel and on the approver's tab."""
    ada = look(town.slack.url, "ada")
    ada.goto(f"{town.slack.url}#as=ada&in=home")
    ada.reload()
    expect(ada.locator(".home")).to_contain_text("Nothing waits for your approval")

    page = look(town.slack.url, "rita")
    page.goto(f"{town.slack.url}#as=rita&in=home")
    page.reload()
    page.locator(".home").get_by_role("button", name="Rotate…").first.click()
    dialog = page.locator("dialog[open]")
    search = dialog.get_by_role("combobox").first
    dialog.get_by_role("button", name="Look and plan").click()
    expect(dialog).to_contain_text("Choose at least one target")
    for name in ("web-01", "worker-01", "edge-01"):
        search.press_sequentially(name)
        expect(dialog.get_by_role("option", name=name)).to_be_visible()
        search.press("Enter")
        expect(dialog.get_by_role("button", name=f"Remove {name}")).to_be_visible()
    search.press("Backspace")
    expect(dialog.get_by_role("button", name="Remove edge-01")).to_have_count(0)
    dialog.get_by_label("Reason").fill("yearly")
    dialog.get_by_role("button", name="Look and plan").click()
    expect(dialog).to_have_count(0)

    def posted() -> Any:
        return next((m for m in town.slack.messages() if "Approve" in m.buttons), None)

    root = elsewhere(lambda: town.wait(posted))
    for words in ("web-01", "worker-01", "yearly"):
        assert words in root.content
    assert "edge-01" not in root.content
    expect(ada.locator(".home")).to_contain_text("Rotate web-01 and worker-01")
    ada.locator(".home").get_by_role("link", name="Rotate web-01 and worker-01").click()
    expect(ada.locator("#panel-body")).to_contain_text("Rotate web-01 and worker-01")
    expect(ada.locator("#messages").get_by_role("button", name="Approve")).to_be_visible()


def test_the_bare_command_opens_the_same_form(town: Town, look: Any, tmp_path: Path) -> None:
    """Typed without a word; a click on a suggestion chooses."""
    page = look(town.slack.url, "rita")
    box = page.locator("#composer-text")
    box.fill("/octocert ")
    box.press("Escape")  # or Enter would take the first suggestion
    box.press("Enter")
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("Rotate certificates")
    dialog.get_by_role("combobox").first.click()
    dialog.get_by_role("option", name="web-02").click()
    expect(dialog.get_by_role("button", name="Remove web-02")).to_be_visible()
    expect(dialog.locator("[data-action=channel]")).to_have_value("C0DEPLOY")
    page.screenshot(path=str(tmp_path / "form.png"))
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
