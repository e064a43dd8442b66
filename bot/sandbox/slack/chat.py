"""Web API methods of messages: chat.*, reactions.* and pins.*."""

from dataclasses import replace
from typing import Any

from bot.sandbox.slack.calls import ApiCall, SlackError, invalid_blocks
from bot.sandbox.slack.model import BOT_USER_ID, TEAM_ID, Json, Message
from bot.sandbox.slack.validator import BLOCKS_TOTAL, GREATEST_TEXT, RECOMMENDED_TEXT, blocks_length, check_message
from bot.sandbox.slack.workspace import Workspace


def checked(workspace: Workspace, method: str, payload: Json) -> None:
    """Validate a message's payload: record every violation; raise SlackError for what Slack would refuse."""
    blocks = payload.get("blocks") or []
    text = payload.get("text") or ""
    errors = check_message(payload)
    if errors:
        with workspace.lock:
            workspace.violations += [f"{method}: {found}" for found in errors]
    refused = [
        f"unsupported type: {block['type']} [json-pointer:/blocks/{index}/type]"
        for index, block in enumerate(blocks)
        if isinstance(block, dict) and block.get("type") in workspace.faults.reject_blocks
    ]
    if refused:
        raise invalid_blocks(refused)
    if not isinstance(text, str):
        raise SlackError("invalid_arguments")
    if len(text) > (RECOMMENDED_TEXT if method == "chat.update" else GREATEST_TEXT):
        raise SlackError("msg_too_long")
    hard = [found for found in errors if "json-pointer:/blocks" in found or "json-pointer:/attachments" in found]
    if hard:
        raise invalid_blocks(hard)
    if any("json-pointer:/metadata" in found for found in errors):
        raise invalid_blocks(
            [found for found in errors if "json-pointer:/metadata" in found], "invalid_metadata_format"
        )
    if blocks_length(blocks) > BLOCKS_TOTAL:
        with workspace.lock:
            workspace.violations.append(f"{method}: blocks of more than {BLOCKS_TOTAL} characters together")
        raise SlackError("msg_blocks_too_long")
    if not text and not blocks and not payload.get("attachments") and not payload.get("files"):
        raise SlackError("no_text")


def with_ids(workspace: Workspace, blocks: Any) -> tuple[Json, ...]:
    """Return blocks with the ids that Slack gives to those that came without one."""
    done = []
    for block in blocks or ():
        block_id = block.get("block_id") or workspace.new_id("b")
        done.append({**block, "block_id": block_id})
        if block.get("type") == "actions":
            done[-1]["elements"] = [
                {**element, "action_id": element.get("action_id") or workspace.new_id("a")}
                for element in block["elements"]
            ]
    return tuple(done)


def compose(
    workspace: Workspace, channel: str, payload: Json, *, thread_ts: str | None, visible_to: str | None = None
) -> Message:
    """Return a message of the bot from a payload that was checked."""
    return Message(
        ts=workspace.new_ts(),
        channel=channel,
        user=BOT_USER_ID,
        text=str(payload.get("text") or ""),
        blocks=with_ids(workspace, payload.get("blocks")),
        attachments=tuple(payload.get("attachments") or ()),
        thread_ts=thread_ts,
        metadata=payload.get("metadata"),
        visible_to=visible_to,
        at=workspace.clock.now(),
    )


def _thread(call: ApiCall, channel: str) -> str | None:
    """Return the timestamp of the thread's root that the call names, or None."""
    thread_ts = call.text("thread_ts")
    if not thread_ts:
        return None
    root = call.workspace.find(channel, thread_ts)
    if root is None:
        raise SlackError("thread_not_found")
    return root.thread_ts or root.ts


def post_message(call: ApiCall) -> Json:
    """Post a message to a channel or a thread."""
    channel = call.channel()
    checked(call.workspace, call.method, call.given)
    thread_ts = _thread(call, channel.id)
    message = compose(call.workspace, channel.id, call.given, thread_ts=thread_ts)
    message = call.workspace.put(replace(message, broadcast=call.flag("reply_broadcast")))
    return {"channel": channel.id, "ts": message.ts, "message": call.workspace.wire(message)}


def _own(call: ApiCall, code: str) -> Message:
    """Return the bot's message that the call names by channel and ts."""
    channel = call.channel()
    message = call.workspace.find(channel.id, call.need("ts", "message_not_found"))
    if message is None or message.visible_to is not None:
        raise SlackError("message_not_found")
    if not message.is_bot:
        raise SlackError(code)
    return message


def update(call: ApiCall) -> Json:
    """Replace a message's text and blocks; text without blocks removes the blocks."""
    message = _own(call, "cant_update_message")
    checked(call.workspace, call.method, call.given)
    _note_reused_ids(call, message)
    blocks = with_ids(call.workspace, call.given.get("blocks"))
    message = call.workspace.edit(
        message,
        text=call.text("text"),
        blocks=blocks,
        attachments=tuple(call.given.get("attachments") or ()),
        metadata=call.given.get("metadata", message.metadata),
        edits=message.edits + 1,
        edited_flag=message.edited_flag or not blocks,  # messages updated by blocks carry no flag
    )
    return {"channel": message.channel, "ts": message.ts, "text": message.text, "message": call.workspace.wire(message)}


def _note_reused_ids(call: ApiCall, message: Message) -> None:
    """Record a violation where an update changes a block and keeps its block_id: Slack's pages ask for a new one."""
    before = {block["block_id"]: block for block in message.blocks}
    for block in call.given.get("blocks") or ():
        old = before.get(block.get("block_id", ""))
        if old is not None and old != block:
            with call.workspace.lock:
                call.workspace.violations.append(
                    f"{call.method}: block_id {block['block_id']} kept for a changed {block.get('type')} block"
                )


def delete(call: ApiCall) -> Json:
    """Delete a message of the bot."""
    message = _own(call, "cant_delete_message")
    call.workspace.remove(message)
    return {"channel": message.channel, "ts": message.ts}


def post_ephemeral(call: ApiCall) -> Json:
    """Show a message to one person only; it has no lasting place in the channel's history."""
    channel = call.channel()
    user = call.need("user")
    if user not in call.workspace.members:
        raise SlackError("user_not_in_channel")
    if not call.workspace.may_see(user, channel.id):
        raise SlackError("user_not_in_channel")
    checked(call.workspace, call.method, call.given)
    thread_ts = _thread(call, channel.id)
    message = call.workspace.put(compose(call.workspace, channel.id, call.given, thread_ts=thread_ts, visible_to=user))
    return {"message_ts": message.ts}


def get_permalink(call: ApiCall) -> Json:
    """Return a link to a message."""
    channel = call.channel(member=False)
    message = call.workspace.find(channel.id, call.need("message_ts", "message_not_found"))
    if message is None:
        raise SlackError("message_not_found")
    link = f"https://sandbox.slack.example/archives/{channel.id}/p{message.ts.replace('.', '')}"
    if message.is_reply:
        link += f"?thread_ts={message.thread_ts}&cid={channel.id}"
    return {"channel": channel.id, "permalink": link}


def schedule_message(call: ApiCall) -> Json:
    """Accept a message for later; the server posts it when its time has come."""
    channel = call.channel()
    at = call.number("post_at", 0)
    now = call.workspace.clock.now().timestamp()
    if at <= now:
        raise SlackError("time_in_past")
    if at > now + 120 * 86400:
        raise SlackError("time_too_far")
    checked(call.workspace, call.method, call.given)
    scheduled = {"id": call.workspace.new_id("Q"), "post_at": at, "channel": channel.id, "payload": call.given}
    with call.workspace.lock:
        call.workspace.scheduled.append(scheduled)
    return {
        "channel": channel.id,
        "scheduled_message_id": scheduled["id"],
        "post_at": at,
        "message": {"text": call.text("text"), "type": "delayed_message", "user": BOT_USER_ID, "team": TEAM_ID},
    }


def post_due(workspace: Workspace) -> None:
    """Post the scheduled messages whose time has come."""
    now = workspace.clock.now().timestamp()
    with workspace.lock:
        due = [item for item in workspace.scheduled if item["post_at"] <= now]
        workspace.scheduled = [item for item in workspace.scheduled if item["post_at"] > now]
    for item in due:
        workspace.put(compose(workspace, item["channel"], item["payload"], thread_ts=item["payload"].get("thread_ts")))


def _reacted(call: ApiCall) -> tuple[Message, str, dict[str, tuple[str, ...]]]:
    """Return the message that a reaction concerns, the reaction's name and those that are there."""
    channel = call.channel()
    message = call.workspace.find(channel.id, call.need("timestamp", "no_item_specified"))
    if message is None:
        raise SlackError("message_not_found")
    return message, call.need("name", "invalid_name").strip(":"), dict(message.reactions)


def add_reaction(call: ApiCall) -> Json:
    """Add the bot's reaction to a message."""
    message, name, reactions = _reacted(call)
    if BOT_USER_ID in reactions.get(name, ()):
        raise SlackError("already_reacted")
    reactions[name] = (*reactions.get(name, ()), BOT_USER_ID)
    call.workspace.edit(message, reactions=tuple(reactions.items()))
    return {}


def remove_reaction(call: ApiCall) -> Json:
    """Take the bot's reaction back."""
    message, name, reactions = _reacted(call)
    if BOT_USER_ID not in reactions.get(name, ()):
        raise SlackError("no_reaction")
    reactions[name] = tuple(user for user in reactions[name] if user != BOT_USER_ID)
    call.workspace.edit(message, reactions=tuple((key, users) for key, users in reactions.items() if users))
    return {}


def add_pin(call: ApiCall) -> Json:
    """Pin a message to its channel."""
    channel = call.channel()
    message = call.workspace.find(channel.id, call.need("timestamp", "no_item_specified"))
    if message is None:
        raise SlackError("message_not_found")
    if message.pinned:
        raise SlackError("already_pinned")
    call.workspace.edit(message, pinned=True)
    return {}


METHODS = {
    "chat.postMessage": post_message,
    "chat.update": update,
    "chat.delete": delete,
    "chat.postEphemeral": post_ephemeral,
    "chat.getPermalink": get_permalink,
    "chat.scheduleMessage": schedule_message,
    "reactions.add": add_reaction,
    "reactions.remove": remove_reaction,
    "pins.add": add_pin,
}
