"""The radar: what it finds, what it tells again, and what the message looks like."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.clock import FakeClock
from bot.domain.facts import Health, NodeFacts, Sighting, TargetFacts
from bot.domain.radar import (
    Finding,
    Sweep,
    Thresholds,
    Worry,
    compare,
    findings_of,
    findings_of_server,
    sweep_of,
)
from bot.runs.database import Database
from bot.runs.sweeps import KEPT, Sweeps
from bot.settings_radar import Radar, last_due
from bot.slack import radar_message
from tests.making import NOW, SERVER, certificate, facts, instance, polling, record, thumbprint
from tests.runs import HOSTILE, assert_valid, shown
from tests.servers import node, server_instance

USUAL = Thresholds(days=(30, 14, 7, 1), share=0.34)


def serving(name: str = "web-01", *, left: float = 200, lifetime: float = 365, **changes) -> TargetFacts:
    """Return a target that serves a certificate with so many days left, of so many."""
    end = NOW + timedelta(days=left, hours=1)
    shows = certificate(1, not_before=end - timedelta(days=lifetime), not_after=end, **changes)
    seen = Sighting(place="host", address="127.0.0.1:10933", thumbprint=thumbprint(1), certificate=shows)
    return facts(name, instance=instance(served=seen))


def dark(name: str = "web-01", **changes) -> TargetFacts:
    """Return a target whose host does not answer and that nobody sees."""
    return facts(name, instance=None, host=None, host_error="no answer", sightings=(), **changes)


def swept(
    *every: TargetFacts, before: Sweep | None = None, at: datetime = NOW, unreadable: tuple[str, ...] = ()
) -> Sweep:
    """Return the sweep that saw these targets."""
    return sweep_of(f"s-{at:%Y%m%d%H%M}", every, USUAL, at, before, unreadable)


def worries(of: TargetFacts) -> list[tuple[Worry, int]]:
    """Return what is found about a target."""
    return [(f.worry, f.level) for f in findings_of(of, USUAL, NOW)]


def server_node(name: str = "OCTO-1", *, left: float = 200, **changes) -> NodeFacts:
    """Return a node that serves the Server's certificate with so many days left of a year."""
    end = NOW + timedelta(days=left, hours=1)
    shows = certificate(1, not_before=end - timedelta(days=365), not_after=end, **changes)
    return node(name, sightings=(Sighting(place="bot", address="x:10943", thumbprint=SERVER, certificate=shows),))


def of_server(*nodes: NodeFacts) -> list[Finding]:
    """Return what is found about the Server with these nodes."""
    return findings_of_server(SERVER, nodes, USUAL, NOW)


def test_the_servers_own_certificate_is_watched_too():
    """Its dates, its signature and key, and whether every node serves what the database has."""
    assert of_server(server_node()) == []
    assert [(f.worry, f.level) for f in of_server(server_node(left=5))] == [(Worry.EXPIRING, 7)]
    assert [f.worry for f in of_server(server_node(left=-1))] == [Worry.EXPIRED]
    assert [f.worry for f in of_server(server_node(signature_hash="sha1", key_bits=1024))] == [Worry.WEAK, Worry.SHA1]
    other = Sighting(place="bot", address="y:10943", thumbprint=thumbprint(5))
    late = node("OCTO-2", sightings=(other,), instance=server_instance(served=None, stored=thumbprint(6)))
    (found,) = of_server(server_node(), late)
    assert found.worry is Worry.DISAGREES
    assert found.detail == (
        f"Octopus tells {SERVER[:8]}, OCTO-2 has {thumbprint(6)[:8]} in its database, OCTO-2 serves {thumbprint(5)[:8]}"
    )
    dark_node = node("OCTO-3", sightings=(), instance=None, host=None, host_error="no answer")
    assert [f.detail for f in of_server(server_node(), dark_node)] == ["nobody sees what OCTO-3 serves"]
    assert of_server(server_node(), node("OCTO-4", is_offline=True)) == [], "whoever stopped it knows"


def test_a_server_that_could_not_be_looked_at_stays_as_it_was_found():
    """The key may not see the nodes any more: that mends nothing."""
    found = of_server(server_node(left=5))
    first = sweep_of("s-1", [serving()], USUAL, NOW, None, (), found)
    assert (first.needy, first.is_server_needy, first.targets) == (0, True, 1)
    blind = sweep_of("s-2", [serving()], USUAL, NOW, first, (), None)
    assert blind.findings == first.findings
    assert not compare(first, blind).any
    mended = sweep_of("s-3", [serving()], USUAL, NOW, blind, (), [])
    assert compare(blind, mended).mended == first.findings


def test_the_digest_names_the_server_before_all_others():
    """Its certificate concerns every Tentacle."""
    found = of_server(server_node(left=5))
    alone = sweep_of("s-1", [serving()], USUAL, NOW, None, (), found)
    both = sweep_of("s-1", [dark(), serving("web-02")], USUAL, NOW, None, (), found)
    for sweep, title in ((alone, "the Octopus Server needs"), (both, "the Octopus Server and 1 target of 2 need")):
        message = radar_message.digest(sweep, compare(None, sweep), now=NOW, is_first=True)
        assert_valid(message)
        assert f"Radar: {title} care" in shown(message)
        assert "Octopus Server: expires in 5 days" in shown(message)


@pytest.mark.parametrize(
    ("left", "lifetime", "found"),
    [
        (200, 365, []),
        (40, 365, []),
        (29, 365, [(Worry.EXPIRING, 30)]),
        (13, 365, [(Worry.EXPIRING, 14)]),
        (0, 365, [(Worry.EXPIRING, 1)]),
        (-1, 365, [(Worry.EXPIRED, 0)]),
        (29, 30, []),
        (9, 30, [(Worry.EXPIRING, 14)]),
        (36_000, 36_500, []),
    ],
)
def test_a_certificate_expires_soon_by_days_and_by_the_share_of_its_lifetime(left, lifetime, found):
    """A third of a year is more than thirty days; one for a month is not told of on its first day."""
    assert worries(serving(left=left, lifetime=lifetime)) == found


def test_what_is_weak_disagrees_or_is_out_of_reach_is_found():
    """Each by its own word, with what was seen."""
    assert worries(serving(signature_hash="sha1")) == [(Worry.SHA1, 0)]
    assert worries(serving(key_bits=1024)) == [(Worry.WEAK, 0)]
    assert worries(dark()) == [(Worry.UNREACHABLE, 0)]
    assert worries(polling()) == []
    differs = facts(records=(record(seed=2),))
    assert [f.detail for f in findings_of(differs, USUAL, NOW)] == [
        f"configured {thumbprint(1)[:8]}, served {thumbprint(1)[:8]}, recorded {thumbprint(2)[:8]}"
    ]
    away = facts(records=(record(health=Health.UNAVAILABLE),))
    assert worries(away) == [(Worry.UNREACHABLE, 0)]
    assert worries(facts(records=(record(health=Health.UNAVAILABLE, is_disabled=True),))) == []
    told = replace(polling(), records=(record("edge-01", signature_algorithm="sha1RSA"),))
    assert worries(told) == [(Worry.SHA1, 0)], "Octopus knows it where nothing listens"


def test_it_is_quiet_until_something_changes():
    """The same findings tell nothing; a new one, a smaller threshold and a mend do."""
    first = swept(serving(left=29), serving("web-02", signature_hash="sha1"), serving("web-03"))
    assert len(compare(None, first).new) == 2
    assert not compare(first, swept(serving(left=28), serving("web-02", signature_hash="sha1"), serving("web-03"))).any

    closer = compare(first, swept(serving(left=13), serving("web-02", signature_hash="sha1"), serving("web-03")))
    assert [(f.target, f.level) for f in closer.new] == [("web-01", 14)]
    assert [f.worry for f in closer.same] == [Worry.SHA1]

    mended = compare(first, swept(serving(), serving("web-02"), serving("web-03")))
    assert [(f.target, f.worry) for f in mended.mended] == [("web-01", Worry.EXPIRING), ("web-02", Worry.SHA1)]
    assert mended.any


def test_what_has_expired_is_not_told_as_mended():
    """It expires no more, because it did."""
    now = compare(swept(serving(left=1)), swept(serving(left=-1)))
    assert [f.worry for f in now.new] == [Worry.EXPIRED]
    assert now.mended == ()


def test_a_target_that_left_octopus_is_told_as_that():
    """Nobody mended it."""
    now = compare(swept(serving(signature_hash="sha1"), serving("web-02")), swept(serving("web-02")))
    assert [f.target for f in now.gone] == ["web-01"]
    assert now.mended == ()


def test_what_cannot_be_seen_is_not_called_mended():
    """The host is away, or the key may not read a space any more: what was found before stays."""
    before = swept(serving(signature_hash="sha1"), serving("web-02", signature_hash="sha1"))
    after = swept(dark(), before=before, unreadable=("Payments",))
    now = compare(before, after)
    assert [f.worry for f in now.new] == [Worry.UNREACHABLE]
    assert {(f.target, f.worry) for f in now.same} == {("web-01", Worry.SHA1), ("web-02", Worry.SHA1)}
    assert now.mended == now.gone == ()
    back = compare(after, swept(serving(), serving("web-02"), before=after))
    assert {(f.target, f.worry) for f in back.mended} == {
        ("web-01", Worry.SHA1),
        ("web-01", Worry.UNREACHABLE),
        ("web-02", Worry.SHA1),
    }


def test_a_renamed_target_is_the_same():
    """Its record's id stays."""
    renamed = replace(serving(signature_hash="sha1"), name="web-one")
    assert not compare(swept(serving(signature_hash="sha1")), swept(renamed)).any


@pytest.mark.parametrize("hostile", [False, True], ids=["plain", "hostile"])
@pytest.mark.parametrize("number", [0, 1, 5, 25, 60, 400])
def test_the_digest_is_valid_whatever_its_size(number, hostile):
    """Within Slack's limits, no name does anything, and one button for each target that has room."""
    names = [f"{HOSTILE if hostile else 'web'}-{i}" for i in range(number)]
    every = [
        replace(serving(left=i % 40 - 5, signature_hash="sha1"), name=n, records=(record(n, 1, id=f"Machines-{i}"),))
        for i, n in enumerate(names)
    ]
    sweep = swept(*every, dark("away"))
    message = radar_message.digest(sweep, compare(None, sweep), now=NOW, is_first=True)
    assert_valid(message)
    buttons = [b["accessory"]["value"] for b in message.blocks if "accessory" in b]
    assert len(buttons) == min(number + 1, 20) or (hostile and len(buttons) >= 8)
    assert len(set(buttons)) == len(buttons)
    assert_valid(radar_message.digest(swept(), compare(sweep, swept()), now=NOW, is_first=False))
    assert_valid(radar_message.failed(HOSTILE * 9))


def test_the_digest_puts_the_new_first_and_says_each_target_once():
    """Its button leads to its finding; all its worries stand in one line."""
    before = swept(serving(left=29, signature_hash="sha1"), serving("web-02", key_bits=1024))
    after = swept(serving(left=13, signature_hash="sha1"), serving("web-02", key_bits=1024), dark("web-03"))
    message = radar_message.digest(after, compare(before, after), now=NOW, is_first=False)
    sections = [b for b in message.blocks if "accessory" in b]
    assert [s["text"]["text"].split(":")[0] for s in sections] == ["web-03", "web-01", "web-02"]
    assert sections[1]["text"]["text"] == "web-01: expires in 13 days, on 2026-01-18; signed with SHA-1"
    found = [after.findings[int(s["accessory"]["value"].split(":")[1])].target for s in sections]
    assert found == ["web-03", "web-01", "web-02"]
    assert "New: 2 targets" in shown(message)
    assert "As told before: 1 target" in shown(message)


@pytest.fixture
def sweeps(tmp_path: Path):
    """Return the sweeps of an empty database."""
    with Database(f"sqlite:///{tmp_path / 'octocert.sqlite'}") as database:
        yield Sweeps(database.engine, FakeClock())


def test_a_sweep_is_ended_once_and_found_by_its_buttons(sweeps):
    """A second replica's result of the same sweep does not count; old ones go, the last that was told stays."""
    assert sweeps.latest() is None
    first = swept(serving(signature_hash="sha1"))
    assert sweeps.begin(first.id)
    assert sweeps.begin(first.id), "a crash cut it off"
    assert sweeps.latest() is None
    assert sweeps.end(first, told=True)
    assert not sweeps.end(replace(first, findings=()), told=False)
    assert not sweeps.begin(first.id)
    assert sweeps.latest() == sweeps.told() == first
    assert sweeps.findings(first.id, "0") == first.findings
    for wrong in ("1", "-1", "x", ""):
        assert sweeps.findings(first.id, wrong) == ()
    for number in range(1, KEPT + 5):
        later = swept(serving(), at=NOW + timedelta(days=number))
        sweeps.begin(later.id)
        sweeps.end(later, told=False)
    assert sweeps.latest() == later
    assert sweeps.told() == first
    assert sweeps.find(swept(at=NOW + timedelta(days=2)).id) is None


@pytest.mark.parametrize(
    ("now", "zone", "due"),
    [
        ("2026-03-28T05:59:59", "Europe/Berlin", "2026-03-27T06:00:00"),
        ("2026-03-28T06:00:00", "Europe/Berlin", "2026-03-28T06:00:00"),
        ("2026-03-29T06:30:00", "Europe/Berlin", "2026-03-29T05:00:00"),
        ("2026-03-28T06:30:00", "UTC", "2026-03-27T07:00:00"),
    ],
)
def test_the_schedule_is_kept_in_its_zone(now, zone, due):
    """Seven o'clock is seven o'clock, also on the day on which the clocks change."""
    assert last_due(Radar(time_zone=zone), datetime.fromisoformat(now).replace(tzinfo=UTC)) == (
        datetime.fromisoformat(due).replace(tzinfo=UTC)
    )


def test_the_urgent_stands_first():
    """Expired before out of reach before soon; among those, what ends first."""
    sweep = swept(serving("a", left=20), serving("b", left=2), dark("c"), serving("d", left=-3))
    assert [f.target for f in sweep.findings] == ["d", "c", "b", "a"]
    assert sweep.count(Worry.EXPIRING) == 2
    assert Finding(target="x", record="Machines-1", worry=Worry.SHA1).key == ("Machines-1", Worry.SHA1)
