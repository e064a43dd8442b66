"""Counts what a PFX file holds, which the library that opens it does not tell: it returns one key and drops the rest.

A reader of the BER below the encryption, as far as that is readable without a password. Browsers and Java write
indefinite lengths, so those are understood too. Nothing here decrypts anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_DEEPEST = 16
"""Levels of nesting; a PFX has eight."""
_CONSTRUCTED = 0x20
_SEQUENCE, _OCTETS, _OBJECT, _INTEGER = 0x30, 0x04, 0x06, 0x02
_DATA = bytes.fromhex("2a864886f70d010701")
_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0101")
_SHROUDED_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0102")


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    content: bytes


def looks_like_pfx(data: bytes) -> bool:
    """Return whether the outer form is that of RFC 7292: version 3 and a content of a known type."""
    try:
        version, content = _children(_outer(data))[:2]
        return (version.tag, version.content) == (_INTEGER, b"\x03") and _children(content)[0].tag == _OBJECT
    except (ValueError, IndexError):
        return False


def count_keys(data: bytes) -> int:
    """Return how many private keys stand in the open part of a PFX, where every known program writes them."""
    try:
        return sum(_keys_in(safe) for safe in _safes(data))
    except (ValueError, IndexError):
        return 0


def _safes(data: bytes) -> Iterator[_Element]:
    authenticated = _children(_children(_outer(data))[1])
    for safe in _children(_outer(_octets(_children(authenticated[1])[0]))):
        parts = _children(safe)
        if parts[0].content == _DATA:
            yield _outer(_octets(_children(parts[1])[0]))


def _keys_in(safe: _Element) -> int:
    return sum(_children(bag)[0].content in {_KEY_BAG, _SHROUDED_KEY_BAG} for bag in _children(safe))


def _outer(data: bytes) -> _Element:
    element, _ = _element(data, 0, 0)
    if element.tag != _SEQUENCE:
        raise ValueError("no sequence")
    return element


def _octets(element: _Element, depth: int = 0) -> bytes:
    """Return the octets of a string, which BER may have cut into pieces."""
    if element.tag & ~_CONSTRUCTED != _OCTETS or depth > _DEEPEST:
        raise ValueError("no octet string")
    if not element.tag & _CONSTRUCTED:
        return element.content
    return b"".join(_octets(piece, depth + 1) for piece in _children(element))


def _children(element: _Element) -> list[_Element]:
    found, at = [], 0
    while at < len(element.content):
        child, at = _element(element.content, at, 0)
        found.append(child)
    return found


def _element(data: bytes, at: int, depth: int) -> tuple[_Element, int]:
    """Return the element that begins there and where the next one does; ValueError for what is no BER."""
    if depth > _DEEPEST or at + 2 > len(data):
        raise ValueError("cut short")
    tag, size = data[at], data[at + 1]
    at += 2
    if size == 0x80:
        return _indefinite(tag, data, at, depth)
    if size > 0x80:
        count = size & 0x7F
        if count > 4 or at + count > len(data):
            raise ValueError("cut short")
        size, at = int.from_bytes(data[at : at + count], "big"), at + count
    if at + size > len(data):
        raise ValueError("cut short")
    return _Element(tag, data[at : at + size]), at + size


def _indefinite(tag: int, data: bytes, at: int, depth: int) -> tuple[_Element, int]:
    """Return an element whose end is marked by two zero bytes instead of told by a length."""
    begin = at
    while data[at : at + 2] != b"\0\0":
        _, at = _element(data, at, depth + 1)
    return _Element(tag, data[begin:at]), at + 2
