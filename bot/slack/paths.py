"""Where Slack finds the bot's own pages."""

EVENTS_PATH = "/slack/events"
"""Where Slack sends everything: commands, buttons and events. The same path as in Slack's own examples."""
