"""What the Octopus Server answered: its JSON, or the error that its status and its body mean."""

import json
import re
from typing import Any
from urllib.parse import urlsplit

import httpx

from bot.octopus.errors import OctopusError, OctopusErrorKind

_SHOWN = 300
"""Characters of a Server's own sentence that are shown to people."""
# “… Missing permission: MachineEdit”; the wording is UNVERIFIED and may change with the Server's version.
_PERMISSION = re.compile(
    r"permissions?(?: of)?[:\s'\"“]+([A-Z][A-Za-z]+(?:View|Edit|Create|Delete|Cancel|System|Server))"
)
_OUT_OF_DATE = re.compile(r"out of date|out-of-date|has been modified|concurrency", re.IGNORECASE)


def json_of(response: httpx.Response, body: bytes, url: str, path: str) -> Any:
    """Return the decoded body, None if it is empty; OctopusError if it is no JSON."""
    if not body.strip():
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        kind = response.headers.get("Content-Type", "no content type").split(";")[0]
        raise OctopusError(
            f"{url} answered {path} with {kind} instead of JSON. Something before the Octopus Server may have "
            "answered, such as a log-in page or a proxy: check the address, and that the bot may pass.",
            kind=OctopusErrorKind.UNEXPECTED,
            status=response.status_code,
        ) from None


def error_of(response: httpx.Response, body: bytes, *, url: str, method: str, path: str) -> OctopusError:
    """Return the error for an answer that is no success; its sentence quotes the Server's own where there is one."""
    status = response.status_code
    said = _said(body)
    kind = _kind(status, said)
    permission = _PERMISSION.search(said)
    return OctopusError(
        _sentence(kind, status, said, permission and permission[1], response, url, f"{method} {path}"),
        kind=kind,
        status=status,
        permission=permission[1] if permission else None,
    )


def _said(body: bytes) -> str:
    """Return what the Server's error document says, on one line; nothing if the body is something else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    errors = document.get("Errors")
    parts = [document.get("ErrorMessage"), *(errors if isinstance(errors, list) else [])]
    said = " ".join(dict.fromkeys(" ".join(p.split()) for p in parts if isinstance(p, str) and p.strip()))
    return said if len(said) <= _SHOWN else said[:_SHOWN] + "…"


def _kind(status: int, said: str) -> OctopusErrorKind:
    if status in {400, 409} and _OUT_OF_DATE.search(said):
        return OctopusErrorKind.CONFLICT
    if status == 401 and not _PERMISSION.search(said):
        return OctopusErrorKind.UNAUTHORISED
    kinds = {
        400: OctopusErrorKind.REFUSED,
        401: OctopusErrorKind.FORBIDDEN,
        403: OctopusErrorKind.FORBIDDEN,
        404: OctopusErrorKind.NOT_FOUND,
        409: OctopusErrorKind.CONFLICT,
        422: OctopusErrorKind.REFUSED,
        429: OctopusErrorKind.RATE_LIMITED,
    }
    return kinds.get(status, OctopusErrorKind.SERVER_ERROR if status >= 500 else OctopusErrorKind.UNEXPECTED)


def _sentence(
    kind: OctopusErrorKind,
    status: int,
    said: str,
    permission: str | None,
    response: httpx.Response,
    url: str,
    what: str,
) -> str:
    quoted = f" It says: “{said}”" if said else ""
    match kind:
        case OctopusErrorKind.UNAUTHORISED:
            return (
                f"The Octopus Server at {url} does not accept the API key.{quoted} "
                "Create a key for the bot's service account and store it where the configuration refers to."
            )
        case OctopusErrorKind.FORBIDDEN:
            needed = f"the permission {permission}" if permission else "the permission that it names"
            return f"The bot's account may not do this in Octopus ({what}).{quoted} Give its team {needed}."
        case OctopusErrorKind.NOT_FOUND:
            return f"Octopus has nothing at {what}.{quoted} It may have been deleted, or the key may not see it."
        case OctopusErrorKind.RATE_LIMITED:
            return (
                "Octopus limits how often the bot's account may ask, and the limit is used up. "
                "Try again in a minute, or raise the account's limit in Octopus's configuration of rate limits."
            )
        case OctopusErrorKind.CONFLICT:
            return f"Somebody else changed this in Octopus at the same moment ({what}).{quoted} Ask again."
        case OctopusErrorKind.REFUSED:
            return f"Octopus refused {what}.{quoted or ' It gave no reason.'}"
        case OctopusErrorKind.SERVER_ERROR:
            away = "it is restarting, or something before it is" if status in {502, 503, 504} else "it failed inside"
            return f"The Octopus Server at {url} answered {what} with {status}: {away}.{quoted} Try again in a minute."
        case _:
            return _unexpected(status, quoted, response, url, what)


def _unexpected(status: int, quoted: str, response: httpx.Response, url: str, what: str) -> str:
    target = urlsplit(response.headers.get("Location", ""))
    if 300 <= status < 400 and target.netloc:
        return (
            f"{url} redirects {what} to {target.scheme}://{target.netloc}, which is not followed, so that the API key "
            "goes nowhere else. If that is the Octopus Server, make it the address in the configuration."
        )
    return (
        f"{url} answered {what} with an unexpected status, {status}.{quoted} Check the address of the Octopus Server."
    )
