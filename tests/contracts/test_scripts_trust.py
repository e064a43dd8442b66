"""Whom a Tentacle trusts, changed and seen by visits: stories told under PowerShell and by its Python twin alike."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.domain.facts import Style, Trust
from bot.sandbox.pki import self_signed
from tests.contracts.test_scripts import ENGINE, OLD, Play, kinds, played

SERVER, NEXT, OTHER = (self_signed(name).thumbprint for name in ("server", "next", "other"))
HERE, THERE = "octopus.example:10943", "https://restored.example:10943/"
MARKED = f"\u200e{NEXT}"
"""As it is copied out of Windows' dialog: no text that Octopus would take for the thumbprint."""
TRUST = ("trust", "restart", "trusting")
IMPATIENT = {"program": 10, "stop": 5, "start": 5, "visit": 10, "loopback": 0.1}
"""Limits of visits that look for what is not there."""


def listening(text: str) -> Trust:
    """Return an entry that lets a Server in."""
    return Trust(text=text, style=Style.LISTENING)


def polling(text: str, address: str = f"https://{HERE}/", subscription: str = "poll://one/") -> Trust:
    """Return an entry by which a Server is polled."""
    return Trust(text=text, style=Style.POLLING, address=address, subscription=subscription)


def give(play: Play, *trusts: Trust) -> None:
    """Have the Tentacle trust these, and run with it."""
    style = Style.POLLING if all(t.style is Style.POLLING for t in trusts) else Style.LISTENING
    play.tentacle = play.host.add_tentacle("blue", port=10940, style=style, certificate=OLD, trusted=trusts)


def change(play: Play, *actions: str, **changes: Any) -> list[tuple[str, Any]]:
    """Carry out actions that change the trust from SERVER to NEXT."""
    plain = {"trust_old": SERVER, "trust_new": NEXT, "server_addresses": [HERE]}
    return play.apply(*actions, **plain | changes)


def texts(play: Play) -> list[str]:
    """Return the thumbprints in the file, as they stand there."""
    return [t.text for t in play.tentacle.trusted]


def honoured(play: Play) -> set[str]:
    """Return what the running process trusts."""
    return {t.text for t in play.tentacle.trusted_by_process}


def already(lines: list[tuple[str, Any]]) -> dict[str, bool]:
    """Return which actions ended, and whether their work was done already."""
    return {value["action"]: value["already"] for kind, value in lines if kind == "end"}


def value(lines: list[tuple[str, Any]], kind: str) -> Any:
    """Return the value of the only line of a kind."""
    [found] = [v for k, v in lines if k == kind]
    return found


def count(play: Play, kind: str) -> int:
    """Return how often something happened."""
    return sum(k == kind for k, _ in play.effects())


def phase(play: Play) -> tuple[str, str]:
    """Return run and phase of the host's journal."""
    journal = json.loads(Path(f"{play.tentacle.config}.octocert.json").read_text())
    return journal["run"], journal["phase"]


# ---- Stories


def trusted_beside_the_old_one_and_cleaned_up_by_another_key(play: Play) -> None:
    """Both phases of one run, each repeated: nothing is written or restarted twice, nothing of others goes."""
    give(play, listening(SERVER), listening(OTHER))
    for _ in range(2):
        lines = change(play, *TRUST, run="r-1-trust")
        assert [t["thumbprint"] for t in value(lines, "applied")["trusted"]] == [SERVER, OTHER, NEXT]
        assert value(lines, "applied")["trusting"] == [SERVER, OTHER, NEXT]
    assert already(lines) == {"trust": True, "restart": True, "trusting": False}
    assert (count(play, "trust"), count(play, "stop")) == (1, 1)
    assert phase(play) == ("r-1-trust", "started")

    for _ in range(2):
        lines = change(play, "untrust", "restart", "trusting", run="r-1-clean", limits=IMPATIENT)
        assert value(lines, "applied")["trusting"] == texts(play) == [OTHER, NEXT]
    assert (count(play, "trust"), count(play, "stop")) == (2, 2)
    assert honoured(play) == {OTHER, NEXT}
    assert not list(play.host.program_data.glob("octocert/*"))  # no copy of the configuration was taken
    play.inspect()


def trusted_in_the_documented_order(play: Play) -> None:
    """Stop, trust, start."""
    give(play, listening(SERVER))
    lines = change(play, "stop", "trust", "start", "trusting")
    assert kinds(lines).count("started") == 1
    assert honoured(play) == {SERVER, NEXT}
    lines = change(play, "stop", "trust", "start", "trusting")
    assert already(lines)["stop"]
    assert already(lines)["trust"]
    assert count(play, "stop") == 1


def interrupted(play: Play) -> None:
    """Visits die right after the list was written and while the service is stopped: the last one restarts it."""
    give(play, listening(SERVER))
    play.faults.kill_shell_at = "program"
    change(play, *TRUST)
    assert texts(play) == [SERVER, NEXT]
    assert honoured(play) == {SERVER}
    assert phase(play) == ("r-1", "trusting")

    play.faults.kill_shell_at = "stopped"
    lines = change(play, *TRUST)
    assert already(lines) == {"trust": True}

    lines = change(play, *TRUST)
    assert already(lines) == {"trust": True, "restart": False, "trusting": False}
    assert honoured(play) == {SERVER, NEXT}
    assert (count(play, "trust"), count(play, "stop"), play.host.schedule.tasks) == (1, 1, ())


def interrupted_in_the_documented_order(play: Play) -> None:
    """Dead right after the write, with the service stopped: it ends up running, by a process that knows the list."""
    give(play, listening(SERVER))
    play.faults.kill_shell_at = "program"
    change(play, "stop", "trust", "start")
    assert play.tentacle.service.is_stopped
    lines = change(play, "stop", "trust", "start", "trusting")
    assert value(lines, "applied")["trusting"] == [SERVER, NEXT]
    assert honoured(play) == {SERVER, NEXT}


def a_restart_before_the_write_does_not_count(play: Play) -> None:
    """Restart the service, and then change the list in the same run: it is restarted once more."""
    give(play, listening(SERVER))
    change(play, "restart")
    assert already(change(play, *TRUST))["restart"] is False
    assert honoured(play) == {SERVER, NEXT}
    assert count(play, "stop") == 2


def a_process_that_cannot_know_the_list_is_named(play: Play) -> None:
    """Written and not restarted: the file is right, the process is not, and the visit says so."""
    give(play, listening(SERVER))
    lines = change(play, "trust", "trusting", limits=IMPATIENT)
    applied = value(lines, "applied")
    assert applied["trusting"] == [SERVER]
    assert "has run since before the list was written" in applied["trusting_error"]
    play.inspect()


def a_log_that_is_gone_is_said(play: Play) -> None:
    """No log is no failure; and what another process of the same number once said is not believed."""
    give(play, listening(SERVER))
    log = play.tentacle.configuration.home / "Logs" / "OctopusTentacle.txt"
    pid = play.tentacle.service.process.pid
    said = f"  {pid:>6}      1   INFO  Agent will trust Octopus Servers with the thumbprint: {NEXT}\n"
    log.write_text("2020-01-01 00:00:00.0000" + said)
    applied = value(change(play, "trusting", limits=IMPATIENT), "applied")
    assert applied["trusting"] is None
    assert "tell nothing of the start of process" in applied["trusting_error"]
    log.unlink()
    assert value(change(play, "trusting", limits=IMPATIENT), "applied")["trusting"] is None
    log.parent.rmdir()
    assert (
        "Could not find a part of the path"
        in value(change(play, "trusting", limits=IMPATIENT), "applied")["trusting_error"]
    )
    # Rolled away since the start, as a log that grew too large is.
    log.parent.mkdir()
    log.with_name("OctopusTentacle.0.txt").write_text("2099-01-01 00:00:00.0000" + said)
    assert value(change(play, "trusting", limits=IMPATIENT), "applied")["trusting"] == [NEXT]


def nobody_is_trusted(play: Play) -> None:
    """Trust nobody: the process says so, which is not the same as saying nothing."""
    give(play, listening(SERVER))
    play.tentacle.configuration.set_trusted([])
    assert value(change(play, "restart", "trusting"), "applied")["trusting"] == []


def followed(play: Play) -> None:
    """Trust NEXT in the place of SERVER where a polling Tentacle meets a node of this Server; others stay."""
    second = "octopus-2.example:10943"
    both = {"server_addresses": [HERE.upper(), second]}
    give(play, polling(SERVER.lower()), polling(SERVER, f"https://{second}/"), polling(OTHER, THERE, "poll://two/"))
    lines = change(play, "retrust", "restart", "trusting", **both)
    assert value(lines, "applied")["trusting"] == texts(play) == [NEXT, NEXT, OTHER]
    assert next(v["changed"] for k, v in lines if k == "end") == 2
    assert [t.subscription for t in play.tentacle.trusted] == ["poll://one/", "poll://one/", "poll://two/"]
    assert already(change(play, "retrust", "restart", **both)) == {"retrust": True, "restart": True}
    assert count(play, "trust") == 1
    # And back again, by another run.
    change(play, "retrust", "restart", run="r-2", trust_old=NEXT, trust_new=SERVER, **both)
    assert texts(play) == [SERVER, SERVER, OTHER]


def followed_with_a_lost_answer(play: Play) -> None:
    """Dead right after the list was written: the next visit sees it, and restarts."""
    give(play, polling(SERVER))
    play.faults.kill_shell_at = "program"
    change(play, "retrust", "restart")
    assert already(change(play, "retrust", "restart")) == {"retrust": True, "restart": False}
    assert honoured(play) == {NEXT}
    assert count(play, "trust") == 1


def followed_where_it_listens_too(play: Play) -> None:
    """Move its registration on: both are let in already, and still are, and no entry is made twice."""
    give(play, listening(SERVER), polling(SERVER), listening(OTHER))
    change(play, *TRUST, run="r-1-trust")
    for _ in range(2):
        lines = change(play, "retrust", "restart", "trusting", run="r-1-follow")
        entries = [(t.text, t.style, t.subscription) for t in play.tentacle.trusted]
        assert sorted(entries) == sorted(
            [
                (NEXT, Style.LISTENING, None),
                (NEXT, Style.POLLING, "poll://one/"),
                (OTHER, Style.LISTENING, None),
                (SERVER, Style.LISTENING, None),
            ]
        )
        assert honoured(play) == {SERVER, NEXT, OTHER}
    assert already(lines) == {"retrust": True, "restart": True, "trusting": False}
    # And back again, by the same way; or on, to the end.
    change(play, "retrust", "restart", run="r-1-back", trust_old=NEXT, trust_new=SERVER)
    assert {(t.text, t.style) for t in play.tentacle.trusted if t.text != OTHER} == {
        (SERVER, Style.LISTENING),
        (SERVER, Style.POLLING),
        (NEXT, Style.LISTENING),
    }
    change(play, "retrust", "restart", run="r-2-follow")
    change(play, "untrust", "restart", run="r-2-clean")
    assert sorted(texts(play)) == sorted([NEXT, NEXT, OTHER])


def interrupted_between_its_lists(play: Play) -> None:
    """Die after the first of three changes: what runs lets both in still, and the next visit gets it to follow."""
    give(play, listening(SERVER), polling(SERVER))
    change(play, *TRUST, run="r-1-trust")
    play.faults.kill_shell_at = "program"
    change(play, "retrust", "restart", run="r-1-follow")
    assert texts(play) == [SERVER, SERVER]
    assert honoured(play) == {SERVER, NEXT}
    change(play, "retrust", "restart", run="r-1-follow")
    assert texts(play) == [NEXT, NEXT]
    assert honoured(play) == {NEXT}


def refused_at_another_servers_address(play: Play) -> None:
    """Refuse what would follow a restored clone of the Server, too: it has the same certificate."""
    give(play, polling(SERVER), polling(SERVER, THERE))
    lines = change(play, "stop", "retrust", "start")
    assert value(lines, "refused")["reason"] == "other-server"
    assert THERE in value(lines, "refused")["message"]
    assert texts(play) == [SERVER, SERVER]
    assert count(play, "stop") == 0  # nothing was stopped for it


def refused_duplicates(play: Play) -> None:
    """Where both stand for one address, update-trust would make an entry twice, and the program crash ever after."""
    give(play, polling(SERVER), polling(NEXT))
    assert value(change(play, "retrust"), "refused")["reason"] == "duplicate"
    assert texts(play) == [SERVER, NEXT]


def refused_where_nothing_polls_this_server(play: Play) -> None:
    """Neither the old nor the new thumbprint is trusted at one of its addresses."""
    give(play, polling(OTHER), listening(SERVER), polling(NEXT, THERE))
    assert value(change(play, "retrust"), "refused")["reason"] == "untrusted"


def refused_clean_up(play: Play) -> None:
    """Never without NEXT, never a polling Tentacle's registration; a marked copy of NEXT is none."""
    give(play, listening(SERVER), listening(MARKED))
    assert value(change(play, "untrust", "restart"), "refused")["reason"] == "untrusted"
    assert already(change(play, "trust"))["trust"] is False
    assert texts(play) == [SERVER, MARKED, NEXT]
    play.tentacle.trust(polling(SERVER))
    assert value(change(play, "untrust", run="r-2"), "refused")["reason"] == "polling"
    assert texts(play) == [SERVER, MARKED, NEXT, SERVER]
    play.inspect()


def exact_text(play: Play) -> None:
    """Case matters: the entry goes as it was found, another spelling of it stays."""
    give(play, listening(SERVER.lower()), listening(NEXT.lower()), polling(SERVER))
    assert already(change(play, "trust"))["trust"]
    change(play, "untrust", trust_old=SERVER.lower())
    assert texts(play) == [NEXT.lower(), SERVER]
    assert already(change(play, "untrust", trust_old=SERVER.lower()))["untrust"]


def exit_codes_are_not_believed(play: Play) -> None:
    """Crash at duplicates, as the program does: what it said is told, and the service runs at the end."""
    give(play, listening(SERVER))
    entries = [{"Thumbprint": NEXT, "CommunicationStyle": 0, "Address": None}] * 2
    play.tentacle.configuration.set("Tentacle.Communication.TrustedOctopusServers", json.dumps(entries))
    lines = change(play, "stop", "trust", "start")
    assert "Sequence contains more than one matching element" in value(lines, "error")["message"]
    assert play.tentacle.service.is_running


Story = Callable[[Play], None]
STORIES: list[Story] = [
    trusted_beside_the_old_one_and_cleaned_up_by_another_key,
    trusted_in_the_documented_order,
    interrupted,
    interrupted_in_the_documented_order,
    a_restart_before_the_write_does_not_count,
    a_process_that_cannot_know_the_list_is_named,
    a_log_that_is_gone_is_said,
    nobody_is_trusted,
    followed,
    followed_where_it_listens_too,
    interrupted_between_its_lists,
    followed_with_a_lost_answer,
    refused_at_another_servers_address,
    refused_duplicates,
    refused_where_nothing_polls_this_server,
    refused_clean_up,
    exact_text,
    exit_codes_are_not_believed,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda s: s.__name__)
def test_the_twin_tells_the_story(story: Story, tmp_path: Path) -> None:
    """What the story asserts holds for the Python twin."""
    with played(tmp_path) as play:
        story(play)


@pytest.mark.skipif(ENGINE is None, reason="no PowerShell (pwsh) is on the path to compare the twins with")
@pytest.mark.parametrize("story", STORIES, ids=lambda s: s.__name__)
def test_powershell_tells_it_line_by_line_the_same(story: Story, tmp_path: Path) -> None:
    """It holds for the script, too; and lines, files, scheduled tasks and effects are those of the twin."""
    logs = []
    for name, engine in (("engine", Path(ENGINE or "")), ("twin", None)):
        with played(tmp_path / name, engine) as play:
            story(play)
            logs.append([*play.log, ("effects", play.effects())])
    assert logs[1] == logs[0]
