"""The manifest asks for exactly what the code uses: the calls and listeners are collected from the code itself."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from slack_sdk import WebClient

from bot import cli
from bot.operating import manifest
from bot.sandbox.slack.scopes import NEEDED, needed

ROOT = Path(__file__).parents[2]
UPLOAD = {"files.upload.v2": ("files.getUploadURLExternal", "files.completeUploadExternal")}
SCOPES = re.compile(r"[a-z_]+(:[a-z_.]+)+|commands")


def trees() -> Iterator[ast.Module]:
    """Yield every module of the bot and its listeners, without the sandbox."""
    for path in [*(ROOT / "bot").rglob("*.py"), *(ROOT / "handlers").rglob("*.py")]:
        if "sandbox" not in path.parts:
            yield ast.parse(path.read_text(encoding="utf-8"))


def web_methods() -> dict[str, str]:
    """Return the methods of Slack's client by their Python names: `chat_postMessage` is `chat.postMessage`."""
    names = [n for n, _ in inspect.getmembers(WebClient, inspect.isfunction) if "_" in n.strip("_")]
    # api_call and what begins with an underscore are no methods of the Web API
    return {n: n.replace("_", ".") for n in names if not n.startswith("_") and n != "api_call"}


def called() -> set[str]:
    """Return the Web API methods that the code calls."""
    known, found = web_methods(), set()
    for tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in known:
                found |= set(UPLOAD.get(known[node.func.attr], (known[node.func.attr],)))
            elif node.func.attr == "api_call" and node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


def listened() -> set[str]:
    """Return the events that the listeners are registered for."""
    return {
        str(node.args[0].value)
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "event"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def test_every_call_of_the_code_is_in_the_table_of_methods():
    """Whoever calls another method adds it, with its scopes, to bot/operating/manifest.py; who drops one removes it."""
    assert called() | {"apps.connections.open"} == set(manifest.METHODS)


def test_every_event_that_is_listened_to_is_in_the_table_of_events():
    """An event that is not in the manifest would never arrive."""
    assert listened() == set(manifest.EVENTS)


def test_the_scopes_are_those_that_slack_asks_for():
    """The sandbox, which has its own table, would refuse nothing, and nothing is asked for that it does not want."""
    for method, scopes in manifest.METHODS.items():
        if method == "apps.connections.open":
            continue
        assert needed(method, None) <= set(scopes), method
        if method in NEEDED:
            assert scopes == (NEEDED[method],)


def run(*arguments: str) -> dict:
    """Return what `octocert manifest` prints."""
    done = CliRunner().invoke(cli.octocert, ["manifest", *arguments], catch_exceptions=False, standalone_mode=False)
    return json.loads(done.stdout)


def test_it_is_one_document_for_socket_mode(tmp_path, monkeypatch):
    """Slash command, mentions, buttons; and no address, for nothing connects to the bot."""
    monkeypatch.chdir(tmp_path)
    document = run()
    assert document["oauth_config"]["scopes"]["bot"] == list(manifest.scopes())
    assert all(SCOPES.fullmatch(scope) for scope in manifest.scopes())
    assert document["settings"]["socket_mode_enabled"] is True
    assert document["settings"]["event_subscriptions"] == {"bot_events": sorted(manifest.EVENTS)}
    (slash,) = document["features"]["slash_commands"]
    assert slash["command"] == "/octocert"
    assert "http" not in json.dumps(document)
    assert document["features"]["app_home"]["home_tab_enabled"] == ("app_home_opened" in manifest.EVENTS)


@pytest.mark.parametrize("given", ["https://bot.example.com", "https://bot.example.com/slack/events"])
def test_it_names_the_request_url_for_http(tmp_path, monkeypatch, given):
    """Everywhere that Slack posts to; the path may be left out."""
    monkeypatch.chdir(tmp_path)
    document = run("--http-url", given)
    url = "https://bot.example.com/slack/events"
    assert document["settings"]["socket_mode_enabled"] is False
    assert document["settings"]["event_subscriptions"]["request_url"] == url
    assert document["settings"]["interactivity"]["request_url"] == url
    assert document["features"]["slash_commands"][0]["url"] == url


def test_it_takes_the_slash_command_from_the_configuration(tmp_path, monkeypatch):
    """Named, or the octocert.toml of this folder."""
    monkeypatch.chdir(tmp_path)
    text = (
        (ROOT / "octocert.example.toml")
        .read_text(encoding="utf-8")
        .replace('# command = "/octocert"', 'command = "/certs"')
    )
    for name, arguments in (("octocert.toml", ()), ("other.toml", ("--config", "other.toml"))):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert run(*arguments)["features"]["slash_commands"][0]["command"] == "/certs"
        (tmp_path / name).unlink()
