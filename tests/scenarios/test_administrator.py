"""An administrator's way, by the commands and files that a real one uses: from nothing to a rotation that is done."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bot.sandbox.sandbox import Sandbox
from tests.chaos.process import START_SECONDS, BotProcess
from tests.scenarios.town import DEADLINES, Town, free_address

PROGRAM = Path(sys.executable).with_name("octocert")


def octocert(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program without a terminal."""
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_behind_a_proxy_by_the_same_program(tmp_path: Path) -> None:
    """`octocert run --http`: ready when it says so, a rotation by signed requests, an orderly end."""
    address = free_address()
    town = Town(tmp_path, http=address)
    town.process = BotProcess(
        town.sandbox.config, tmp_path / "bot.log", "--http", f"{address.host}:{address.port}", installed=True
    )
    try:
        town.process.start()
        town.wait(lambda: _is_ready(f"http://{address.host}:{address.port}/readyz"), 60)
        found = octocert("doctor", "--config", town.sandbox.config, "--host", "web-01", "--json")
        names = [check["name"] for check in json.loads(found.stdout)["checks"]]
        assert "slack: signing secret" in names
        assert "slack: Socket Mode" not in names
        assert town.slack.http
        assert town.slack.http.verify_url()
        town.rotate("web-01")
        town.assert_good("web-01")
        assert town.process.stop() == 0
        assert "Traceback" not in town.process.log.read_text()
    finally:
        town.process.kill()
        town.sandbox.close()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Return a town without a bot: the administrator has yet to set one up."""
    built = Town(tmp_path)
    try:
        yield built
    finally:
        if built.process:
            built.process.kill()
        built.sandbox.close()


def secrets_of(sandbox: Sandbox) -> dict[str, str]:
    """Return what the administrator copies from Slack, Octopus and the domain, by the names of init's files."""
    return {
        "slack-bot-token": sandbox.slack.bot_token,
        "slack-app-token": sandbox.slack.app_token,
        "octopus-api-key": sandbox.octopus.api_key,
        "winrm-password": sandbox.world.account[1],
    }


def put(folder: Path, name: str, value: str) -> None:
    """Write a secret's file as it should be."""
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / name).touch(mode=0o600)
    (folder / name).write_text(value + "\n")


def test_from_nothing_to_a_rotation(town: Town, tmp_path: Path) -> None:
    """Init, edit, manifest, doctor with what is missing, mend, doctor, run, rotate; and the doctor beside the bot."""
    sandbox, home = town.sandbox, tmp_path / "home"
    home.mkdir()
    config, folder = home / "octocert.toml", home / "secrets"
    people = town.slack.people

    done = octocert(
        "init", "--defaults", "--out", config, "--octopus-url", town.octopus.url, "--username", town.world.account[0],
        "--ca-file", town.world.ca.file, "--approver", people["ada"].id, "--approver", people["ben"].id,
        "--secrets", folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert octocert("init", "--defaults", "--out", config).returncode == 2, "nothing is overwritten unasked"

    # What the administrator edits: where Slack is, which real ones need not, and where the hosts are.
    text = config.read_text().replace('# api_url = "https://slack.com/api/"', f'api_url = "{town.slack.api_url}"')
    text = re.sub(r"(?ms)^\[deadlines\].*?(?=^#? ?How the bot is watched|^# How the bot is watched)", DEADLINES, text)
    hosts = "".join(
        f'\n[[hosts]]\nmatch = "{name}"\naddress = "{instance.host.address}"\n'
        for name, instance in sandbox.estate.instances.items()
    )
    config.write_text(text + hosts)

    manifest = json.loads(octocert("manifest", "--config", config).stdout)
    town.slack.workspace.scopes = frozenset(manifest["oauth_config"]["scopes"]["bot"])

    done = octocert("doctor", "--config", config, "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert set(told["checks"][0]) == {"name", "ok", "detail", "advice"}
    first = next(check for check in told["checks"] if not check["ok"])
    assert first["name"] == "secret: [slack] bot_token"
    assert str(folder / "slack-bot-token") in first["detail"]
    assert "chmod 600" in first["advice"]

    for name, value in secrets_of(sandbox).items():
        put(folder, name, value)
    done = octocert("doctor", "--config", config, "--host", "web-01")
    assert done.returncode == 0, done.stdout
    assert "All " in done.stdout
    for value in secrets_of(sandbox).values():
        assert value not in done.stdout + done.stderr

    town.process = BotProcess(config, tmp_path / "bot.log", installed=True)
    town.process.start()
    town.slack.wait_connected(START_SECONDS)
    town.rotate("web-01")
    town.assert_good("web-01")
    done = octocert("doctor", "--config", config, "--host", "web-01", "--json")
    assert done.returncode == 0, done.stdout
    database = next(c for c in json.loads(done.stdout)["checks"] if c["name"] == "database")
    assert "its tables are there" in database["detail"]
    assert town.process.stop() == 0
    assert town.slack.violations == []
