"""Selectors: names as ever; terms of a kind add up, kinds narrow each other, `not:` takes away; never a guess."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.domain.errors import UserError
from bot.domain.facts import EstateIndex, RecordKind
from bot.domain.selectors import select
from tests.making import NOW, certificate, facts, polling, record, thumbprint

ESTATE = EstateIndex(
    records=(
        record("web-01", 1, environments=("Production",), roles=("web",), signature_algorithm="sha256RSA"),
        record("web-02", 2, environments=("Staging",), roles=("web",), signature_algorithm="sha1RSA"),
        record("api-01", 3, environments=("Pre Production",), roles=("api",), tenants=("Acme",)),
        record("pay-01", 4, space="Payments", roles=("api", "web")),
        record("worker-01", 5, kind=RecordKind.WORKER, environments=(), roles=(), pools=("Windows workers",)),
        record("all", 6, roles=("odd",)),
    ),
    other_machines=("linux-ssh",),
)


def chosen(*words: str) -> list[str]:
    """Return the names of the targets that these words mean."""
    return [g.name for g in select(words, ESTATE).groups]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["web-01", "pay-01"], ["web-01", "pay-01"]),
        (["web-*"], ["web-01", "web-02"]),
        (["WEB-0?", "api-01"], ["web-01", "web-02", "api-01"]),
        (["env:production"], ["web-01", "pay-01", "all"]),
        (["env:Pre Production"], ["api-01"]),
        (["env:*production"], ["web-01", "api-01", "pay-01", "all"]),
        (["env:Production", "env:Staging"], ["web-01", "web-02", "pay-01", "all"]),
        (["env:Production", "role:web"], ["web-01", "pay-01"]),
        (["role:web", "space:Payments"], ["pay-01"]),
        (["tenant:acme"], ["api-01"]),
        (["pool:windows*"], ["worker-01"]),
        (["workers"], ["worker-01"]),
        (["targets", "not:role:web", "not:all"], ["api-01"]),
        (["web-*", "not:web-01"], ["web-02"]),
        (["web-*,", "env:Staging"], ["web-02"]),
    ],
)
def test_what_words_mean(words, names):
    """Case makes no difference, and a glob may stand for any name."""
    assert chosen(*words) == names


def test_a_name_that_exists_is_a_name_whatever_it_looks_like():
    """A target is called “all”: whoever types that means it, and gets no more than one."""
    assert chosen("all") == ["all"]
    without = replace(ESTATE, records=ESTATE.records[:-1])
    assert len(select(["all"], without).groups) == 5


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["env:Prodution"], "“env:Prodution” matches no target that I may see. Did you mean “Production”"),
        (["tenant:Nobody"], "There are: Acme"),
        (["web-9*"], "matches no target"),
        (["web-01", "not:env:Stagign"], "Did you mean “Staging”"),
        (["env:Staging", "role:api"], "env:Staging means 1, role:api means 2"),
        (["web-01", "not:web-*"], "takes away 2"),
        (["not:env:Staging"], "Say first which targets"),
        (["not:not:web-01"], "says not what is taken away"),
        (["expiring:soon"], "needs a time span"),
        (["env:"], "lacks the name of the environment"),
        (["web-03"], "There is no target “web-03”.* Did you mean"),
        (["linux-ssh"], "is no Tentacle"),
        (["web-01", "nobody", "nowhere"], "“nobody”.*“nowhere”"),
    ],
)
def test_what_means_nothing_says_so(words, problem):
    """A typing mistake in what is to be taken away is refused as well: it would leave it in."""
    with pytest.raises(UserError, match=problem):
        select(words, ESTATE)


def test_what_is_left_out_is_told():
    """Machines without such a certificate, and spaces that the key cannot read; of plain names nothing is missing."""
    limited = replace(ESTATE, unreadable_spaces=("Secret (missing: MachineView)",))
    notes = " ".join(select(["targets"], limited).notes)
    assert "linux-ssh" in notes
    assert "Secret" in notes
    assert select(["web-01"], limited).notes == ()


def test_sha1_needs_no_look_where_octopus_knows():
    """Those that it noted otherwise are no candidates; those of which it knows nothing are looked at."""
    selection = select(["sha1", "targets"], ESTATE)
    assert [g.name for g in selection.groups] == ["web-02", "api-01", "pay-01", "all"]
    assert selection.needs_look


def seen(name: str, **details):
    """Return a target that serves a certificate with these details."""
    one = facts(name)
    sighting = replace(one.sightings[0], certificate=certificate(1, **details))
    return replace(one, sightings=(sighting,))


def test_what_only_a_look_tells():
    """Expiry, age, weak keys and witnesses that disagree; None where it could not be seen."""
    soon, old = seen("soon", not_after=NOW + timedelta(days=20)), seen("old", not_before=NOW - timedelta(days=800))
    weak, unseen = seen("weak", key_bits=1024), polling("edge-01")
    odd = replace(seen("odd"), records=(record("odd", 99),))
    assert odd.recorded == (thumbprint(99),)

    def answers(*words):
        selection = select(words, ESTATE)
        return [selection.keep(one, NOW) for one in (soon, old, weak, odd, unseen)]

    assert answers("expiring:30d") == [True, False, False, False, None]
    assert answers("older:2y") == [False, True, False, False, None]
    assert answers("weak") == [False, False, True, False, None]
    assert answers("inconsistent") == [False, False, False, True, False]
    assert answers("expiring:3w", "expiring:1d") == [True, False, False, False, None]
    assert answers("expiring:30d", "weak") == [False, False, False, False, None]
    assert answers("targets", "not:weak") == [True, True, False, True, None]


def test_five_thousand_targets_are_selected_at_once():
    """Without a quadratic step: an estate of that size takes well under a second."""
    estate = EstateIndex(records=tuple(record(f"t{n:05}", n + 1, id=f"M-{n}") for n in range(5_000)))
    assert len(select(["t*", "env:Production", "not:t04*"], estate).groups) == 4_000
    assert len(select(["all"], estate).groups) == 5_000
    with pytest.raises(UserError, match="5000 at most"):
        select(["all"], replace(estate, records=(*estate.records, record("more", 9_999))))
