"""A Slack on this machine: Web API, Socket Mode, a workspace in the browser, a validator of all that the bot sends."""

from bot.sandbox.slack.model import Call, Channel, Message, Person, Receipt, SlackFaults
from bot.sandbox.slack.server import SlackServer

__all__ = ["Call", "Channel", "Message", "Person", "Receipt", "SlackFaults", "SlackServer"]
