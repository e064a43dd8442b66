"""Web API methods of the file upload in two steps: an upload URL, the bytes, then the share in a channel."""

from collections.abc import Callable

from bot.sandbox.slack.calls import ApiCall, SlackError
from bot.sandbox.slack.chat import compose
from bot.sandbox.slack.model import BOT_USER_ID, Json

GREATEST_FILE = 1_000_000_000


def methods(base_url: Callable[[], str]) -> dict[str, Callable[[ApiCall], Json]]:
    """Return the methods; `base_url` gives the server's address without a slash at its end."""

    def upload_url(call: ApiCall) -> Json:
        name = call.need("filename")
        length = call.number("length", 0)
        if length <= 0:
            raise SlackError(
                "invalid_arguments", response_metadata={"messages": ["[ERROR] length must be more than 0"]}
            )
        if length > GREATEST_FILE:
            raise SlackError("file_too_large")
        file_id = call.workspace.new_id("F")
        with call.workspace.lock:
            call.workspace.files[file_id] = {
                "id": file_id,
                "name": name,
                "title": name,
                "size": length,
                "user": BOT_USER_ID,
                "pretty_type": call.text("snippet_type") or name.rpartition(".")[2].upper(),
                "url_private": f"{base_url()}/files/{file_id}",
                "permalink": f"{base_url()}/files/{file_id}",
            }
        return {"file_id": file_id, "upload_url": f"{base_url()}/upload/{file_id}"}

    def complete(call: ApiCall) -> Json:
        wanted = call.given.get("files")
        if not isinstance(wanted, list) or not wanted:
            raise SlackError("invalid_arguments")
        files = []
        for item in wanted:
            found = call.workspace.files.get(item.get("id", "")) if isinstance(item, dict) else None
            if found is None or found["id"] not in call.workspace.file_data:
                raise SlackError("file_not_found")
            found["title"] = item.get("title") or found["title"]
            files.append(found)
        if call.text("channel_id") or call.text("channels"):
            call.given["channel"] = call.text("channel_id") or call.text("channels").split(",")[0]
            channel = call.channel()
            message = compose(
                call.workspace,
                channel.id,
                {"text": call.text("initial_comment")},
                thread_ts=call.text("thread_ts") or None,
            )
            call.workspace.put(message)
            call.workspace.edit(message, files=tuple(dict(file) for file in files))
        return {"files": [dict(file) for file in files]}

    return {"files.getUploadURLExternal": upload_url, "files.completeUploadExternal": complete}
