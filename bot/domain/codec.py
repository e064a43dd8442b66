"""Facts, plans and runs as JSON and back: what the ledger stores and the durable engine journals."""

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def dump(value: object) -> Any:
    """Return a domain value as plain JSON types."""
    return _adapter(type(value)).dump_python(value, mode="json")


def load(kind: type[T], data: Any) -> T:
    """Return the domain value that `dump` turned into `data`; ValueError if it is none."""
    result: T = _adapter(kind).validate_python(data)
    return result


def dumps(value: object) -> str:
    """Return a domain value as JSON text."""
    # at once: the plan of a fleet as plain Python values would take more memory than all the rest of it
    return _adapter(type(value)).dump_json(value).decode()


def loads(kind: type[T], text: str) -> T:
    """Return the domain value that `dumps` turned into `text`; ValueError if it is none."""
    result: T = _adapter(kind).validate_json(text)
    return result


def canonical(value: Any) -> bytes:
    """Return plain JSON types as the one text over which digests are made."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
