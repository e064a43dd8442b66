"""No secret is stored, logged, sent to Slack or put on a command line: canaries are planted and searched for."""

import io
from pathlib import Path

import pytest
from click.testing import CliRunner

from bot import logs
from bot.cli import octocert
from bot.sandbox.sandbox import PFX_PASSWORD
from bot.sandbox.vault import VaultServer
from tests.scenarios.town import Town

MORE = """
[audit]
key = "file:{folder}/audit-key"
[vault]
address = "{vault}"
token = "file:{folder}/vault-token"
[certificates.pfx.vaulted]
path = "{pfx}"
password = "vault:octocert/pfx#password"
"""


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
    vault = VaultServer()
    vault.secrets["octocert/pfx"] = {"password": PFX_PASSWORD}
    vault.start()
    own = {"audit-key": "canary-of-the-audit-chain-7b1d0c", "vault-token": vault.token}
    for name, value in own.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(value)
    pfx = tmp_path / "town" / "certificates" / "octocert-demo.pfx"
    with Town(tmp_path, extra=MORE.format(folder=tmp_path, vault=vault.url, pfx=pfx)) as town:
        secrets = canaries(town) | own
        root = town.ask("rita", "rotate web-01 --with pfx:vaulted")
        town.press("ada", root, "Approve")
        town.end(root)
        town.tentacle("web-02").host.faults.import_fails = "the import failed"
        failed = town.ask("rita", "rotate web-02")
        town.press("ada", failed, "Approve")
        town.end(failed)
        town.tentacle("edge-01").host.faults.wrong_password = True
        town.ask("rita", "show-thumbprint edge-01")
        denied = town.ask("rita", "rotate worker-01")
        town.deny("ben", denied, "not now")
        town.says(denied, "not now")
        town.ask("rita", "freeze for a look")
        town.ask("ada", "unfreeze")
        town.ask_quietly("ada", "policy", "May approve")
        town.stop_bot()
        town.start_bot()
        town.rotate("shared-01")
        assert town.bot
        assert list(town.bot.audit.flaws()) == []
        slack = repr([(c.method, c.payload) for c in town.slack.traffic if c.direction == "bot"])
        effects = (town.world.root / "effects.jsonl").read_text()
        command_lines = "\n".join(town.world.command_lines)
        printed = CliRunner().invoke(octocert, ["audit", "export", "--config", str(town.sandbox.config)]).output
        town.stop_bot()
        database = b"".join(p.read_bytes() for p in town.sandbox.state.glob("octocert.sqlite*") if p.is_file())
    vault.stop()
    assert vault.reads > 0
    assert '"outcome"' in printed
    assert "outcome" in log.getvalue()
    assert "import-certificate" in command_lines
    for name, secret in secrets.items():
        places = {"Slack": slack, "effects": effects, "log": log.getvalue(), "a command line": command_lines}
        places["an export"] = printed
        for place, text in places.items():
            assert secret not in text, f"{name} is in {place}"
        assert secret.encode() not in database, f"{name} is in the database"


def test_rotated_tokens_of_slack_are_used_without_a_restart(town: Town) -> None:
    """Both are others from one moment to the next; the files are written anew, and the bot answers again."""
    assert town.bot
    for name, value in zip(("bot", "app"), town.slack.rotate_tokens(), strict=True):
        (town.sandbox.state / "secrets" / f"slack-{name}-token").write_text(value)
    slack = town.slack
    before = list(slack.hub.connections)
    town.bot.tokens.look()
    town.wait(lambda: slack.connections and not any(c in before for c in slack.hub.connections))
    town.rotate("web-01")
    town.assert_good("web-01")
