"""Every message that the bot sends, by name. All are pure functions that return a `Message`."""

from bot.slack.answers import help_text, history, problem, status, status_one, unexpected, working
from bot.slack.guard_message import counted, frozen, policy, reminder, unfrozen
from bot.slack.inventory_message import inventory, inventory_attached, inventory_csv
from bot.slack.outcome_message import (
    approved,
    broke_off,
    cancelled,
    closed,
    denied,
    expired,
    finished,
    gate_decided,
    more_trouble,
    opened,
    outcome,
    paused,
    plan_attached,
    result_attached,
    resumed,
    skipped,
    stale,
    stopped_itself,
    swept,
    swept_all,
    wordless,
)
from bot.slack.plan_message import plan_only, plan_posted, refusals
from bot.slack.report_messages import health_result, health_started, thumbprints
from bot.slack.server_message import asks_on
from bot.slack.server_message import away as server_away
from bot.slack.server_message import clean_up as server_clean_up
from bot.slack.server_message import cleaned as server_cleaned
from bot.slack.server_message import looked_again as server_looked_again
from bot.slack.server_message import machines as server_machines
from bot.slack.server_message import made as server_made
from bot.slack.server_message import not_yet as server_not_yet
from bot.slack.server_message import note as server_note
from bot.slack.server_message import refused as server_refused
from bot.slack.server_message import switched as server_switched
from bot.slack.server_report import health as server_health
from bot.slack.server_report import thumbprint as server_thumbprint

__all__ = [
    "approved",
    "asks_on",
    "broke_off",
    "cancelled",
    "closed",
    "counted",
    "denied",
    "expired",
    "finished",
    "frozen",
    "gate_decided",
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
    "plan_attached",
    "plan_only",
    "plan_posted",
    "policy",
    "problem",
    "refusals",
    "reminder",
    "result_attached",
    "resumed",
    "server_away",
    "server_clean_up",
    "server_cleaned",
    "server_health",
    "server_looked_again",
    "server_machines",
    "server_made",
    "server_not_yet",
    "server_note",
    "server_refused",
    "server_switched",
    "server_thumbprint",
    "skipped",
    "stale",
    "status",
    "status_one",
    "stopped_itself",
    "swept",
    "swept_all",
    "thumbprints",
    "unexpected",
    "unfrozen",
    "wordless",
    "working",
]
