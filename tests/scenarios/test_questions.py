"""Commands that change nothing."""

from tests.scenarios.town import Town


def test_show_thumbprint_has_three_witnesses(quiet_town: Town) -> None:
    """Configured, served, recorded, and the details of the certificate."""
    town = quiet_town
    answer = town.ask("rita", "show-thumbprint web-01")
    text = answer.content
    assert text.count(str(town.tentacle("web-01").configured)) >= 1
    for word in ("Configured", "Served", "Recorded", "CN=Octopus Tentacle", "RSA 2048"):
        assert word.casefold() in text.casefold()


def test_show_thumbprint_says_which_witness_differs(quiet_town: Town) -> None:
    """moved-01: Octopus records another thumbprint than the machine has."""
    town = quiet_town
    text = town.ask("otto", "show-thumbprint moved-01").content
    assert "Octopus" in text
    assert "record" in text.casefold()


def test_check_health_reports_what_octopus_found(quiet_town: Town) -> None:
    """The task's success is not the target's health: legacy-01 is unavailable, and the line says why."""
    town = quiet_town
    answer = town.ask("rita", "check-health web-01 legacy-01")
    town.wait(lambda: "Unavailable" in town.slack.message(answer.ts).content or "Unavailable" in town.thread(answer))
    assert "Healthy" in town.thread(answer)


def test_plan_shows_everything_and_offers_nothing(quiet_town: Town) -> None:
    """The same plan, without buttons; anybody may look."""
    town = quiet_town
    answer = town.ask("otto", "plan web-01 edge-01")
    assert "Approve" not in answer.buttons
    assert str(town.tentacle("edge-01").configured) in answer.content


def test_an_outsider_may_look_but_not_ask_for_changes(quiet_town: Town) -> None:
    """The refusal says what is possible instead."""
    town = quiet_town
    assert "ask for changes" in town.ask_quietly("otto", "rotate web-01", "changes")


def test_an_unknown_name_changes_nothing_and_is_helped(quiet_town: Town) -> None:
    """The nearest name is suggested."""
    town = quiet_town
    assert "web-01" in town.ask_quietly("rita", "rotate wbe-01 web-02", "Did you mean")


def test_an_unknown_command_is_helped(quiet_town: Town) -> None:
    """So is a typing mistake in the command."""
    town = quiet_town
    assert "rotate" in town.ask_quietly("rita", "rotaet web-01", "Did you mean")


def test_help_shows_only_what_the_asker_may_use(quiet_town: Town) -> None:
    """Otto sees no rotate."""
    town = quiet_town
    assert "rotate" in town.ask_quietly("rita", "help", "rotate")
    assert "`rotate" not in town.ask_quietly("otto", "help", "show-thumbprint")


def test_what_keyboards_make_of_a_command_is_understood(quiet_town: Town) -> None:
    """Curly quotes, a long dash, a non-breaking space, another case."""
    town = quiet_town
    answer = town.ask("rita", "ROTATE\u00a0WEB-01 \u2014reason \u201cthe yearly one\u201d")
    assert "the yearly one" in answer.content


def test_a_mention_in_a_thread_is_answered_there(quiet_town: Town) -> None:
    """Where Slack has no slash commands."""
    town = quiet_town
    root = town.ask("rita", "show-thumbprint web-01")
    town.slack.mention("rita", "deployments", "show-thumbprint web-02", thread=root.ts)
    town.says(root, str(town.tentacle("web-02").configured))


def test_status_and_history_tell_what_was_done(quiet_town: Town) -> None:
    """Who asked, who approved, old → new."""
    town = quiet_town
    old = str(town.tentacle("web-01").configured)
    root = town.rotate("web-01")
    assert root
    assert "web-01" in town.ask_quietly("rita", "status", "finished")
    history = town.ask_quietly("rita", "history web-01", "outcome")
    assert old[:8] in history
