"""Web API methods of people and places: auth.test, conversations.*, users.*, usergroups.*."""

from bot.sandbox.slack.calls import ApiCall, SlackError
from bot.sandbox.slack.model import APP_ID, BOT_ID, BOT_USER_ID, TEAM_ID, TEAM_NAME, Channel, Json, Message, Person

CREATED = 1_700_000_000


def auth_test(call: ApiCall) -> Json:
    """Say who the token belongs to."""
    return {
        "url": "https://sandbox.slack.example/",
        "team": TEAM_NAME,
        "user": "octocert",
        "team_id": TEAM_ID,
        "user_id": BOT_USER_ID,
        "bot_id": BOT_ID,
        "app_id": APP_ID,
        "is_enterprise_install": False,
    }


def person_document(person: Person) -> Json:
    """Return a person as users.info gives one."""
    return {
        "id": person.id,
        "team_id": TEAM_ID,
        "name": person.name,
        "deleted": False,
        "real_name": person.real_name,
        "tz": "Etc/UTC",
        "tz_offset": 0,
        "is_admin": person.is_admin,
        "is_owner": False,
        "is_restricted": False,
        "is_ultra_restricted": False,
        "is_bot": person.is_bot,
        "is_app_user": False,
        "updated": CREATED,
        "profile": {
            "real_name": person.real_name,
            "display_name": person.name,
            "title": person.title,
            "email": person.email,
            "team": TEAM_ID,
        },
    }


def channel_document(channel: Channel) -> Json:
    """Return a conversation as conversations.info gives one."""
    direct = channel.partner is not None
    document: Json = {
        "id": channel.id,
        "created": CREATED,
        "is_archived": False,
        "is_channel": not direct and not channel.private,
        "is_group": channel.private and not direct,
        "is_im": direct,
        "is_private": channel.private,
        "is_member": channel.bot_is_member,
        "is_shared": False,
        "context_team_id": TEAM_ID,
    }
    if direct:
        return document | {"user": channel.partner}
    topic = {"value": channel.topic, "creator": "", "last_set": 0}
    return document | {"name": channel.name, "name_normalized": channel.name, "topic": topic, "purpose": topic}


def conversation_info(call: ApiCall) -> Json:
    """Describe one conversation."""
    return {"channel": channel_document(call.channel(member=False))}


def conversation_list(call: ApiCall) -> Json:
    """List the conversations that the bot can see."""
    visible = [
        channel
        for channel in list(call.workspace.channels.values())
        if channel.partner is None and (channel.bot_is_member or not channel.private)
    ]
    page, metadata = call.page([channel_document(channel) for channel in visible])
    return {"channels": page, "response_metadata": metadata}


def conversation_members(call: ApiCall) -> Json:
    """List the members of a conversation: everybody, or the two of a direct one."""
    channel = call.channel(member=False)
    people = list(call.workspace.members)
    members = [user for user in people if channel.partner in {None, user} or user == BOT_USER_ID]
    return {
        "members": members if channel.bot_is_member else [user for user in members if user != BOT_USER_ID],
        "response_metadata": {"next_cursor": ""},
    }


def conversation_open(call: ApiCall) -> Json:
    """Open the direct messages with one person."""
    users = [user for user in call.text("users").split(",") if user]
    if len(users) != 1:
        raise SlackError("users_list_not_supplied" if not users else "not_enough_users")
    if users[0] not in call.workspace.members:
        raise SlackError("user_not_found")
    channel = call.workspace.direct_channel(users[0])
    return {"channel": channel_document(channel) if call.flag("return_im") else {"id": channel.id}}


def _listed(call: ApiCall, messages: list[Message]) -> list[Json]:
    """Return messages as documents, those between `oldest` and `latest`, with metadata when it was asked for."""
    oldest, latest = call.text("oldest", "0"), call.text("latest") or "9999999999.999999"
    inclusive = call.flag("inclusive")
    with_metadata = call.flag("include_all_metadata")
    documents = []
    for message in messages:
        inside = float(oldest) <= float(message.ts) <= float(latest)
        at_edge = message.ts in {oldest, latest}
        if inside and (inclusive or not at_edge):
            document = call.workspace.wire(message, metadata=with_metadata)
            if message.metadata and not with_metadata:
                document["metadata"] = {"event_type": message.metadata.get("event_type"), "event_payload": {}}
            documents.append(document)
    return documents


def conversation_history(call: ApiCall) -> Json:
    """List a channel's messages, the newest first, without thread replies."""
    channel = call.channel()
    page, metadata = call.page(_listed(call, call.workspace.history(channel.id)[::-1]))
    return {"messages": page, "has_more": bool(metadata["next_cursor"]), "pin_count": 0, "response_metadata": metadata}


def conversation_replies(call: ApiCall) -> Json:
    """List a thread, its root first, then the replies from the oldest on."""
    channel = call.channel()
    message = call.workspace.find(channel.id, call.need("ts", "thread_not_found"))
    if message is None:
        raise SlackError("thread_not_found")
    root = message.thread_ts or message.ts
    page, metadata = call.page(_listed(call, call.workspace.thread(channel.id, root)))
    return {"messages": page, "has_more": bool(metadata["next_cursor"]), "response_metadata": metadata}


def user_info(call: ApiCall) -> Json:
    """Describe one person."""
    person = call.workspace.members.get(call.need("user", "user_not_found"))
    if person is None:
        raise SlackError("user_not_found")
    return {"user": person_document(person)}


def user_list(call: ApiCall) -> Json:
    """List everybody."""
    page, metadata = call.page([person_document(person) for person in list(call.workspace.members.values())])
    return {"members": page, "cache_ts": CREATED, "response_metadata": metadata}


def user_by_email(call: ApiCall) -> Json:
    """Find a person by e-mail address."""
    email = call.need("email", "users_not_found").lower()
    for person in list(call.workspace.members.values()):
        if person.email == email:
            return {"user": person_document(person)}
    raise SlackError("users_not_found")


def usergroup_list(call: ApiCall) -> Json:
    """List the user groups, their members when `include_users` asks for them."""
    groups = []
    for group in list(call.workspace.groups.values()):
        document: Json = {
            "id": group.id,
            "team_id": TEAM_ID,
            "is_usergroup": True,
            "name": group.name,
            "handle": group.handle,
            "description": "",
            "date_delete": 0,
            "user_count": len(group.users),
        }
        groups.append(document | ({"users": list(group.users)} if call.flag("include_users") else {}))
    return {"usergroups": groups}


def usergroup_users(call: ApiCall) -> Json:
    """List the members of a user group."""
    group = call.workspace.groups.get(call.need("usergroup", "no_such_subteam"))
    if group is None:
        raise SlackError("no_such_subteam")
    return {"users": list(group.users)}


METHODS = {
    "auth.test": auth_test,
    "conversations.history": conversation_history,
    "conversations.info": conversation_info,
    "conversations.list": conversation_list,
    "conversations.members": conversation_members,
    "conversations.open": conversation_open,
    "conversations.replies": conversation_replies,
    "usergroups.list": usergroup_list,
    "usergroups.users.list": usergroup_users,
    "users.info": user_info,
    "users.list": user_list,
    "users.lookupByEmail": user_by_email,
}
