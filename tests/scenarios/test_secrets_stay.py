"""No secret is stored, logged, sent to Slack or put on a command line: canaries are planted and searched for."""

import io
from pathlib import Path

import pytest

from bot import logs
from bot.sandbox.sandbox import PFX_PASSWORD
from tests.scenarios.town import Town


def canaries(town: Town) -> dict[str, str]:
    """Return every secret of the town by its name; the PFX's key is looked for by a part of its number."""
    files = {p.name: p.read_text().strip() for p in (town.sandbox.state / "secrets").iterdir()}
    assert files["pfx-password"] == PFX_PASSWORD
    return files


@pytest.mark.usefixtures("logs_as_before")
def test_canaries_are_nowhere(tmp_path: Path) -> None:
    """Success, failure and a restart; then files, Slack, logs and what the hosts were told are searched."""
    log = io.StringIO()
    logs.configure("DEBUG", "json", stream=log)
    with Town(tmp_path) as town:
        secrets = canaries(town)
        root = town.ask("rita", "rotate web-01 --with pfx:demo")
        town.press("ada", root, "Approve")
        town.end(root)
        town.tentacle("web-02").host.faults.import_fails = "the import failed"
        failed = town.ask("rita", "rotate web-02")
        town.press("ada", failed, "Approve")
        town.end(failed)
        town.tentacle("edge-01").host.faults.wrong_password = True
        town.ask("rita", "show-thumbprint edge-01")
        town.stop_bot()
        town.start_bot()
        town.rotate("shared-01")
        slack = repr([(c.method, c.payload) for c in town.slack.traffic if c.direction == "bot"])
        effects = (town.world.root / "effects.jsonl").read_text()
        command_lines = "\n".join(town.world.command_lines)
        town.stop_bot()
        database = b"".join(p.read_bytes() for p in town.sandbox.state.glob("octocert.sqlite*"))
    assert "outcome" in log.getvalue()
    assert "import-certificate" in command_lines
    for name, secret in secrets.items():
        places = {"Slack": slack, "effects": effects, "log": log.getvalue(), "a command line": command_lines}
        for place, text in places.items():
            assert secret not in text, f"{name} is in {place}"
        assert secret.encode() not in database, f"{name} is in the database"


def test_rotated_tokens_of_slack_are_used_without_a_restart(town: Town) -> None:
    """Both are others from one moment to the next; the files are written anew, and the bot answers again."""
    assert town.bot
    for name, value in zip(("bot", "app"), town.slack.rotate_tokens(), strict=True):
        (town.sandbox.state / "secrets" / f"slack-{name}-token").write_text(value)
    before = town.slack.calls("apps.connections.open")
    town.bot.tokens.look()
    town.wait(lambda: len(town.slack.calls("apps.connections.open")) > len(before))
    town.slack.wait_connected()
    town.rotate("web-01")
    town.assert_good("web-01")
