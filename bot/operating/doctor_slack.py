"""The doctor's look at Slack: tokens, scopes, the way in, user groups."""

import re

from bot.operating import manifest
from bot.operating.examination import Examination, FailedCheckError, Good
from bot.settings import Settings
from bot.slack.checkup import BotLook, Checkup, SlackRefusalError

BOT, SCOPES, SOCKET, SIGNING, GROUPS = (
    "slack: bot token",
    "slack: scopes",
    "slack: Socket Mode",
    "slack: signing secret",
    "slack: user groups",
)
_SIGNING = re.compile(r"[0-9a-f]{32}")
_GROUP = re.compile(r"\bS[A-Z0-9]{5,}\b")
_AGAIN = "Make the app anew from `octocert manifest`, or change it so, and install it again under OAuth & Permissions."


def examine(found: Examination, settings: Settings) -> None:
    """Look at everything of [slack]."""
    slack = Checkup(settings.slack.api_url)
    bot_secret, app_secret, signing = (f"secret: [slack] {k}" for k in ("bot_token", "app_token", "signing_secret"))

    def bot() -> Good:
        token = found.value(bot_secret).reveal()
        if token.startswith("xapp-"):
            raise FailedCheckError(
                "This is the app-level token (xapp-…), not the bot token.",
                "Exchange the two references, or copy the token xoxb-… from OAuth & Permissions.",
            )
        try:
            look = slack.bot(token)
        except SlackRefusalError as error:
            raise FailedCheckError(
                str(error), "Copy the token xoxb-… from the app's page OAuth & Permissions, after installing the app."
            ) from None
        return Good(f"{look.user} in the workspace {look.team}.", look)

    found.check(BOT, bot, needs=[bot_secret])
    found.check(SCOPES, lambda: _scopes(found.value(BOT)), needs=[BOT])
    if settings.slack.app_token:
        found.check(SOCKET, lambda: _socket(slack, found.value(app_secret).reveal()), needs=[app_secret])
    if settings.slack.signing_secret:
        found.check(SIGNING, lambda: _signing(found.value(signing).reveal()), needs=[signing])
    if wanted := _groups_in(settings):
        found.check(GROUPS, lambda: _groups(slack, found.value(bot_secret).reveal(), wanted), needs=[SCOPES])


def _scopes(look: BotLook) -> Good:
    if look.scopes is None:
        return Good("Slack does not tell the token's scopes.", advice="Compare them with `octocert manifest`.")
    missing = sorted(set(manifest.scopes()) - set(look.scopes))
    if missing:
        raise FailedCheckError(f"The app lacks the scopes {', '.join(missing)}.", _AGAIN)
    more = sorted(set(look.scopes) - set(manifest.scopes()))
    hint = f"Not needed, and better taken away: {', '.join(more)}." if more else ""
    return Good(f"All {len(manifest.scopes())} that the bot uses are granted.", look.scopes, hint)


def _socket(slack: Checkup, token: str) -> Good:
    if token.startswith("xoxb-"):
        raise FailedCheckError(
            "This is the bot token (xoxb-…), not the app-level token.",
            "Exchange the two references, or make a token xapp-… under Basic Information → App-Level Tokens.",
        )
    try:
        slack.may_connect(token)
    except SlackRefusalError as error:
        advice = {
            "missing_scope": "Give the app-level token the scope connections:write.",
            "link_disabled": "Switch Socket Mode on, on the app's page Socket Mode.",
            "not_allowed_token_type": "Make a token xapp-… under Basic Information → App-Level Tokens.",
        }.get(error.code, "Make a new token under Basic Information → App-Level Tokens, with connections:write.")
        raise FailedCheckError(str(error), advice) from None
    return Good("Slack would take a connection.")


def _signing(secret: str) -> Good:
    odd = "" if _SIGNING.fullmatch(secret) else "Slack's have 32 digits and letters a-f: is it the right one?"
    there = "It is there. Whether Slack signs with it shows at the first request to octocert run --http."
    return Good(there, advice=odd)


def _groups_in(settings: Settings) -> tuple[str, ...]:
    """Return the ids of user groups that [policy] names anywhere."""
    return tuple(dict.fromkeys(_GROUP.findall(repr(settings.policy))))


def _groups(slack: Checkup, token: str, wanted: tuple[str, ...]) -> Good:
    there = slack.user_groups(token)
    gone = [group for group in wanted if group not in there]
    if gone:
        raise FailedCheckError(
            f"The workspace has no user group {', '.join(gone)}.",
            "Copy the id (S…) from the group's page in Slack into [policy].",
        )
    empty = [group for group in wanted if there[group] == 0]
    if empty:
        raise FailedCheckError(f"The user group {', '.join(empty)} has no members.", "Add members to it in Slack.")
    return Good(f"{len(wanted)} of [policy] found.", there)
