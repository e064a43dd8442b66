"""What people do: commands, mentions, buttons, modals; each as the payload that Slack sends; and the answers."""

import json
import secrets
from typing import Any

from bot.sandbox.slack.calls import SlackError
from bot.sandbox.slack.chat import checked, compose, with_ids
from bot.sandbox.slack.delivery import Delivery
from bot.sandbox.slack.model import (
    APP_ID,
    BOT_USER_ID,
    TEAM_ID,
    Channel,
    Element,
    Json,
    Message,
    Person,
    Receipt,
    elements_of,
)
from bot.sandbox.slack.triggers import ResponseUrl, Triggers
from bot.sandbox.slack.views import checked_view, drop, replace_view, show
from bot.sandbox.slack.workspace import Workspace

TOKEN = "sandbox-verification"  # Slack's old verification token; nobody should look at it
DOMAIN = "sandbox"


class Interactions:
    """Turns people's doings into deliveries; its coroutines belong to the server's loop."""

    def __init__(self, workspace: Workspace, delivery: Delivery, triggers: Triggers, events: frozenset[str]) -> None:
        self.workspace = workspace
        self.delivery = delivery
        self.triggers = triggers
        self.events = events
        self.base_url = ""

    def _response_url(self, **details: Any) -> str:
        """Return a new response URL."""
        return f"{self.base_url}/response/{self.triggers.open_response(**details)}"

    def _user(self, person: Person) -> Json:
        """Return a person as interaction payloads name one."""
        return {"id": person.id, "username": person.name, "name": person.name, "team_id": TEAM_ID}

    def _envelope(self, person: Person) -> Json:
        """Return the fields that all interaction payloads share."""
        return {
            "user": self._user(person),
            "api_app_id": APP_ID,
            "token": TOKEN,
            "team": {"id": TEAM_ID, "domain": DOMAIN},
            "enterprise": None,
            "is_enterprise_install": False,
        }

    # --- commands and messages --------------------------------------------------------------------------------

    async def command(self, user: str, channel: str, text: str, command: str = "/octocert") -> Receipt:
        """Run a slash command; what its acknowledgement carries is shown, and so is the lack of one."""
        person, place = self.workspace.person(user), self.workspace.channel(channel)
        trigger_id = self.triggers.issue(person.id)
        url = self._response_url(user=person.id, channel=place.id)
        payload = {
            "token": TOKEN,
            "team_id": TEAM_ID,
            "team_domain": DOMAIN,
            "channel_id": place.id,
            "channel_name": "directmessage" if place.partner else "privategroup" if place.private else place.name,
            "user_id": person.id,
            "user_name": person.name,
            "command": command,
            "text": text,
            "api_app_id": APP_ID,
            "is_enterprise_install": "false",
            "response_url": url,
            "trigger_id": trigger_id,
        }
        answer = await self.delivery.deliver("slash_commands", payload)
        if answer.error:
            self.workspace.notify(
                person.id, place.id, f'{command} failed with the error "{answer.error}"', error=answer.error
            )
        elif answer.payload:
            try:
                self._respond(
                    answer.payload, ResponseUrl(user=person.id, channel=place.id, issued=0.0), "command acknowledgement"
                )
            except SlackError as error:
                self.workspace.notify(
                    person.id, place.id, f'{command} failed with the error "{error.code}"', error=error.code
                )
        return Receipt(
            acknowledged=answer.error is None,
            response=answer.payload,
            error=answer.error,
            trigger_id=trigger_id,
            response_url=url,
        )

    async def say(self, user: str, channel: str, text: str, thread: str | None = None) -> tuple[Message, Receipt]:
        """Write a message as a person; the bot hears of it when it is mentioned (or of all where it subscribed)."""
        person, place = self.workspace.person(user), self.workspace.channel(channel)
        message = self.workspace.put(
            Message(
                ts=self.workspace.new_ts(),
                channel=place.id,
                user=person.id,
                text=text,
                thread_ts=thread,
                at=self.workspace.clock.now(),
            )
        )
        kind = self._event_kind(place, text)
        if kind is None:
            return message, Receipt(acknowledged=True)
        event = {
            "type": kind.partition(".")[0],
            "user": person.id,
            "text": text,
            "ts": message.ts,
            "team": TEAM_ID,
            "channel": place.id,
        }
        event |= {"event_ts": message.ts, "client_msg_id": secrets.token_hex(16)} | (
            {"thread_ts": thread} if thread else {}
        )
        if event["type"] == "message":
            event["channel_type"] = "im" if place.partner else "channel"
        answer = await self.delivery.event(self.event_payload(event))
        return message, Receipt(acknowledged=answer.error is None, response=answer.payload, error=answer.error)

    def _event_kind(self, place: Channel, text: str) -> str | None:
        """Return the event that a message is to the bot, or None."""
        if place.partner is not None:
            return "message.im" if "message.im" in self.events else None
        mentioned = f"<@{BOT_USER_ID}>" in text
        if mentioned and not place.bot_is_member:
            return None
        if mentioned and "app_mention" in self.events:
            return "app_mention"
        return "message.channels" if "message.channels" in self.events and place.bot_is_member else None

    def event_payload(self, event: Json) -> Json:
        """Return the wrapping of an event."""
        now = int(self.workspace.clock.now().timestamp())
        return {
            "token": TOKEN,
            "team_id": TEAM_ID,
            "context_team_id": TEAM_ID,
            "api_app_id": APP_ID,
            "event": event,
            "type": "event_callback",
            "event_id": f"Ev{secrets.token_hex(8).upper()}",
            "event_time": now,
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": TEAM_ID,
                    "user_id": BOT_USER_ID,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": False,
            "event_context": secrets.token_hex(12),
        }

    async def open_home(self, user: str) -> None:
        """Tell the bot that somebody opened its Home tab."""
        if "app_home_opened" in self.events:
            person = self.workspace.person(user)
            channel = self.workspace.direct_channel(person.id)
            event = {
                "type": "app_home_opened",
                "user": person.id,
                "channel": channel.id,
                "tab": "home",
                "event_ts": self.workspace.new_ts(),
            }
            await self.delivery.event(self.event_payload(event))

    # --- buttons and menus ------------------------------------------------------------------------------------

    async def act(self, user: str, message: Message, element: Element, chosen: Json | None = None) -> Receipt:
        """Press a button or choose from a menu on a message; `chosen` holds what was selected, as Slack names it."""
        person = self.workspace.person(user)
        place = self.workspace.channels[message.channel]
        trigger_id = self.triggers.issue(person.id)
        ephemeral = message.visible_to is not None
        url = self._response_url(
            user=person.id,
            channel=place.id,
            message_ts=message.ts,
            thread_ts=message.thread_ts,
            ephemeral_source=ephemeral,
        )
        container: Json = {
            "type": "message",
            "message_ts": message.ts,
            "channel_id": place.id,
            "is_ephemeral": ephemeral,
        }
        payload = {
            "type": "block_actions",
            **self._envelope(person),
            "container": container | ({"thread_ts": message.thread_ts} if message.thread_ts else {}),
            "trigger_id": trigger_id,
            "channel": {"id": place.id, "name": place.name},
            "state": {"values": {}},
            "response_url": url,
            "actions": [self._action(element, chosen)],
        }
        if not ephemeral:  # Slack does not give an ephemeral message back
            payload["message"] = self.workspace.wire(message)
        answer = await self.delivery.deliver("interactive", payload)
        if answer.error:
            thread_ts = message.thread_ts if message.is_reply else None
            text = f"That did not work: octocert did not respond ({answer.error})."
            self.workspace.notify(person.id, place.id, text, thread_ts=thread_ts, error=answer.error)
        return Receipt(
            acknowledged=answer.error is None,
            response=answer.payload,
            error=answer.error,
            trigger_id=trigger_id,
            response_url=url,
        )

    def _action(self, element: Element, chosen: Json | None) -> Json:
        """Return one entry of `actions`."""
        action: Json = {
            "action_id": element.action_id,
            "block_id": element.block_id,
            "type": element.kind,
            "action_ts": self.workspace.new_ts(),
        }
        for name in ("text", "value", "style", "confirm", "placeholder"):
            if name in element.raw:
                action["confirm" if name == "confirm" else name] = element.raw[name]
        return action | (chosen or {})

    async def act_on_view(
        self, user: str, view_id: str, element: Element, chosen: Json | None, values: Json
    ) -> Receipt:
        """Press a button or choose from a menu on a modal or the Home tab."""
        person = self.workspace.person(user)
        view = self._view(person.id, view_id)
        view["state"] = {"values": values}
        trigger_id = self.triggers.issue(person.id, view_id)
        payload = {
            "type": "block_actions",
            **self._envelope(person),
            "container": {"type": "view", "view_id": view_id},
            "trigger_id": trigger_id,
            "view": view,
            "actions": [self._action(element, chosen)],
        }
        answer = await self.delivery.deliver("interactive", payload)
        return Receipt(
            acknowledged=answer.error is None, response=answer.payload, error=answer.error, trigger_id=trigger_id
        )

    async def suggest(
        self, user: str, element: Element, query: str, *, message: Message | None = None, view_id: str = ""
    ) -> list[Json]:
        """Ask the bot for the options of an external select."""
        person = self.workspace.person(user)
        payload: Json = {"type": "block_suggestion", **self._envelope(person)}
        payload |= {"action_id": element.action_id, "block_id": element.block_id, "value": query}
        if message is not None:
            place = self.workspace.channels[message.channel]
            payload |= {
                "container": {
                    "type": "message",
                    "message_ts": message.ts,
                    "channel_id": place.id,
                    "is_ephemeral": False,
                },
                "channel": {"id": place.id, "name": place.name},
                "message": self.workspace.wire(message),
            }
        else:
            payload |= {"container": {"type": "view", "view_id": view_id}, "view": self._view(person.id, view_id)}
        answer = await self.delivery.deliver("interactive", payload)
        groups = answer.payload.get("option_groups") or []
        return list(
            answer.payload.get("options") or [option for group in groups for option in group.get("options", [])]
        )

    # --- modals -----------------------------------------------------------------------------------------------

    def _view(self, user: str, view_id: str) -> Json:
        """Return a modal or Home tab that stands before this person."""
        with self.workspace.lock:
            entry = self.workspace.views.get(view_id)
            home = self.workspace.homes.get(user)
        if entry is not None and entry["user"] == user:
            return dict(entry["view"])
        if home is not None and home["id"] == view_id:
            return dict(home)
        raise LookupError(f"no view {view_id} is open before {user}")

    async def submit(self, user: str, view_id: str, values: Json) -> Receipt:
        """Submit a modal; do what the acknowledgement says (errors, update, push, clear), else close it."""
        person = self.workspace.person(user)
        view = self._view(person.id, view_id)
        view["state"] = {"values": values}
        trigger_id = self.triggers.issue(person.id, view_id)
        payload = {
            "type": "view_submission",
            **self._envelope(person),
            "trigger_id": trigger_id,
            "view": view,
            "response_urls": [],
        }
        answer = await self.delivery.deliver("interactive", payload)
        error = answer.error
        if error is None:
            try:
                self._after_submit(person.id, view_id, answer.payload)
            except SlackError as failed:
                error = failed.code
        return Receipt(acknowledged=answer.error is None, response=answer.payload, error=error, trigger_id=trigger_id)

    def _after_submit(self, user: str, view_id: str, answer: Json) -> None:
        """Act on the acknowledgement of a submission."""
        match answer.get("response_action"):
            case None:
                drop(self.workspace, view_id)
            case "clear":
                drop(self.workspace, view_id, whole_stack=True)
            case "update":
                replace_view(
                    self.workspace,
                    view_id,
                    checked_view(self.workspace, "view_submission", answer.get("view"), "modal"),
                )
            case "push":
                show(self.workspace, user, checked_view(self.workspace, "view_submission", answer.get("view"), "modal"))
            case "errors":
                known = {
                    block.get("block_id")
                    for block in self._view(user, view_id)["blocks"]
                    if block.get("type") == "input"
                }
                unknown = set(answer.get("errors") or {}) - known
                if unknown or not answer.get("errors"):
                    with self.workspace.lock:
                        self.workspace.violations.append(
                            f"view_submission: errors for no input block: {sorted(map(str, unknown))}"
                        )
                    raise SlackError("invalid_arguments")
            case other:
                raise SlackError(
                    "invalid_arguments", response_metadata={"messages": [f"[ERROR] unknown response_action {other}"]}
                )

    async def close_view(self, user: str, view_id: str) -> None:
        """Close a modal without submitting; the bot hears of it where it asked for that."""
        person = self.workspace.person(user)
        view = self._view(person.id, view_id)
        drop(self.workspace, view_id)
        if view.get("notify_on_close"):
            payload = {"type": "view_closed", **self._envelope(person), "view": view, "is_cleared": False}
            await self.delivery.deliver("interactive", payload)

    # --- response URLs ----------------------------------------------------------------------------------------

    def respond(self, token: str, body: bytes) -> None:
        """Take a POST to a response URL; SlackError says what is wrong with it."""
        place = self.triggers.use_response(token)
        try:
            payload = json.loads(body)
        except ValueError:
            raise SlackError("invalid_payload") from None
        if not isinstance(payload, dict):
            raise SlackError("invalid_payload")
        self._respond(payload, place, "response_url")

    def _respond(self, payload: Json, place: ResponseUrl, method: str) -> None:
        """Carry out an answer: a new message (ephemeral unless in_channel), or a change of the one that was pressed."""
        original = self.workspace.find(place.channel, place.message_ts) if place.message_ts else None
        if payload.get("delete_original"):
            if original is not None:
                self.workspace.remove(original)
            return
        checked(self.workspace, method, payload)
        if payload.get("replace_original") and original is not None:
            blocks = with_ids(self.workspace, payload.get("blocks"))
            self.workspace.edit(original, text=str(payload.get("text") or ""), blocks=blocks, edits=original.edits + 1)
            return
        thread_ts = payload.get("thread_ts") or (
            place.thread_ts if original is not None and original.is_reply else None
        )
        visible_to = None if payload.get("response_type") == "in_channel" else place.user
        self.workspace.put(compose(self.workspace, place.channel, payload, thread_ts=thread_ts, visible_to=visible_to))

    # --- finding what was pressed -----------------------------------------------------------------------------

    def element(self, blocks: list[Json] | tuple[Json, ...], wanted: str, block_id: str | None = None) -> Element:
        """Find an element by action_id or by its label; LookupError names those that are there."""
        there = [element for element in elements_of(blocks) if block_id is None or element.block_id == block_id]
        for element in there:
            if element.action_id == wanted:
                return element
        for element in there:
            if element.label.casefold() == wanted.casefold():
                return element
        names = ", ".join(f"{element.label!r} ({element.action_id})" for element in there) or "nothing"
        raise LookupError(f"there is no {wanted!r} to press here; there is {names}")
