"""What `octocert init` asks, checked by the same models that read the configuration, and what it says afterwards."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import click
from pydantic import TypeAdapter, ValidationError

from bot.domain.errors import SettingsError
from bot.operating.configuration import Answers
from bot.settings_policy import Policy
from bot.settings_tables import Database, Octopus, Table, WinRm

_MODELS: dict[str, tuple[type[Table], str]] = {
    "octopus_url": (Octopus, "url"),
    "transport": (WinRm, "transport"),
    "username": (WinRm, "username"),
    "approvers": (Policy, "approvers"),
    "database": (Database, "url"),
}
_OPTIONS = {"octopus_url": "--octopus-url", "approvers": "--approver"}


def checked(known: Mapping[str, Any]) -> Answers:
    """Return answers that were given as options; SettingsError if one of them cannot be used."""
    for name, value in known.items():
        if name in _MODELS and (problem := _problem(name, value)):
            raise SettingsError(f"{_OPTIONS.get(name, '--' + name)} {problem}")
    return Answers(**known)


def ask(known: Mapping[str, Any]) -> Answers:
    """Ask for what is not known; a question is asked again until its answer can be used."""
    answers = dict(known)
    checked(answers)
    defaults = Answers()
    click.echo("Some questions, and the file is written. Everything can be changed there later.\n", err=True)
    _ask(answers, "octopus_url", "Address of the Octopus Server", defaults.octopus_url)
    _ask(answers, "transport", "Login to Windows hosts (ntlm, kerberos, certificate, basic)", defaults.transport)
    if answers["transport"] != "certificate":
        _ask(answers, "username", "Account for Windows hosts", defaults.username)
    if "ca_file" not in answers:
        text = "CA file (PEM) of the hosts' WinRM certificates, empty for the system's CAs"
        answers["ca_file"] = click.prompt(text, default="", show_default=False, err=True).strip() or None
    if "approvers" not in answers:
        _ask_approvers(answers)
    _ask(answers, "database", "Database", defaults.database)
    return Answers(**answers)


def _ask(answers: dict[str, Any], name: str, text: str, default: str) -> None:
    while name not in answers:
        given = click.prompt(text, default=default, err=True).strip()
        if problem := _problem(name, given):
            click.echo(f"  It {problem}", err=True)
        else:
            answers[name] = given


def _ask_approvers(answers: dict[str, Any]) -> None:
    text = "Slack user ids of those who may approve, at least two (profile → ⋮ → Copy member ID)"
    while "approvers" not in answers:
        given = tuple(click.prompt(text, err=True).replace(",", " ").split())
        if problem := _problem("approvers", given):
            click.echo(f"  It {problem}", err=True)
        else:
            answers["approvers"] = given


def _problem(name: str, value: Any) -> str | None:
    """Return what is wrong with an answer, as the end of a sentence."""
    model, key = _MODELS[name]
    about = model.model_fields[key]
    kind = Any if about.annotation is None else about.annotation
    for rule in reversed(about.metadata):
        kind = _annotated(kind, rule)
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return str(first.get("ctx", {}).get("sentence") or first["msg"])
    if not value:
        return "must not be empty."
    return None


def _annotated(kind: Any, rule: Any) -> Any:

    return Annotated[kind, rule]


def next_steps(path: Path, answers: Answers) -> str:
    """Return what to do now."""
    shown = shlex.quote(str(path))
    secrets = [v for k, v in answers.values().items() if k.endswith(("token", "secret", "api_key", "password"))]
    way = "" if answers.socket_mode else " --http-url https://YOUR.PROXY"
    run = "" if answers.socket_mode else " --http 127.0.0.1:8080"
    return f"""{path} is written; every setting stands in it with its sentence.

Next:
  1. Make the Slack app:  octocert manifest --config {shown}{way} > manifest.json
     Paste it at api.slack.com/apps → Create New App → From a manifest, and install the app.
  2. Put the secrets where the file says: {", ".join(secrets)}.
  3. See whether all is in order, then begin:
     octocert doctor --config {shown}
     octocert run --config {shown}{run}"""
