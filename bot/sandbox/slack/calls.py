"""One call of the Web API: its arguments, and the errors that Slack answers with."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from bot.sandbox.slack.model import Channel, Json, frozen_json
from bot.sandbox.slack.workspace import Workspace

JSON_ARGUMENTS = ("blocks", "attachments", "metadata", "view", "files")  # in a form these arrive as JSON text


class SlackError(Exception):
    """An answer with `ok: false`; `details` are further fields of it."""

    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(code)
        self.code = code
        self.details = details

    def document(self) -> Json:
        """Return the answer's body."""
        return {"ok": False, "error": self.code, **self.details}


def invalid_blocks(errors: list[str], code: str = "invalid_blocks") -> SlackError:
    """Return the error for payloads that break a rule, with its messages in both places where Slack puts them."""
    return SlackError(code, errors=errors, response_metadata={"messages": [f"[ERROR] {text}" for text in errors]})


def arguments(content_type: str, query: str, body: bytes) -> Json:
    """Return the arguments of a call, from the query, a form or a JSON body.

    Raises SlackError `invalid_json`, `json_not_object`, `invalid_charset`, `invalid_blocks_format` (blocks in a
    form that are no JSON) or `invalid_arguments`.
    """
    given: Json = dict(parse_qsl(query, keep_blank_values=True))
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" and body.strip():
        try:
            document = json.loads(body)
        except ValueError:
            raise SlackError("invalid_json") from None
        if not isinstance(document, dict):
            raise SlackError("json_not_object")
        given |= document
    elif body:
        try:
            given |= dict(parse_qsl(body.decode(), keep_blank_values=True))
        except UnicodeDecodeError:
            raise SlackError("invalid_charset") from None
    for name in JSON_ARGUMENTS:
        if isinstance(given.get(name), str):
            try:
                given[name] = json.loads(given[name])
            except ValueError:
                raise SlackError("invalid_blocks_format" if name == "blocks" else "invalid_arguments") from None
    return given


class ApiCall:
    """The arguments of one call beside the workspace it is about."""

    def __init__(self, workspace: Workspace, method: str, given: Mapping[str, Any]) -> None:
        self.workspace = workspace
        self.method = method
        self.given = {name: frozen_json(value) for name, value in given.items() if value is not None}

    def text(self, name: str, default: str = "") -> str:
        """Return a string argument, or the default."""
        return str(self.given.get(name, default))

    def need(self, name: str, code: str = "invalid_arguments") -> str:
        """Return a string argument that must be there."""
        value = self.given.get(name)
        if value in {None, ""}:
            raise SlackError(code, response_metadata={"messages": [f"[ERROR] missing required field: {name}"]})
        return str(value)

    def flag(self, name: str) -> bool:
        """Return a boolean argument: true, "true" or "1"."""
        return self.given.get(name) in {True, "true", "True", "1"}

    def number(self, name: str, default: int) -> int:
        """Return a whole number, or the default."""
        try:
            return int(self.given.get(name, default))
        except (TypeError, ValueError):
            raise SlackError("invalid_arguments") from None

    def channel(self, *, member: bool = True) -> Channel:
        """Return the conversation of the argument `channel`; a person's id means the direct messages with that person.

        Raises SlackError `channel_not_found`, or `not_in_channel` when the bot must be a member and is not. A private
        channel without the bot is not found at all.
        """
        wanted = self.need("channel", "channel_not_found")
        if wanted in self.workspace.members and wanted.startswith("U") and member:
            return self.workspace.direct_channel(wanted)
        name = wanted.removeprefix("#")
        found = self.workspace.channels.get(wanted) or next(
            (c for c in list(self.workspace.channels.values()) if c.name == name), None
        )
        if found is None or (found.private and not found.bot_is_member):
            raise SlackError("channel_not_found")
        if member and not found.bot_is_member:
            raise SlackError("not_in_channel")
        return found

    def page(self, items: list[Json], default: int = 100) -> tuple[list[Json], Json]:
        """Return one page of a list by the arguments `limit` and `cursor`, and the answer's `response_metadata`."""
        limit = max(1, min(self.number("limit", default) or default, 1000))
        cursor = self.text("cursor")
        start = int(cursor.removeprefix("next:")) if cursor.startswith("next:") and cursor[5:].isdigit() else 0
        if cursor and not cursor.startswith("next:"):
            raise SlackError("invalid_cursor")
        more = start + limit < len(items)
        return items[start : start + limit], {"next_cursor": f"next:{start + limit}" if more else ""}
