"""Slack listeners and nothing else: each acknowledges at once and hands on what it got. Nothing slow happens here."""

from slack_bolt import App

from bot.runs.desk import Desk
from bot.runs.front import Front
from handlers import actions, commands, errors, events, home, options, views


def register(app: App, desk: Desk, front: Front, *, command: str) -> None:
    """Register all listeners on a Bolt app. `command` is the slash command's name, such as `/octocert`."""
    commands.register(app, desk, front, command=command)
    events.register(app, desk)
    actions.register(app, desk, front)
    home.register(app, front)
    options.register(app, front)
    views.register(app, desk)
    errors.register(app)
