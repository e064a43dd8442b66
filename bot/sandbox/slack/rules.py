"""Building stones of the validator: small checks of JSON values, joined to shapes, with errors worded as Slack's.

A check is a function of (value, pointer) that yields error texts; `pointer` is a JSON pointer into the payload. Wording
follows answers of the real Web API that users quoted (`must be less than 3001 characters
[json-pointer:/blocks/0/text/text]`); where no quote was found it is our own in the same style.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Check = Callable[[Any, str], Iterator[str]]


def error(text: str, pointer: str) -> str:
    """Return an error text with its place, in Slack's form."""
    return f"{text} [json-pointer:{pointer}]"


def string(maximum: int | None = None, minimum: int = 1) -> Check:
    """Return a check for a string of so many characters."""

    def check(value: Any, pointer: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield error("must provide a string", pointer)
        elif len(value) < minimum:
            yield error(f"must be more than {minimum - 1} characters", pointer)
        elif maximum is not None and len(value) > maximum:
            yield error(f"must be less than {maximum + 1} characters", pointer)

    return check


def url(maximum: int = 3000) -> Check:
    """Return a check for an absolute http, https or mailto URL."""
    plain = string(maximum)

    def check(value: Any, pointer: str) -> Iterator[str]:
        yield from plain(value, pointer)
        if isinstance(value, str):
            try:
                parts = urlsplit(value)
            except ValueError:
                parts = urlsplit("")
            if not (parts.scheme in {"http", "https"} and parts.netloc) and parts.scheme != "mailto":
                yield error("must be a valid URL", pointer)

    return check


def boolean(value: Any, pointer: str) -> Iterator[str]:
    """Check for true or false."""
    if not isinstance(value, bool):
        yield error("must be a boolean", pointer)


def integer(minimum: int, maximum: int) -> Check:
    """Return a check for a whole number in a range, both ends included."""

    def check(value: Any, pointer: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int):
            yield error("must be an integer", pointer)
        elif not minimum <= value <= maximum:
            yield error(f"must be between {minimum} and {maximum}", pointer)

    return check


def number(value: Any, pointer: str) -> Iterator[str]:
    """Check for any number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield error("must be a number", pointer)


def one_of(*allowed: str) -> Check:
    """Return a check for one of some fixed strings."""

    def check(value: Any, pointer: str) -> Iterator[str]:
        if value not in allowed:
            yield error(f"must be a valid enum value, one of {', '.join(allowed)}", pointer)

    return check


def pattern(test: Callable[[str], bool], wanted: str) -> Check:
    """Return a check for a string that passes a test; `wanted` says what it should have been."""

    def check(value: Any, pointer: str) -> Iterator[str]:
        if not isinstance(value, str) or not test(value):
            yield error(f"must be {wanted}", pointer)

    return check


def array(item: Check, maximum: int | None = None, minimum: int = 0) -> Check:
    """Return a check for an array of so many items, each of which passes a check."""

    def check(value: Any, pointer: str) -> Iterator[str]:
        if not isinstance(value, list | tuple):
            yield error("must be an array", pointer)
            return
        if len(value) < minimum:
            yield error(f"must contain at least {minimum} items", pointer)
        if maximum is not None and len(value) > maximum:
            yield error(f"no more than {maximum} items allowed", pointer)
        for index, element in enumerate(value):
            yield from item(element, f"{pointer}/{index}")

    return check


def nullable(inner: Check) -> Check:
    """Return a check that also lets null pass."""

    def check(value: Any, pointer: str) -> Iterator[str]:
        if value is not None:
            yield from inner(value, pointer)

    return check


def anything(value: Any, pointer: str) -> Iterator[str]:
    """Let every value pass."""
    del value, pointer
    return iter(())


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with known fields: those of `required` must be there, those of `optional` may, others are errors.

    `together` are further checks of the whole object (fields that need or exclude each other).
    """

    required: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)
    together: tuple[Check, ...] = ()

    def __call__(self, value: Any, pointer: str) -> Iterator[str]:
        """Check one object."""
        if not isinstance(value, dict):
            yield error("must provide an object", pointer)
            return
        for name in self.required:
            if name not in value:
                yield error(f"missing required field: {name}", pointer)
        for name, item in value.items():
            known = self.required.get(name) or self.optional.get(name)
            if known is None:
                yield error(f"invalid additional property: {name}", pointer)
            else:
                yield from known(item, f"{pointer}/{name}")
        for check in self.together:
            yield from check(value, pointer)


@dataclass(frozen=True, slots=True)
class Variant:
    """An object whose `type` chooses its shape."""

    shapes: Mapping[str, Check]

    def __call__(self, value: Any, pointer: str) -> Iterator[str]:
        """Check one object by the shape of its type."""
        if not isinstance(value, dict):
            yield error("must provide an object", pointer)
        elif "type" not in value:
            yield error("missing required field: type", pointer)
        elif not isinstance(value["type"], str) or value["type"] not in self.shapes:
            yield error(f"unsupported type: {value['type']}", f"{pointer}/type")
        else:
            yield from self.shapes[value["type"]](value, pointer)


def typed(
    name: str, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None, *together: Check
) -> Shape:
    """Return the shape of an object of one `type`."""
    return Shape({"type": one_of(name), **required}, optional or {}, together)


def any_of(*names: str) -> Check:
    """Return a check that at least one of some fields is there."""

    def check(value: Any, pointer: str) -> Iterator[str]:
        if not any(value.get(name) for name in names):
            yield error(f"missing required field: {' or '.join(names)}", pointer)

    return check


def exactly_one(*names: str) -> Check:
    """Return a check that exactly one of some fields is there."""

    def check(value: Any, pointer: str) -> Iterator[str]:
        if sum(name in value for name in names) != 1:
            yield error(f"must have exactly one of {', '.join(names)}", pointer)

    return check
