"""From typed names to targets: exact, then whatever the case, never a guess."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.errors import UserError
from bot.domain.facts import EstateIndex, RecordKind, Style
from bot.domain.names import endpoint_of, match, targets
from tests.making import record

ESTATE = EstateIndex(
    records=(
        record("web-01", 1),
        record("web-02", 2),
        record("Web Server 1", 3),
        record("shared-01", 4, id="M-4a"),
        record("pay-01", 4, id="M-4b", space="Payments", uri="https://shared-01.example:10933/"),
        record("twin", 5, id="M-5a", uri="https://a.example:10933/"),
        record("twin", 6, id="M-5b", space="Payments", uri="https://b.example:10933/"),
        record("Case", 7, id="M-7", uri="https://c.example:10933/"),
        record("case", 8, id="M-8", uri="https://d.example:10933/"),
        record("edge-01", 9, style=Style.POLLING, uri="poll://abc123/"),
    ),
    other_machines=("linux-ssh",),
)


def named(*typed: str) -> list[str]:
    """Return the names of the targets that these names mean."""
    return [g.name for g in match(typed, ESTATE)]


def test_exact_names_are_found_in_their_order_and_each_once():
    """Also when a target is named twice, by two of its records."""
    assert named("web-02", "web-01", "web-02") == ["web-02", "web-01"]
    assert named("shared-01", "pay-01") == ["shared-01"]


def test_case_does_not_matter_unless_it_distinguishes():
    """An exact match is preferred; without one, two that differ by case only are ambiguous."""
    assert named("WEB-01", "web server 1") == ["web-01", "Web Server 1"]
    assert [g.records[0].id for g in match(["Case"], ESTATE)] == ["M-7"]
    with pytest.raises(UserError, match="“CASE” means more than one target"):
        named("CASE")


def test_records_with_the_same_thumbprint_and_endpoint_are_one_target():
    """Also across spaces."""
    group = match(["pay-01"], ESTATE)[0]
    assert [r.space for r in group.records] == ["Default", "Payments"]


def test_the_same_name_in_two_spaces_is_two_targets_until_the_space_is_named():
    """The refusal shows the names that work."""
    with pytest.raises(UserError) as raised:
        named("twin")
    for words in ("“twin (Default)”", "“twin (Payments)”", "https://a.example:10933/", "Nothing was done."):
        assert words in str(raised.value)
    assert named("twin (payments)") == ["twin (Payments)"]


def test_one_unknown_name_stops_everything_and_the_nearest_are_suggested():
    """Nothing is done for the others either; all that is wrong is said at once."""
    with pytest.raises(UserError) as raised:
        named("web-01", "web-03", "nowhere-at-all")
    text = str(raised.value)
    assert "“web-03”" in text
    assert "Did you mean" in text
    assert "“web-01”" in text
    assert "“nowhere-at-all” in Octopus that I may see. Nothing was done." in text


def test_a_machine_without_a_tentacle_is_said_to_have_no_certificate():
    """SSH and Kubernetes targets are known, and never rotated."""
    with pytest.raises(UserError, match="“linux-ssh” is no Tentacle"):
        named("linux-ssh")


def test_what_stands_between_names_in_a_sentence_does_not_matter():
    """Commas, and the spaces and quotes that a keyboard or a portal made."""
    assert named("web-01,", "web-02;") == ["web-01", "web-02"]
    assert named("web  server\u00a01") == ["Web Server 1"]
    estate = replace(ESTATE, records=(record("Rita\u2019s  box", 1), record("a,", 2)))
    assert [g.name for g in match(["rita's box", "a,"], estate)] == ["Rita\u2019s  box", "a,"]


def test_names_in_other_unicode_forms_are_the_same_name():
    """An é may be one character or two."""
    estate = replace(ESTATE, records=(record("caf\u00e9", 1),))
    assert [g.name for g in match(["cafe\u0301"], estate)] == ["caf\u00e9"]


def test_a_worker_and_a_target_of_one_name_in_one_space_can_be_told_apart():
    """Octopus allows that; the refusal shows names that work."""
    estate = EstateIndex(
        records=(
            record("dual", 1, id="Machines-1", uri="https://a:10933/"),
            record("dual", 2, id="Workers-1", uri="https://b:10933/", kind=RecordKind.WORKER),
            record("dual", 3, id="Workers-2", uri="https://c:10933/", kind=RecordKind.WORKER),
        )
    )
    with pytest.raises(UserError) as raised:
        match(["dual"], estate)
    expected = ["dual (Default, deployment target)", "dual (Default, Workers-1)", "dual (Default, Workers-2)"]
    assert [g.name for g in targets(estate)] == expected
    for group in targets(estate):
        assert f"“{group.name}”" in str(raised.value)
        assert match([group.name], estate) == (group,)


def test_a_name_that_means_many_targets_lists_a_few_and_counts_the_others():
    """A sentence, not a page."""
    estate = EstateIndex(
        records=tuple(record("dup", n, id=f"Machines-{n}", uri=f"https://h{n}:10933/") for n in range(1, 60))
    )
    with pytest.raises(UserError, match=r"\(56 more\)") as raised:
        match(["dup"], estate)
    assert len(str(raised.value)) < 500


def test_many_wrong_names_are_told_in_a_few_sentences():
    """Two hundred unknown names make no wall of text."""
    with pytest.raises(UserError, match=r"There are 197 more such names\. Nothing was done\.") as raised:
        match([f"nowhere-{n:03}" for n in range(200)], ESTATE)
    assert len(str(raised.value)) < 600


def test_every_name_of_a_target_leads_to_it():
    """What the bot calls a target can be typed as it stands."""
    for group in targets(ESTATE):
        assert match([group.name], ESTATE) == (group,)


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("https://Web-01.Example:10933/", "web-01.example:10933"),
        ("https://web-01.example/", "web-01.example:10933"),
        ("https://[::1]:10934/", "::1:10934"),
        ("not a uri", ":10933"),
        ("https://web-01:port/", None),
        ("https://[::1", None),
        ("", ":10933"),
    ],
)
def test_an_endpoint_is_read_from_any_uri_that_octopus_may_store(uri, endpoint):
    """A nonsensical one is an endpoint of its own and no error."""
    found = endpoint_of(record(uri=uri))
    assert found == (endpoint if endpoint is not None else found)
    assert isinstance(found, str)


def test_the_endpoint_of_a_polling_record_is_its_subscription():
    """Whatever its case and its last slash."""
    assert endpoint_of(record(style=Style.POLLING, uri="poll://ABC/")) == "poll://abc"


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), st.lists(st.text(max_size=30), max_size=4))
def test_whatever_is_typed_and_whatever_things_are_called(typed, uris):
    """Only UserError, and a name that is there is found or is ambiguous."""
    pairs = enumerate(zip(typed, uris, strict=False))
    strange = tuple(replace(record(n or "x", i + 20), id=f"S-{i}", uri=u) for i, (n, u) in pairs)
    estate = replace(ESTATE, records=ESTATE.records + strange)
    try:
        found = match(typed, estate)
    except UserError:
        return
    assert all(any(g.is_called(t) for g in found) for t in typed)


def test_targets_with_one_name_and_one_space_are_still_told_apart_or_refused():
    """Two endpoints under one name in one space: it is ambiguous, never the first one."""
    estate = EstateIndex(
        records=(
            record("dup", 1, id="A", uri="https://a:10933/"),
            record("dup", 2, id="B", uri="https://b:10933/"),
        )
    )
    with pytest.raises(UserError, match="more than one target"):
        match(["dup"], estate)
