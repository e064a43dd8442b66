"""Every message that the bot sends, by name. All are pure functions that return a `Message`."""

from bot.slack.answers import help_text, history, problem, status, status_one, unexpected, working
from bot.slack.inventory_message import inventory, inventory_attached, inventory_csv
from bot.slack.outcome_message import (
    approved,
    cancelled,
    closed,
    denied,
    expired,
    finished,
    more_trouble,
    opened,
    outcome,
    paused,
    result_attached,
    resumed,
    stale,
    stopped_itself,
    swept,
    swept_all,
)
from bot.slack.plan_message import plan_only, plan_posted, refusals
from bot.slack.report_messages import health_result, health_started, thumbprints

__all__ = [
    "approved",
    "cancelled",
    "closed",
    "denied",
    "expired",
    "finished",
    "health_result",
    "health_started",
    "help_text",
    "history",
    "inventory",
    "inventory_attached",
    "inventory_csv",
    "more_trouble",
    "opened",
    "outcome",
    "paused",
    "plan_only",
    "plan_posted",
    "problem",
    "refusals",
    "result_attached",
    "resumed",
    "stale",
    "status",
    "status_one",
    "stopped_itself",
    "swept",
    "swept_all",
    "thumbprints",
    "unexpected",
    "working",
]
