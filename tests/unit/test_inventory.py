"""The inventory: a row for each target, counts, and a file that no spreadsheet takes for formulas."""

import csv
import io
from dataclasses import replace
from datetime import timedelta

from bot.domain.facts import Health
from bot.domain.inventory import COLUMNS, counts_of, ordered, row_of, worries
from bot.slack import messages
from bot.slack.results import csv_text
from tests.making import NOW, certificate, facts, polling, record, thumbprint
from tests.runs import assert_valid, shown


def seen(name: str, seed: int = 1, **details):
    """Return a target that serves a certificate with these details."""
    one = facts(name, seed)
    return replace(one, sightings=(replace(one.sightings[0], certificate=certificate(seed, **details)),))


ODD = replace(seen("odd", 2), records=(record("odd", 99, health=Health.UNAVAILABLE),))
SOON = seen("soon", 3, not_after=NOW + timedelta(days=9))
GONE = seen("gone", 4, not_after=NOW - timedelta(days=1), signature_hash="sha1", key_bits=1024)
CLONE = replace(seen("clone", 5), clones=(record("twin", 5),))
LOST = facts("lost", 6, host=None, instance=None, sightings=(), host_error="no answer")
EVERY = [seen("fine", 1), ODD, SOON, GONE, CLONE, LOST, polling("edge-01", 7)]


def test_counts_are_what_people_ask_for():
    """Each sort once; what could not be seen is a sort of its own."""
    counts = counts_of([row_of(f, NOW) for f in EVERY])
    assert (counts.targets, counts.healthy, counts.inconsistent, counts.expired, counts.expiring) == (7, 6, 1, 1, 1)
    assert (counts.sha1, counts.weak, counts.shared, counts.unseen) == (1, 1, 1, 1)


def test_a_row_says_where_the_witnesses_disagree():
    """And nothing where they agree."""
    row = row_of(ODD, NOW)
    assert row.differs == f"configured {thumbprint(2)}, served {thumbprint(2)}, recorded {thumbprint(99)}"
    assert worries(row) == ["witnesses disagree", "unavailable"]
    assert worries(row_of(EVERY[0], NOW)) == []
    assert row_of(LOST, NOW).not_seen == "no answer"


def test_what_deserves_a_look_comes_first():
    """In the message and in the file."""
    rows = [row_of(f, NOW) for f in EVERY]
    assert [r.target for r in ordered(rows)][:2] == ["gone", "odd"]
    table = list(csv.DictReader(io.StringIO(messages.inventory_csv(rows))))
    assert tuple(table[0]) == COLUMNS
    assert table[0]["target"] == "gone"
    assert table[0]["days_left"] == "-1", "a number stays one"


def test_the_message_begins_with_counts_and_fits_however_many_there_are():
    """Of many only those worth a look are named."""
    few = messages.inventory([row_of(f, NOW) for f in EVERY], [])
    assert_valid(few)
    assert "6 of 7" in shown(few)
    many = [row_of(seen(f"web-{n}", n + 10), NOW) for n in range(3_000)] + [row_of(f, NOW) for f in EVERY]
    message = messages.inventory(many, ["left out because they have no Tentacle certificate: linux"])
    assert_valid(message)
    assert "web-17" not in shown(message)
    assert "odd" in shown(message)
    assert "linux" in shown(message)


def test_nothing_in_a_file_is_taken_for_a_formula():
    """A name from Octopus may begin with anything."""
    assert csv_text(["name"], [["=1+1"], ["@x"], ["two\nlines"], ["plain"]]) == "name\n'=1+1\n'@x\ntwo lines\nplain\n"
