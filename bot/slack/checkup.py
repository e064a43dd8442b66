"""A look at Slack for whoever sets the bot up: whose tokens these are, what they may do, who is in a user group."""

from dataclasses import dataclass

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.domain.errors import UserError

SECONDS = 15
"""How long one call may take."""


class SlackRefusalError(UserError):
    """Slack answered that it will not; `code` is its word for why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class BotLook:
    """What a bot token is."""

    team: str
    user: str
    scopes: tuple[str, ...] | None
    """As Slack granted them; None where it does not tell."""


class Checkup:
    """Asks Slack, and changes nothing there."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url

    def bot(self, token: str) -> BotLook:
        """Return whose bot token this is."""
        try:
            answer = self._client(token).auth_test()
        except SlackApiError as error:
            raise _refused(error) from None
        except (OSError, SlackClientError) as error:
            raise _away(self._api_url, error) from None
        if not answer.get("bot_id"):
            raise SlackRefusalError("not_a_bot", "This token belongs to a person or an app, not to a bot.")
        granted = next((v for k, v in answer.headers.items() if k.lower() == "x-oauth-scopes"), None)
        scopes = tuple(sorted(s.strip() for s in str(granted).split(",") if s.strip())) if granted is not None else None
        return BotLook(team=str(answer.get("team")), user=str(answer.get("user")), scopes=scopes)

    def may_connect(self, app_token: str) -> None:
        """Ask for a Socket Mode connection, which is then not made; SlackRefusalError if there would be none."""
        try:
            self._client(app_token).apps_connections_open(app_token=app_token)
        except SlackApiError as error:
            raise _refused(error) from None
        except (OSError, SlackClientError) as error:
            raise _away(self._api_url, error) from None

    def user_groups(self, token: str) -> dict[str, int | None]:
        """Return the ids of the workspace's user groups with the number of their members."""
        try:
            answer = self._client(token).usergroups_list(include_count=True)
        except SlackApiError as error:
            raise _refused(error) from None
        except (OSError, SlackClientError) as error:
            raise _away(self._api_url, error) from None
        return {str(g["id"]): _count(g.get("user_count")) for g in answer.get("usergroups") or []}

    def _client(self, token: str) -> WebClient:
        return WebClient(token=token, base_url=self._api_url, timeout=SECONDS)


def _count(value: object) -> int | None:
    return int(str(value)) if str(value).isdigit() else None


def _refused(error: SlackApiError) -> SlackRefusalError:
    code = str(error.response.get("error") or f"http_{error.response.status_code}")[:100]
    return SlackRefusalError(code, f"Slack refuses it: {code}.")


def _away(api_url: str, error: Exception) -> UserError:
    reason = getattr(error, "reason", None) or type(error).__name__
    return UserError(f"Slack at {api_url} cannot be reached ({reason}). See to the network, and to [slack] api_url.")
