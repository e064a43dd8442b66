"""A new configuration: the answers of `octocert init`, and every other setting with its sentence and its default.

It is made from the same models that read it, so that it never tells of a setting that is not there, nor leaves one out.
"""

import json
import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bot.domain.errors import UserError
from bot.settings import Settings
from bot.settings_problems import bare, table_in

HEAD = """\
The configuration of octocert, written by `octocert init`.

Lines that are commented out show the default, or … where there is none. An unknown key is an error. Relative paths
begin beside this file. No secret stands in here, only where it is: "env:NAME" is an environment variable, "file:/path"
a file that must not be readable by everybody (chmod 600).
"""
WIDTH = 118


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What `octocert init` asks; the rest has a default."""

    octopus_url: str = "https://octopus.example.com"
    transport: str = "ntlm"
    username: str = "CORP\\svc-octocert"
    ca_file: str | None = None
    approvers: tuple[str, ...] = ("U02APPROVER1", "U02APPROVER2")
    database: str = "sqlite:///./octocert.sqlite"
    socket_mode: bool = True
    secrets: str | None = None
    """The folder of the files with the secrets; None for environment variables."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return the values by `table.key`."""
        way = "app_token" if self.socket_mode else "signing_secret"
        values: dict[str, Any] = {
            "slack.bot_token": self.reference("slack-bot-token"),
            f"slack.{way}": self.reference(f"slack-{way.replace('_', '-')}"),
            "octopus.url": self.octopus_url,
            "octopus.api_key": self.reference("octopus-api-key"),
            "winrm.transport": self.transport,
            "winrm.ca_file": self.ca_file,
            "policy.approvers": list(self.approvers),
            "database.url": self.database,
        }
        if self.transport == "certificate":
            values |= {"winrm.certificate": "winrm.pem", "winrm.key": "winrm.key"}
        else:
            values |= {"winrm.username": self.username, "winrm.password": self.reference("winrm-password")}
        return {**{k: v for k, v in values.items() if v is not None}, **self.extra}

    def reference(self, name: str) -> str:
        """Return where the secret of this name will be."""
        if self.secrets is None:
            return "env:OCTOCERT_" + name.upper().replace("-", "_")
        return f"file:{self.secrets}/{name}"


def text(answers: Answers) -> str:
    """Return the file."""
    given = answers.values()
    lines = [*_comment(HEAD), ""]
    for name, about in Settings.model_fields.items():
        lines += _table(name, about, given)
    return "\n".join(lines).rstrip() + "\n"


def write(path: Path, content: str, *, force: bool) -> None:
    """Write the file for its owner alone; UserError if it is there already, unless `force`."""
    beside = path.with_name(f".{path.name}.new") if force else path
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(beside, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
        if force:
            beside.chmod(0o600)
            beside.replace(path)
    except FileExistsError:
        raise UserError(
            f"{path} is there already and was not touched. Name another file by --out, or overwrite it by --force."
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or type(error).__name__}.") from None


def _table(name: str, about: FieldInfo, given: Mapping[str, Any]) -> Iterator[str]:
    model = table_in(about.annotation)
    assert model is not None, name
    origin = get_origin(bare(about.annotation))
    described = [*_comment(model.__doc__ or "")]
    if about.description and about.description != model.__doc__:
        described += _comment(about.description)
    if origin is dict:
        yield from (*described, f"# [{name}.NAME]", *_keys(name, model, {}), "")
        return
    if origin is tuple:
        yield from (*described, f"# [[{name}]]", *_keys(name, model, {}), "")
        return
    if about.default is None and not any(place.startswith(f"{name}.") for place in given):
        yield from (*described, f"# [{name}]", *_keys(name, model, {}), "")
        return
    has_plain = any(table_in(f.annotation) is None for f in model.model_fields.values())
    if has_plain:
        # a table that may be missing altogether would need its required keys as soon as its head stands there
        is_given = any(k.startswith(f"{name}.") for k in given)
        is_missing = not about.is_required() and about.default is None and not is_given
        yield from (*described, f"{'# ' if is_missing else ''}[{name}]", *_keys(name, model, given), "")
    for key, inner in model.model_fields.items():
        if table_in(inner.annotation) is not None:
            yield from _table(f"{name}.{key}", inner, given)


def _keys(table: str, model: type[BaseModel], given: Mapping[str, Any]) -> Iterator[str]:
    for key, about in model.model_fields.items():
        if table_in(about.annotation) is not None:
            continue
        yield from _comment(about.description or "")
        value = given.get(f"{table}.{key}")
        if value is not None:
            yield f"{key} = {_toml(value)}"
        else:
            default = about.get_default()
            shown = "…" if about.is_required() or default is None else _toml(default)
            yield f"# {key} = {shown}"


def _comment(paragraphs: str) -> Iterator[str]:
    for number, paragraph in enumerate(paragraphs.strip().split("\n\n")):
        if number:
            yield "#"
        flat = " ".join(paragraph.split())
        yield from (f"# {line}" for line in textwrap.wrap(flat, WIDTH, break_on_hyphens=False))


def _toml(value: Any) -> str:
    """Return a value as TOML: JSON's form of texts, numbers, flags and lists is one."""
    if isinstance(value, tuple | list | frozenset | set):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, str) and "\\" in value and "'" not in value:
        return f"'{value}'"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)
