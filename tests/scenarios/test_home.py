"""The Home tab and the modal that asks what to rotate: what each person sees, and that policy counts there, too."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.sandbox.slack.model import texts
from bot.slack.rotate_view import TARGETS
from tests.scenarios.town import RADAR, Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Return a town whose radar has looked."""
    with Town(tmp_path, extra=RADAR) as built:
        built.wait(lambda: built.bot and built.bot.radar.latest(), 60)
        yield built


def home(town: Town, person: str) -> str:
    """Return what stands on somebody's Home tab."""
    view = town.slack.workspace.homes.get(town.slack.people[person].id)
    return "\n".join(texts(view["blocks"])) if view else ""


def links(town: Town, person: str) -> list[str]:
    """Return the addresses of the runs on somebody's Home tab."""
    view = town.slack.workspace.homes[town.slack.people[person].id]
    rich = [part for block in view["blocks"] if block["type"] == "rich_text" for part in block["elements"]]
    lines = [line for part in rich if part["type"] == "rich_text_list" for line in part["elements"]]
    return [item["url"] for line in lines for item in line["elements"] if item["type"] == "link"]


def sees(town: Town, person: str, words: str) -> str:
    """Wait until a Home tab shows these words; return all of it."""
    town.wait(lambda: words in home(town, person))
    return home(town, person)


def modal(town: Town, person: str) -> dict[str, Any]:
    """Wait until a modal is open before somebody."""
    return town.wait(lambda: next(iter(town.slack.views(person)), None))


def plan(town: Town) -> Any:
    """Wait for a plan that can be approved."""
    return town.wait(lambda: next((m for m in town.slack.messages() if "Approve" in m.buttons), None))


def pick(town: Town, person: str, query: str) -> str:
    """Type into the picker; return the values of what it offers."""
    return ",".join(o["value"] for o in town.slack.suggest(person, TARGETS, query))


def test_the_home_tab_shows_what_concerns_its_reader_and_follows(town: Town) -> None:
    """The estate from the radar, what waits for whom, what runs, and a freeze; without being opened again."""
    for person in ("rita", "ada", "otto"):
        town.slack.open_home(person)
        text = sees(town, person, "The estate")
        assert "12 targets were looked at" in text
        assert "legacy-01" in text
        assert "Nothing waits for your approval" in text
        assert "No run is under way" in text

    root = town.ask("rita", "rotate web-01")
    assert "Rotate web-01" in sees(town, "ada", "asked for by")
    # it may show the run before it knows where in Slack it is
    town.wait(lambda: links(town, "ada"))
    assert links(town, "ada") == [f"https://sandbox.slack.example/archives/C0DEPLOY/p{root.ts.replace('.', '')}"]
    assert "Nothing waits for your approval" in home(town, "rita"), "nobody approves what they asked for"
    assert "Nothing waits for your approval" in home(town, "otto")

    town.ask("ada", "freeze “a change in the network”")
    assert "a change in the network" in sees(town, "otto", "Frozen")
    town.press("ada", root, "Approve")
    assert "Rotate web-01" in sees(town, "otto", "running")
    town.wait(lambda: "Nothing waits for your approval" in home(town, "ada"))
    town.ask("ada", "unfreeze")
    town.end(root)
    town.wait(lambda: "No run is under way" in home(town, "otto") and "Frozen" not in home(town, "otto"))
    assert len(town.slack.calls("chat.getPermalink")) == 1, "the address stays"
    published = len(town.slack.calls("views.publish"))
    assert published < 40, "changes are told together"


def test_the_bare_command_opens_the_form_and_its_plan_goes_the_same_way(town: Town) -> None:
    """Targets from the picker, a source, a canary; the plan stands where the command was typed; others approve."""
    town.slack.command("rita", "deployments", "")
    view = modal(town, "rita")
    sources = next(b["element"]["options"] for b in view["blocks"] if b.get("block_id") == "source")
    assert [o["value"] for o in sources] == ["new-certificate", "pfx:demo", "pfx:server", "ca:demo"]
    chosen = pick(town, "rita", "WEB-0")
    assert len(chosen.split(",")) == 2
    values = {TARGETS: chosen, "source": "ca:demo", "reason": "yearly", "canary": "1"}
    assert town.slack.submit_view("rita", values).acknowledged
    root = plan(town)
    assert root.channel == "C0DEPLOY"
    for words in ("web-01", "web-02", "yearly", "ca:demo", "first and alone"):
        assert words in root.content
    town.press("rita", root, "Approve")
    assert "somebody else must approve" in town.whisper("rita", "yourself")
    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("web-01")
    town.assert_good("web-02")
    assert town.bot
    assert [e.entry.who for e in town.bot.audit.all_entries() if "chosen in the form" in e.entry.what] == ["U0RITA"]


def test_who_may_not_ask_may_not_ask_by_the_form(town: Town) -> None:
    """The refusal is whispered, audited, and nothing is looked at."""
    town.slack.command("otto", "deployments", "")
    modal(town, "otto")
    assert town.slack.submit_view("otto", {TARGETS: pick(town, "otto", "web-01")}).acknowledged
    assert "not ask for changes" in town.whisper("otto", "not ask")
    assert not [m for m in town.slack.messages() if "Approve" in m.buttons]


def test_what_the_radar_found_opens_the_form_with_it(town: Town) -> None:
    """Its target and its reason stand there already; the channel is the radar's."""
    town.slack.open_home("rita")
    sees(town, "rita", "legacy-01")
    view = town.slack.workspace.homes[town.slack.people["rita"].id]
    block = next(b for b in view["blocks"] if b.get("text", {}).get("text", "").startswith("legacy-01"))
    town.slack.view_action("rita", "Rotate…", view_id=view["id"], block_id=block["block_id"])
    form = modal(town, "rita")
    fields = {b["block_id"]: b["element"] for b in form["blocks"] if b["type"] == "input"}
    assert [o["text"]["text"] for o in fields["targets"]["initial_options"]] == ["legacy-01"] or "legacy-01 ·" in str(
        fields["targets"]["initial_options"]
    )
    assert "signed with SHA-1" in fields["reason"]["initial_value"]
    assert fields["channel"]["initial_conversation"] == "C0DEPLOY"
    assert town.slack.submit_view("rita").acknowledged
    assert "Rotate legacy-01" in plan(town).content


def test_a_form_that_makes_no_sense_says_so_beside_the_field(town: Town) -> None:
    """It stays open; an unknown selector is told by the bot as for the command."""
    town.slack.command("rita", "deployments", "")
    modal(town, "rita")
    assert "at least one target" in town.slack.submit_view("rita").response["errors"]["targets"]
    assert "quote" in town.slack.submit_view("rita", {"words": 'env:"Sta'}).response["errors"]["words"]
    town.slack.submit_view("rita", {"words": "env:Nowhere"})
    assert "Nowhere" in town.whisper("rita", "Nowhere")


def test_a_target_that_left_octopus_meanwhile_is_not_guessed(town: Town) -> None:
    """The picker's list may be a minute old."""
    town.slack.command("rita", "deployments", "")
    modal(town, "rita")
    chosen = pick(town, "rita", "legacy")
    town.octopus.delete_record(town.sandbox.estate.records["legacy-01"][0])
    town.slack.submit_view("rita", {TARGETS: chosen})
    assert "no longer in Octopus" in town.whisper("rita", "no longer")


def test_without_a_radar_the_tab_says_how_to_look(tmp_path: Path) -> None:
    """And the form still works, with the channel left to whoever fills it in."""
    with Town(tmp_path) as town:
        town.slack.open_home("rita")
        assert "The radar is off" in sees(town, "rita", "The estate")
        town.slack.view_action(
            "rita", "octocert_open_rotate", view_id=town.slack.workspace.homes[town.slack.people["rita"].id]["id"]
        )
        modal(town, "rita")
        answer = town.slack.submit_view("rita", {TARGETS: pick(town, "rita", "web-01")})
        assert answer.response["errors"] == {"channel": "Choose where the plan is posted."}


def test_an_expired_plan_waits_for_nobody(town: Town) -> None:
    """It leaves the tab by itself."""
    town.slack.open_home("ada")
    root = town.ask("rita", "rotate web-01")
    sees(town, "ada", "asked for by")
    town.clock.shift += timedelta(hours=1)
    town.wait(lambda: "Nothing waits for your approval" in home(town, "ada"))
    town.wait(lambda: "xpired" in town.end(root).content)
