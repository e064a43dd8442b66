"""The demo: the real bot against the sandbox, in a browser or as a story told in the terminal."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from bot.app import Bot
from bot.sandbox import fleet_story, server_story, stories
from bot.sandbox.sandbox import Sandbox
from bot.settings import load
from bot.signals import LOOK_SECONDS

Register = Callable[..., None]
STORIES: dict[str, Callable[[Sandbox, stories.Say], stories.Ending]] = {
    "tentacle": stories.tentacle,
    "failure": stories.failure,
    "server": server_story.server,
    "fleet": fleet_story.fleet,
}
IMPATIENT = "[deadlines]\nhealth_repeat = 20\n"
"""Configuration of a story that is told: one target of the estate never gets well, which need not take minutes."""
RADAR = '[radar]\nchannel = "C0RADAR"\n'
"""Configuration of a demo in a browser: the Home tab shows the estate, and a channel of its own what deserves care."""
HOSTS = 12
"""Tentacles of the estate, unless the story wants another number."""


@contextmanager
def _folder(state: Path | None) -> Iterator[Path]:
    if state is not None:
        state.mkdir(parents=True, exist_ok=True)
        if any(state.iterdir()):
            raise click.UsageError(f"{state} is not empty. Name a new folder: the demo never mixes two worlds.")
        yield state.resolve()
        return
    path = Path(tempfile.mkdtemp(prefix="octocert-demo-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _say_what_it_is(sandbox: Sandbox) -> None:
    engine = sandbox.world.powershell
    what = f"a real PowerShell ({engine.name})" if engine else "their Python twins (no pwsh is on the path)"
    click.echo(f"The hosts run the remote scripts in {what}.", err=True)


def serve(
    port: int, hosts: int | None, seed: int, state: Path | None, register: Register, *, bind: str | None = None
) -> int:
    """Serve the demo's page until Ctrl-C; return the exit code."""
    with _folder(state) as folder:
        sandbox = Sandbox(folder, hosts=hosts or HOSTS, seed=seed, pace=1.0, port=port, bind=bind, extra=RADAR)
        try:
            bot = Bot(load(sandbox.config), register)
            bot.start()
            _say_what_it_is(sandbox)
            click.echo(f"\n  octocert's demo is at  {sandbox.slack.url}\n\nCtrl-C ends it.")
            sys.stdout.flush()
            try:
                while True:
                    time.sleep(LOOK_SECONDS)
            except KeyboardInterrupt:
                click.echo("\nThe demo ends.", err=True)
            finally:
                bot.stop()
        finally:
            sandbox.close()
    return 0


def play(story: str, as_json: bool, hosts: int | None, seed: int, state: Path | None, register: Register) -> int:
    """Play a story through the same wires and print its thread; return 0 only if the world ended as promised."""
    with _folder(state) as folder:
        pace = float(os.environ.get("OCTOCERT_DEMO_PACE", "0.3"))
        number = hosts or (fleet_story.HOSTS if story == "fleet" else HOSTS)
        sandbox = Sandbox(folder, hosts=number, seed=seed, pace=pace, real_limits=False, extra=IMPATIENT)
        try:
            bot = Bot(load(sandbox.config), register)
            bot.start()
            _say_what_it_is(sandbox)
            try:
                result = STORIES[story](sandbox, lambda text: click.echo(text, err=as_json))
            finally:
                bot.stop()
        finally:
            sandbox.close()
    if as_json:
        click.echo(json.dumps({"story": story, "ok": result.ok, "targets": result.targets}))
    return 0 if result.ok else 1
