"""Commands as people type them, and as keyboards and Slack disfigure them."""

import re
import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.domain.commands import COMMANDS, LONGEST, MOST_TARGETS, Command, parse, spec
from bot.domain.errors import UserError
from bot.domain.plan import Order


def test_nothing_at_all_asks_for_help():
    """An empty command, spaces, or only the mention of the bot."""
    for text in ("", "   ", "<@U0OCTOCERT>", "<@U0OCTOCERT|octocert>  ", "\u00a0\u200b"):
        assert parse(text) == Command(name="help")


def test_a_rotation_with_everything():
    """Targets, source, order, reason, and dangers that were acknowledged."""
    text = (
        'rotate web-01 "Web Server 1" --with pfx:web --order documented --reason "yearly rotation" '
        "--accept other-server:8F3A1B2C --accept last-worker:Build"
    )
    assert parse(text) == Command(
        name="rotate",
        arguments=("web-01", "Web Server 1"),
        source="pfx:web",
        order=Order.DOCUMENTED,
        reason="yearly rotation",
        accept=("other-server:8F3A1B2C", "last-worker:Build"),
    )


@pytest.mark.parametrize(
    "text",
    [
        'rotate "Web Server 1" --reason "a b"',
        "rotate “Web Server 1” --reason “a b”",  # curly quotes of a phone
        "rotate „Web Server 1“ —reason „a b“",  # German ones, and a long dash made of two short ones
        "rotate ‘Web Server 1’ –reason='a b'",  # noqa: RUF001
        "rotate «Web Server 1» --reason «a b»",
        "rotate\u00a0\u201cWeb Server 1\u201d\u00a0--reason\u00a0\u201ca b\u201d",
        "<@U0OCTOCERT> rotate “Web Server 1” --reason “a b”",
        "<@U0OCTOCERT|octocert> ROTATE “Web Server 1” --REASON “a b”",
        "rotate\n“Web Server 1”\n--reason “a b”\n",
        "\u200erotate “Web\u2060 Server 1” --reason “a b”",
        "rotate “Web Server 1” -reason “a b”",
        "rotate “Web Server 1” \u2212\u2212reason “a b”",  # two minus signs
        "rotate “Web Server 1” -\u2013reason “a b”",  # the second of two hyphens grew
        '`rotate "Web Server 1" --reason "a b"`',  # copied as code
        "<@U0OCTOCERT> /octocert rotate “Web Server 1” --reason “a b”",
    ],
)
def test_what_keyboards_and_slack_make_of_it_is_taken_back(text):
    """Curly quotes, long dashes, non-breaking and invisible characters, mentions, line ends."""
    command = parse(text)
    assert (command.name, command.arguments, command.reason) == ("rotate", ("Web Server 1",), "a b")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("<http://web-01|web-01>", "web-01"),
        ("<http://web-01.corp.example|web-01.corp.example>", "web-01.corp.example"),
        ("<https://web-01:10933/>", "https://web-01:10933/"),
        ("<mailto:web@example.com|web@example.com>", "web@example.com"),
        ("R&amp;D-01", "R&D-01"),
        ("a&lt;b&gt;", "a<b>"),
        ("'it''s'", "its"),
        ("C:\\path", "C:\\path"),
        ("#5", "#5"),
        ("web-01 <@U0RITA|rita> <#C1|ops> <!here>", "web-01"),
        ("`web-01`", "web-01"),
        ("-web-01", "-web-01"),
    ],
)
def test_a_name_arrives_as_it_was_typed(typed, meant):
    """Slack makes links of host names and entities of three characters; a backslash is no escape here."""
    assert parse(f"show-thumbprint {typed}").arguments == (meant,)


@pytest.mark.parametrize("name", ["show-thumbprint", "SHOW-THUMBPRINT", "showthumbprint", "show_thumbprint"])
def test_case_and_hyphens_of_a_command_do_not_matter(name):
    """It is meant anyway."""
    assert parse(f"{name} web-01").name == "show-thumbprint"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rotat web-01", "Did you mean `rotate`?"),
        ("xyzzy", "`help` lists what I can do"),
        ("rotate", "needs something more. Usage: `rotate TARGET…"),
        ("cancel", "Usage: `cancel RUN`"),
        ("cancel a b", "takes 1 at most"),
        ("rotate web-01 --resaon x", "Did you mean --reason?"),
        ("rotate web-01 --reason", "--reason needs a value"),
        ("rotate web-01 --reason=", "--reason needs a value"),
        ("rotate web-01 --reason a --reason b", "stands there twice"),
        ("rotate web-01 --order newest", "There is no order “newest”"),
        ("rotate web-01 --with pfx:", "is no source of certificates"),
        ("rotate web-01 --with backup:r-1", "is no source of certificates"),
        ("rotate web-01 \u2014resaon x", "Did you mean --reason?"),
        ("rotate web-01 --", "has no option --"),
        ("show-thumbprint web-01 --force 1", "has no option --force"),
        ('rotate "web-01', "quote without its other half"),
        ("rotate " + "web-01 " * (MOST_TARGETS + 1), f"takes {MOST_TARGETS} at most"),
        ("rotate " + "x" * LONGEST, "too long"),
    ],
)
def test_what_cannot_be_understood_is_explained_in_one_sentence(text, sentence):
    """What is wrong, and the usage or the nearest."""
    with pytest.raises(UserError, match=re.escape(sentence)) as raised:
        parse(text)
    assert len(str(raised.value)) < 600


def test_an_option_never_swallows_the_next_one():
    """A forgotten value is noticed: `--reason --order documented` is no reason called “--order”."""
    with pytest.raises(UserError, match="--reason needs a value"):
        parse("rotate web-01 --reason --order documented")

    with pytest.raises(UserError, match="--reason needs a value"):
        parse("rotate web-01 --reason \u2014order documented")


def test_a_person_named_in_a_reason_is_kept_by_name():
    """The approver and the audit log read who agreed; nobody is called by it."""
    command = parse('rotate web-01 --reason "agreed with <@U0ADA|ada>, see <#C1|ops> and <!here>, says <@U0BEN>"')
    assert command.reason == "agreed with @ada, see #ops and @here, says @U0BEN"


@pytest.mark.parametrize("typed", ["pfx:Web", "PFX:Web", "Pfx:Web"])
def test_the_kind_of_a_source_may_be_written_in_any_case(typed):
    """The name after it is as it was configured."""
    assert parse(f"rotate web-01 --with {typed}").source == "pfx:Web"
    assert parse("rotate web-01 --with NEW-CERTIFICATE").source == "new-certificate"


@pytest.mark.parametrize("row", COMMANDS, ids=lambda c: c.name)
def test_help_is_given_where_it_is_asked_for_as_in_a_shell(row):
    """`rotate --help` is `help rotate`."""
    for typed in ("--help", "-h", "\u2014help"):
        assert parse(f"{row.name} {typed}") == Command(name="help", arguments=(row.name,))


def test_a_runs_id_may_be_typed_in_any_case():
    """Phones begin with a capital."""
    assert parse("status R-7K2M9Q4X").arguments == ("r-7k2m9q4x",)
    assert parse("cancel R-7K2M9Q4X").arguments == ("r-7k2m9q4x",)
    assert parse("history Web-01").arguments == ("Web-01",)


def test_a_value_may_begin_with_dashes_after_an_equals_sign():
    """That is how to say it on purpose."""
    assert parse("rotate web-01 --reason=--urgent").reason == "--urgent"


def test_a_repeated_target_is_kept_once_or_twice_but_never_lost():
    """Names are matched later, each target once."""
    assert parse("rotate web-01 web-01").arguments == ("web-01", "web-01")


@pytest.mark.parametrize("row", COMMANDS, ids=lambda c: c.name)
def test_the_examples_of_every_command_are_understood(row):
    """Help shows nothing that the parser refuses."""
    for text in row.examples:
        assert parse(text).name == row.name
    assert row.usage.startswith(row.name)
    assert spec(row.name.upper()) is row


WORDS = st.sampled_from(
    [c.name for c in COMMANDS]
    + [f"--{o.name}" for c in COMMANDS for o in c.options]
    + ["web-01", "pfx:web", "documented", '"', "'", "“", "”", "`", "=", "<@U0ADA>", "<http://a|b>", "\\", "#", "&lt;"]
)
TYPED = st.one_of(st.text(max_size=200), st.lists(st.one_of(WORDS, st.text(max_size=12)), max_size=12).map(" ".join))


@given(TYPED)
@example("rotate \x00")
@example("<http://[|x>")
@example("rotate '''")
@example("--")
@example("rotate --")
@example("\ud800")
def test_whatever_is_typed_is_understood_or_explained(text):
    """The parser raises nothing but UserError, and its command fits the table."""
    try:
        command = parse(text)
    except UserError:
        return
    row = spec(command.name)
    assert row.least <= len(command.arguments) <= row.most
    assert all(argument.strip() for argument in command.arguments)


NAMES = st.text(st.characters(categories=("L", "N", "Zs"), include_characters="-_.()[]#$%*!?@"), min_size=1).map(
    lambda name: " ".join(name.split())
)


@given(st.lists(NAMES.filter(lambda name: name and name[0] not in "-/"), min_size=1, max_size=5))
def test_quoted_names_come_through_whole(names):
    """Whatever a target is called, quotes around it carry it."""
    assert parse("plan " + " ".join(f'"{n}"' for n in names)).arguments == tuple(names)


def test_a_dash_within_a_sentence_stays():
    """Only the one that stands where an option begins is taken back."""
    command = parse("rotate web-01 —reason “before the audit — at last”")
    assert command.reason == "before the audit — at last"


def test_shell_quoting_of_simple_names_is_understood():
    """People paste from terminals."""
    assert parse("plan " + shlex.join(["Web Server 1", "web-02"])).arguments == ("Web Server 1", "web-02")


def test_waves_and_budget_are_options_of_rotate():
    """Numbers are checked, and a flag takes no value."""
    command = parse("rotate web-01 web-02 --canary 0 --batch 50 --max-failures 3 --stop-on-failure")
    assert (command.canary, command.batch, command.max_failures, command.stop_on_failure) == (0, 50, 3, True)
    assert command.arguments == ("web-01", "web-02")
    flag_first = parse("rotate --stop-on-failure web-01")
    assert flag_first.arguments == ("web-01",)
    assert flag_first.stop_on_failure
    plain_one = parse("rotate web-01")
    assert (plain_one.canary, plain_one.batch, plain_one.max_failures) == (None, None, None)
    assert not plain_one.stop_on_failure


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--canary many", "whole number from 0 to 5000, not “many”"),
        ("--batch 0", "whole number from 1 to 1000"),
        ("--max-failures -1", "--max-failures"),
        ("--stop-on-failure=yes", "takes no value"),
    ],
)
def test_a_wrong_number_is_refused_with_what_may_stand_there(words, problem):
    """And the usage."""
    with pytest.raises(UserError, match=problem) as told:
        parse(f"rotate web-01 {words}")
    assert "Usage: `rotate" in str(told.value)
