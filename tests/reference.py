"""docs/reference.md, made from the code: `python -m tests.reference` writes it, a test compares it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from prometheus_client import Counter, Histogram
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from bot import cli, telemetry
from bot.domain.commands import COMMANDS, SELECTORS
from bot.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
HEAD = """# Reference

This page is made from the code by `python -m tests.reference`, and a test compares the two.

* [Commands in Slack](#commands-in-slack)
* [Commands in a terminal](#commands-in-a-terminal)
* [Settings](#settings)
* [Metrics](#metrics)
* [Pages and log](#pages-and-log)
"""
TAIL = """## Pages and log

| page | answers |
|---|---|
| `/healthz` | 200 while its threads are alive, which send messages and look after runs; else 503 with the part |
| `/readyz` | 200 while Slack reaches the bot, the database can be written and the engine runs; else 503 with the part |
| `/metrics` | the metrics above, in Prometheus's text format |

The log goes to standard error, as lines for people or, with `[log] format = "json"`, one JSON object each with `event`,
`level`, `logger` and `timestamp`. Lines about a run have `run`, those about a target `target`, those of a step `step`.
Secrets that were read are blotted out of every line.

| exit code | means |
|---|---|
| 0 | done; `doctor`: all is in order; `inventory`: all is well |
| 1 | `doctor` found something; `audit verify` found a flaw; a story ended badly; or something nobody foresaw |
| 2 | refused: the sentence on standard error says why |
| 3 | `inventory`: witnesses disagree, a certificate has expired, or a target was not seen |
| 70 | a bot of several lost its lease and ended itself; start it again |
| 130 | ended by Ctrl-C |
"""


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, *_slack(), *_terminal(), *_settings(), *_metrics(), TAIL]
    return "\n".join(parts).rstrip() + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _slack() -> Iterator[str]:
    yield f"## Commands in Slack\n\nAs `/octocert …`, or by mentioning the bot. {SELECTORS}\n"
    for spec in COMMANDS:
        yield f"### {spec.name}\n\n```text\n{spec.name} {spec.arguments}".rstrip() + "\n```\n"
        yield f"{spec.summary[0].upper()}{spec.summary[1:]}. {spec.help}\n"
        if spec.options:
            yield "| option | means |\n|---|---|"
            yield from (f"| `--{o.name} {o.placeholder}".rstrip() + f"` | {_cell(o.help)} |" for o in spec.options)
            yield ""
        yield "For example: " + ", ".join(f"`{e}`" for e in spec.examples) + "\n"


def _terminal() -> Iterator[str]:
    yield "## Commands in a terminal\n"
    assert isinstance(cli.octocert, click.Group)
    yield from _of_group("octocert", cli.octocert)


def _of_group(path: str, group: click.Group) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _of_group(f"{path} {name}", command)
            continue
        arguments = " ".join(p.make_metavar(click.Context(command)) for p in command.params if _is_argument(p))
        yield f"### {path} {name}\n\n```text\n{path} {name} {arguments}".rstrip() + "\n```\n"
        yield " ".join((command.help or "").split()) + "\n"
        options = [p for p in command.params if isinstance(p, click.Option)]
        if options:
            yield "| option | means |\n|---|---|"
            yield from (f"| `{_option(o)}` | {_cell(o.help or '')}{_default(o)} |" for o in options)
            yield ""


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _option(option: click.Option) -> str:
    if option.is_flag:
        return ", ".join(option.opts)
    return f"{', '.join(option.opts)} {option.metavar or option.make_metavar(click.Context(click.Command('x')))}"


def _default(option: click.Option) -> str:
    return f" Default: `{option.default}`." if option.show_default and option.default is not None else ""


def _settings() -> Iterator[str]:
    yield "## Settings\n"
    yield "[octocert.example.toml](../octocert.example.toml) shows them in place. `NAME` is a name of your choice.\n"
    for table, model in tables(Settings, ""):
        if all(inner(field.annotation) for field in model.model_fields.values()):
            continue
        yield f"### {'[[' if table in LISTS else '['}{table}{']]' if table in LISTS else ']'}\n"
        yield " ".join((model.__doc__ or "").split()) + "\n"
        yield "| setting | default | means |\n|---|---|---|"
        for key, field in model.model_fields.items():
            if inner(field.annotation) is None:
                yield f"| `{key}` | {_value(field.get_default())} | {_cell(field.description or '')} |"
        yield ""


LISTS = {"hosts", "policy.rules"}
"""Tables of which there may be several."""


def inner(annotation: Any) -> type[BaseModel] | None:
    """Return the table in a field's type, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (inner(a) for a in getattr(annotation, "__args__", ()))
    return next((f for f in found if f), None)


def tables(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every table of the configuration with its path."""
    yield path, model
    for key, field in model.model_fields.items():
        table = inner(field.annotation)
        if table:
            name = f"{path}.{key}".lstrip(".") + (".NAME" if str(field.annotation).startswith("dict") else "")
            yield from tables(table, name)


def _value(default: Any) -> str:
    if default is PydanticUndefined:
        return "needed"
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`{list(default)}`"
    return f"`{default}`".replace("|", "\\|")


def _metrics() -> Iterator[str]:
    yield "## Metrics\n"
    yield (
        "No label ever names a target, a run, a person or a host. Beside these there are those of the process and of "
        "Python that every Prometheus client has.\n"
    )
    yield "| metric | kind | labels | means |\n|---|---|---|---|"
    for found in vars(telemetry).values():
        if isinstance(found, Counter | Histogram):
            kind, suffix = ("counter", "_total") if isinstance(found, Counter) else ("histogram", "")
            labels = ", ".join(f"`{name}`" for name in found._labelnames)
            yield f"| `{found._name}{suffix}` | {kind} | {labels} | {_cell(found._documentation)} |"
    yield (
        "| `octocert_certificates` | gauge | `within_days` | Certificates of Tentacles seen so far that expire within "
        "so many days; 0 are expired, +Inf are all. |"
    )
    yield "| `octocert_certificate_days_left` | gauge |  | Days until the first of them expires. |"
    labels_of = {"octocert_info": "`version`", "octocert_runs_open": "`state`", "octocert_radar_findings": "`state`"}
    for name, text in telemetry.MOMENT.items():
        yield f"| `{name}` | gauge | {labels_of.get(name, '')} | {_cell(text)} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
