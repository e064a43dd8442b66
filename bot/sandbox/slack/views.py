"""Web API methods of modals and the Home tab: views.open, push, update and publish."""

from collections.abc import Callable

from bot.sandbox.slack.calls import ApiCall, SlackError, invalid_blocks
from bot.sandbox.slack.chat import with_ids
from bot.sandbox.slack.model import APP_ID, BOT_ID, TEAM_ID, Json
from bot.sandbox.slack.triggers import Triggers
from bot.sandbox.slack.validator import check_view
from bot.sandbox.slack.workspace import Workspace

STACK = 3  # modals on top of each other


def checked_view(workspace: Workspace, method: str, view: object, kind: str) -> Json:
    """Validate a view; SlackError `invalid_arguments` with the messages, as views.* answer."""
    if not isinstance(view, dict):
        raise SlackError("invalid_arguments", response_metadata={"messages": ["[ERROR] missing required field: view"]})
    errors = check_view(view)
    if view.get("type") != kind:
        errors.append(f"must be a view of type {kind} [json-pointer:/view/type]")
    if errors:
        with workspace.lock:
            workspace.violations += [f"{method}: {text}" for text in errors]
        if any("view is too large" in text for text in errors):
            raise SlackError("view_too_large")
        raise invalid_blocks(errors, "invalid_arguments")
    return view


def complete(
    workspace: Workspace, view: Json, *, view_id: str, previous: str | None, root: str | None, state: Json | None = None
) -> Json:
    """Return a view as Slack gives it back, with the ids and the state it keeps."""
    return {
        "id": view_id,
        "team_id": TEAM_ID,
        "app_id": APP_ID,
        "bot_id": BOT_ID,
        "app_installed_team_id": TEAM_ID,
        "callback_id": "",
        "private_metadata": "",
        "external_id": "",
        "clear_on_close": False,
        "notify_on_close": False,
        "title": None,
        "submit": None,
        "close": None,
        **view,
        "blocks": list(with_ids(workspace, view.get("blocks"))),
        "state": state or {"values": {}},
        "hash": f"{workspace.new_ts()}.{workspace.new_id('h')}",
        "previous_view_id": previous,
        "root_view_id": root or view_id,
    }


def stack_of(workspace: Workspace, user: str) -> list[Json]:
    """Return a person's open modals, the top one last."""
    with workspace.lock:
        return [entry["view"] for entry in workspace.views.values() if entry["user"] == user]


def show(workspace: Workspace, user: str, view: Json) -> Json:
    """Put a modal on top of a person's stack."""
    stack = stack_of(workspace, user)
    if len(stack) >= STACK:
        raise SlackError("push_limit_reached")
    view_id = workspace.new_id("V")
    whole = complete(
        workspace,
        view,
        view_id=view_id,
        previous=stack[-1]["id"] if stack else None,
        root=stack[0]["id"] if stack else None,
    )
    with workspace.lock:
        if whole["external_id"] and any(
            entry["view"]["external_id"] == whole["external_id"] for entry in workspace.views.values()
        ):
            raise SlackError("duplicate_external_id")
        workspace.views[view_id] = {"user": user, "view": whole}
    workspace.touch()
    return whole


def replace_view(workspace: Workspace, view_id: str, view: Json) -> Json:
    """Give an open modal new content; what a person typed into blocks with the same ids stays."""
    with workspace.lock:
        entry = workspace.views.get(view_id)
        if entry is None:
            raise SlackError("not_found")
        old = entry["view"]
        whole = complete(
            workspace,
            view,
            view_id=view_id,
            previous=old["previous_view_id"],
            root=old["root_view_id"],
            state=old["state"],
        )
        entry["view"] = whole
    workspace.touch()
    return whole


def drop(workspace: Workspace, view_id: str, *, whole_stack: bool = False) -> None:
    """Close a modal, or the whole stack that it belongs to."""
    with workspace.lock:
        entry = workspace.views.pop(view_id, None)
        if entry and whole_stack:
            for other in [key for key, value in workspace.views.items() if value["user"] == entry["user"]]:
                del workspace.views[other]
    workspace.touch()


def methods(triggers: Triggers) -> dict[str, Callable[[ApiCall], Json]]:
    """Return the methods, bound to the trigger ids that open modals."""

    def opened(call: ApiCall) -> Json:
        view = checked_view(call.workspace, call.method, call.given.get("view"), "modal")
        trigger = triggers.redeem(call.need("trigger_id"))
        return {"view": show(call.workspace, trigger.user, view)}

    def pushed(call: ApiCall) -> Json:
        view = checked_view(call.workspace, call.method, call.given.get("view"), "modal")
        trigger = triggers.redeem(call.need("trigger_id"))
        if trigger.view_id is None or trigger.view_id not in call.workspace.views:
            raise SlackError("not_found")
        return {"view": show(call.workspace, trigger.user, view)}

    def updated(call: ApiCall) -> Json:
        view = checked_view(call.workspace, call.method, call.given.get("view"), "modal")
        view_id = call.text("view_id")
        external = call.text("external_id")
        with call.workspace.lock:
            if external:
                view_id = next(
                    (key for key, entry in call.workspace.views.items() if entry["view"]["external_id"] == external), ""
                )
            entry = call.workspace.views.get(view_id)
        if entry is None:
            raise SlackError("not_found")
        if call.text("hash") not in {"", entry["view"]["hash"]}:
            raise SlackError("hash_conflict")
        return {"view": replace_view(call.workspace, view_id, view)}

    def published(call: ApiCall) -> Json:
        view = checked_view(call.workspace, call.method, call.given.get("view"), "home")
        user = call.need("user_id")
        if user not in call.workspace.members:
            raise SlackError("user_not_found")
        old = call.workspace.homes.get(user)
        if call.text("hash") not in {"", old["hash"] if old else ""}:
            raise SlackError("hash_conflict")
        whole = complete(
            call.workspace, view, view_id=old["id"] if old else call.workspace.new_id("V"), previous=None, root=None
        )
        with call.workspace.lock:
            call.workspace.homes[user] = whole
        call.workspace.touch()
        return {"view": whole}

    return {"views.open": opened, "views.push": pushed, "views.update": updated, "views.publish": published}
