"""The kinds of values that settings have, each with its check. A check's sentence goes on after table and key."""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from bot.domain.errors import SettingsError
from bot.secrets import SecretReference
from bot.settings_problems import STANDS_IN_CLEAR, is_secret

BESIDE = "sqlite:///./"
"""How the url of an SQLite file beside the configuration begins."""

_USER_ID = re.compile(r"[UW][A-Z0-9]{2,}")
_CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{2,}")


def problem(sentence: str) -> PydanticCustomError:
    """Return a sentence about a setting as the error that pydantic carries to `bot.settings_problems`."""
    # The sentence goes in as a value: pydantic would take braces in a template for fields.
    return PydanticCustomError("octocert", "{sentence}", {"sentence": sentence})


def _reference(value: object, info: ValidationInfo) -> SecretReference:
    if isinstance(value, SecretReference):
        return value
    if not isinstance(value, str):
        raise problem("must be a text such as env:NAME or file:/path, which tells where the secret is.")
    if is_secret(value):
        raise problem(STANDS_IN_CLEAR)
    try:
        reference = SecretReference(value, (info.context or {}).get("vault"))
    except SettingsError:
        raise problem(
            "is not a reference to a secret. Write env:NAME for an environment variable, file:/path for a file, or "
            "vault:PATH#FIELD; the secret itself never stands in the configuration."
        ) from None
    kind, _, rest = value.partition(":")
    return SecretReference(f"file:{_anchored(Path(rest), info)}") if kind == "file" else reference


def _anchored(value: Path, info: ValidationInfo) -> Path:
    # A relative path means: beside the configuration.
    base: Path | None = (info.context or {}).get("base")
    return base / value if base else value


def _path(value: Path, info: ValidationInfo) -> Path:
    if value == Path():
        raise problem("must not be empty.")
    return _anchored(value, info)


def _database_url(value: str, info: ValidationInfo) -> str:
    if not value.startswith(BESIDE):
        return value
    return f"sqlite:///{_anchored(Path(value.removeprefix(BESIDE)), info)}"


def _existing(value: Path, info: ValidationInfo) -> Path:
    path = _anchored(value, info)
    if not path.is_file():
        raise problem(f"names the file {path}, which is not there. Correct the path or put the file there.")
    return path


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise problem("must be a web address such as https://octopus.example.com.")
    if parts.username or parts.password:
        raise problem("must not carry a user or a password.")
    if parts.query or parts.fragment or parts.path.rstrip("/").endswith("/app"):
        raise problem("must be the bare address, without /app and whatever follows # or ?.")
    return value.rstrip("/")


def _api_address(value: str) -> str:
    return f"{_web_address(value)}/"


def _command(value: str) -> str:
    if not re.fullmatch(r"/[a-z0-9_-]{1,31}", value):
        raise problem("must begin with a slash, followed by at most 31 small letters, digits, dashes and underscores.")
    return value


def _user(value: str) -> str:
    if not _USER_ID.fullmatch(value):
        raise problem(
            f"holds “{value}”, which is not a Slack user id. Ids begin with U or W; Slack shows yours under "
            "Profile → ⋮ → Copy member ID."
        )
    return value


def _channel(value: str) -> str:
    if not _CHANNEL_ID.fullmatch(value):
        raise problem(
            f"holds “{value}”, which is not a Slack channel id. Ids begin with C or G; Slack shows a channel's at the "
            "bottom of its details."
        )
    return value


Reference = Annotated[SecretReference, PlainValidator(_reference)]
"""Where a secret is; in the file a text such as `env:NAME` or `file:/path`."""
ExistingFile = Annotated[Path, AfterValidator(_existing)]
"""A file that must be there when the bot starts; a relative path begins beside the configuration."""
WebAddress = Annotated[str, AfterValidator(_web_address)]
"""A bare http or https address without a slash at its end."""
ApiAddress = Annotated[str, AfterValidator(_api_address)]
"""A bare http or https address with one slash at its end, as slack_sdk wants it."""
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
"""Where a database is; `sqlite:///./NAME` begins beside the configuration."""
PathHere = Annotated[Path, AfterValidator(_path)]
"""A path, of a file that need not be there yet; a relative one begins beside the configuration."""
SlashCommand = Annotated[str, AfterValidator(_command)]
"""The name of a Slack slash command, slash included."""
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
"""A duration in seconds, at most a day."""
Port = Annotated[int, Field(ge=1, le=65_535)]
"""A TCP port."""
UserId = Annotated[str, AfterValidator(_user)]
"""A Slack user id."""
ChannelId = Annotated[str, AfterValidator(_channel)]
"""A Slack channel id."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name that may be typed in Slack and in the configuration."""
