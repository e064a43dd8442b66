"""The radar in a town: it tells once, is quiet, and its buttons plan as whoever presses them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bot.sandbox.octopus.permissions import SPACE_PERMISSIONS, SYSTEM_PERMISSIONS
from bot.sandbox.pki import self_signed
from bot.sandbox.slack.model import Message
from tests.scenarios.town import RADAR, Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Return a town whose radar is on."""
    with Town(tmp_path, extra=RADAR) as built:
        yield built


TROUBLED = {"legacy-01": "signed with SHA-1", "moved-01": "witnesses disagree", "lost-01": "out of reach"}


def digests(town: Town) -> list[Message]:
    """Return what the radar told so far."""
    return [m for m in town.slack.messages() if m.is_bot and "Radar:" in m.content]


def told(town: Town, number: int = 1) -> Message:
    """Wait until the radar told something for so many times; return the newest."""
    return town.wait(lambda: digests(town)[number - 1] if len(digests(town)) >= number else None, 60)


def next_day(town: Town) -> None:
    """Let a day pass and the radar look again."""
    assert town.bot
    before = town.bot.radar.latest()
    town.clock.shift += timedelta(days=1)
    town.wait(lambda: town.bot and town.bot.radar.latest() != before, 60)


def plan_rotation(town: Town, person: str, digest: Message, name: str) -> None:
    """Press the button beside a target."""
    block = next(b for b in digest.blocks if b["type"] == "section" and b["text"]["text"].startswith(f"{name}:"))
    assert town.slack.click(person, digest.ts, "Plan rotation", block_id=block["block_id"]).acknowledged


def test_the_first_look_tells_all_and_the_next_is_quiet(town: Town) -> None:
    """What is weak, disagrees or is away has a line and a button; a day later nothing changed and nothing is said."""
    digest = told(town)
    lines = {name: next(t for t in digest.content.splitlines() if t.startswith(name)) for name in TROUBLED}
    for name, words in TROUBLED.items():
        assert words in lines[name]
    assert digest.buttons == ["Plan rotation"] * 3
    next_day(town)
    assert len(digests(town)) == 1


def test_what_was_mended_is_said_once(town: Town) -> None:
    """The plan is proposed as the person who pressed, under the policy; Ada approves, and the radar sees the end."""
    digest = told(town)
    plan_rotation(town, "otto", digest, "legacy-01")
    assert "not ask for changes" in town.whisper("otto", "not ask")

    plan_rotation(town, "rita", digest, "legacy-01")
    root = town.wait(lambda: next((m for m in town.slack.messages() if "Approve" in m.buttons), None))
    assert "<@U0RITA>" in root.content
    assert "the radar found: out of reach, signed with SHA-1" in root.content
    town.press("rita", root, "Approve")
    assert "somebody else must approve" in town.whisper("rita", "yourself")
    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("legacy-01")

    next_day(town)
    mended = told(town, 2).content
    assert "Mended" in mended
    assert "legacy-01: signed with SHA-1" in mended
    assert "As told before: 2 targets" in mended
    next_day(town)
    assert len(digests(town)) == 2


def test_a_certificate_that_came_near_its_end_and_a_host_that_went_away_are_new(town: Town) -> None:
    """Time passes, a machine is switched off: both are told, nothing else is."""
    told(town)
    web = town.tentacle("web-01")
    web.host.faults.unreachable = True
    next_day(town)
    assert "New: 1 target" in told(town, 2).content
    web.host.faults.unreachable = False
    next_day(town)
    assert "web-01: out of reach" in told(town, 3).content
    assert "Mended" in told(town, 3).content


def test_an_octopus_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """The look is tried again; only when that goes on for an hour the channel is told."""
    with Town(tmp_path, extra=RADAR) as town:
        told(town)
        assert town.bot
        town.octopus.stop()
        town.clock.shift += timedelta(days=1, hours=2)
        failed = town.wait(lambda: next((m for m in town.slack.messages() if "could not look" in m.content), None), 90)
        assert "octocert doctor" in failed.content
        town.octopus.start()


def test_a_restart_tells_nothing_twice(town: Town) -> None:
    """What was told stands in the database, and what was missed while no bot ran is made up for."""
    told(town)
    town.stop_bot()
    town.clock.shift += timedelta(days=1)
    town.tentacle("web-02").host.faults.unreachable = True
    town.start_bot()
    assert "New: 1 target" in told(town, 2).content
    assert len(digests(town)) == 2


def test_nodes_that_serve_an_old_certificate_of_the_server_are_told(town: Town) -> None:
    """Somebody imported another one and restarted nothing; the button plans the Server's rotation."""
    assert "Octopus Server" not in told(town).content
    town.octopus.import_certificate(self_signed("Octopus Server"))
    next_day(town)
    digest = told(town, 2)
    assert "Radar: the Octopus Server and" in digest.content
    assert "Octopus Server: witnesses disagree: Octopus tells" in digest.content
    plan_rotation(town, "rita", digest, "Octopus Server")
    town.wait(lambda: next((m for m in town.slack.messages() if "Rotate the Octopus Server" in m.content), None))


def test_a_key_that_may_not_see_the_nodes_looks_at_the_tentacles(town: Town) -> None:
    """The Server is left out; nothing is said of it, and nothing fails."""
    told(town)
    key = town.octopus.add_api_key("narrow", {*SPACE_PERMISSIONS, *SYSTEM_PERMISSIONS} - {"AdministerSystem"})
    (town.sandbox.state / "secrets" / "octopus-api-key").write_text(key)
    town.octopus.import_certificate(self_signed("Octopus Server"))
    town.tentacle("web-02").host.faults.unreachable = True
    next_day(town)
    assert "web-02: out of reach" in told(town, 2).content
    assert "Octopus Server" not in told(town, 2).content


def test_a_button_of_a_target_that_left_octopus_says_so(town: Town) -> None:
    """Nothing is guessed from its former name."""
    digest = told(town)
    town.octopus.delete_record(town.sandbox.estate.records["legacy-01"][0])
    plan_rotation(town, "rita", digest, "legacy-01")
    assert "no longer in Octopus" in town.whisper("rita", "no longer")


def test_without_a_channel_it_does_not_look(tmp_path: Path) -> None:
    """It is off by default."""
    with Town(tmp_path) as town:
        assert town.bot
        assert not town.bot.radar.is_on
        assert not town.bot.radar.look_around()
        assert town.bot.radar.latest() is None
