"""What is wrong with a configuration, as sentences for people. No sentence repeats a value that may be a secret."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

STANDS_IN_CLEAR = (
    "holds the secret itself. Put the secret into an environment variable or a file, write env:NAME or file:/path "
    "here, and replace the secret: whoever could read this file may know it."
)
"""The sentence for a secret in the file, after table and key."""

# Slack's tokens, Octopus's API keys, private keys: recognisable wherever they stand.
_SECRET = re.compile(r"\bxox[a-z]-|\bxapp-|\bAPI-[A-Z0-9]{16,}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----")


def is_secret(text: str) -> bool:
    """Whether a text is plainly a secret: a Slack token, an Octopus API key or a private key."""
    return bool(_SECRET.search(text))


def find_secrets(data: Mapping[str, Any], root: type[BaseModel]) -> Iterator[str]:
    """Yield one sentence for every secret that stands in the file, wherever it stands."""
    for location, value in _leaves(data, ()):
        if isinstance(value, str) and is_secret(value):
            yield f"{_locate(location, data, root).text} {STANDS_IN_CLEAR}"


def problems_of(error: ValidationError, data: Mapping[str, Any], root: type[BaseModel]) -> Iterator[str]:
    """Yield one sentence, beginning with table and key, for everything that pydantic found wrong in `data`."""
    for details in error.errors(include_url=False):
        context = details.get("ctx", {})
        if details["type"] == "octocert_several":
            yield from context["sentences"]
        else:
            yield _sentence(details, _locate(details["loc"], data, root), context)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the file something stands, or should stand."""

    table: str
    """As people name it: `[slack]`, `[[hosts]] entry 2 (match “web-*”)`; empty for the top of the file."""
    key: str
    """Empty where the table itself is meant."""
    model: type[BaseModel] | None
    """What describes the table; None where the place is unknown."""

    @property
    def text(self) -> str:
        return f"{self.table} {self.key}".strip()


def _sentence(details: ErrorDetails, place: _Place, context: Mapping[str, Any]) -> str:
    match details["type"]:
        case "octocert":
            what = context["sentence"]
        case "missing":
            what = _missing(place)
        case "extra_forbidden":
            return _unknown(place, is_table=isinstance(details["input"], dict))
        case "literal_error":
            what = f"must be one of {context['expected'].replace(' or ', ', ')}."
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            what = f"must be {_BOUNDS[details['type']]} {next(iter(context.values())):g}."
        case "string_pattern_mismatch":
            what = (
                "is not a usable name: letters, digits, dots, dashes and underscores, beginning with a letter or digit."
            )
        case "string_too_short":
            what = "must not be empty."
        case kind:
            what = f"must be {_KINDS.get(kind, 'something else: ' + details['msg'].rstrip('.'))}."
    return f"{place.text} {what}"


_BOUNDS = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}

_KINDS = {
    "string_type": "a text in quotes",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": 'a list in brackets, such as ["…"]',
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "path_type": "a path in quotes",
}


def _missing(place: _Place) -> str:
    if place.model is None:
        return "is missing."
    if not place.key:
        needed = [name for name, field in place.model.model_fields.items() if field.is_required()]
        needs = f" It needs {', '.join(needed)}." if needed else ""
        return f"is missing: {_one_line(place.model.__doc__)}{needs}"
    return f"is missing: {_one_line(place.model.model_fields[place.key].description)}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _unknown(place: _Place, *, is_table: bool) -> str:
    known = list(place.model.model_fields) if place.model else []
    near = difflib.get_close_matches(place.key.lower().replace("-", "_"), known, n=1)
    if not place.table:
        known, near = [f"[{name}]" for name in known], [f"[{name}]" for name in near]
    thing = f"[{place.key}] is not a table" if is_table and not place.table else f"{place.text} is not a setting"
    return f"{thing}; did you mean {near[0]}?" if near else f"{thing}. What may stand there: {', '.join(known)}."


def _locate(location: tuple[int | str, ...], data: Mapping[str, Any], root: type[BaseModel]) -> _Place:
    """Follow pydantic's location through the models and tell how the file calls that place."""
    model, path, parts = root, "", list(location)
    while parts:
        key = str(parts.pop(0))
        field = model.model_fields.get(key)
        inner = table_in(field.annotation) if field else None
        if inner is None:
            return _Place(f"[{path}]" if path and not path.startswith("[") else path, key, model)
        path = f"{path}.{key}".lstrip(".")
        if field and get_origin(bare(field.annotation)) is tuple:
            if not parts:
                return _Place(f"[[{path}]]", "", None)
            number = int(parts.pop(0))
            path = f"[[{path}]] entry {number + 1}{_which(data, key, number)}"
        elif field and get_origin(bare(field.annotation)) is dict:
            if not parts:
                return _Place(f"[{path}]", "", None)
            path = f"{path}.{parts.pop(0)}"
            if parts == ["[key]"]:
                parts.clear()
        model = inner
    return _Place(f"[{path}]" if path and not path.startswith("[") else path, "", model)


def _which(data: Mapping[str, Any], key: str, number: int) -> str:
    try:
        return f" (match “{data[key][number]['match']}”)"
    except (KeyError, IndexError, TypeError):
        return ""


def bare(annotation: Any) -> Any:
    """Return an annotation without `Annotated` and without `| None`."""
    if hasattr(annotation, "__metadata__"):
        return bare(get_args(annotation)[0])
    options = [a for a in get_args(annotation) if a is not type(None)]
    if type(None) in get_args(annotation) and len(options) == 1:
        return bare(options[0])
    return annotation


def table_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a table, of a table of tables or of an array of tables; None for a plain setting."""
    inside = bare(annotation)
    for candidate in (inside, *get_args(inside)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _leaves(value: Any, location: tuple[int | str, ...]) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, (*location, key))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _leaves(child, (*location, number))
    else:
        yield location, value
