"""Thumbprints: the identity by which Octopus Server and Tentacles know each other."""

import hashlib
import re
import unicodedata
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from bot.domain.errors import UserError

# What Windows' certificate dialogs and people put between the digits; U+200E is the invisible mark in front of a copy.
_NOISE = re.compile(r"[\s:\-\u00a0\u200b-\u200f\u202a-\u202e\u2060\ufeff]+")
_HEX = re.compile(r"[0-9A-F]{40}")


class Thumbprint(str):
    """SHA-1 of a certificate's DER as 40 upper-case hex digits, as .NET, Halibut and Octopus write it.

    Octopus compares outgoing thumbprints case-sensitively (Halibut: ClientCertificateValidator), hence one spelling.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Parse a thumbprint, forgiving case, spaces, colons, dashes and invisible marks; UserError if it is none."""
        digits = _NOISE.sub("", text).upper()
        if not _HEX.fullmatch(digits):
            shown = text if len(text) <= 60 else text[:60] + "…"
            raise UserError(f"“{shown}” is not a thumbprint: 40 hexadecimal digits are expected.")
        return super().__new__(cls, digits)

    @classmethod
    def of(cls, der: bytes) -> Self:
        """Return the thumbprint of a certificate given as DER."""
        return cls(hashlib.sha1(der, usedforsecurity=False).hexdigest())

    @classmethod
    def maybe(cls, text: str | None) -> Self | None:
        """Parse a thumbprint; None where there is none or where the text is not one."""
        try:
            return cls(text) if text else None
        except UserError:
            return None

    @classmethod
    def exact(cls, text: str) -> Self | None:
        """Return the thumbprint that a stored text is to Octopus, which forgives nothing but the case; None if none.

        Octopus stores what it is given, the invisible mark of a copy too, and compares it as it stands: such a text is
        no certificate's (Halibut: DefaultTrustProvider).
        """
        found = cls.maybe(text)
        return found if found == text.upper() else None

    @property
    def short(self) -> str:
        """The first eight digits, for places where the whole would not fit."""
        return self[:8]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let facts and plans be stored as JSON and read back."""
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


def revealed(text: str) -> str:
    """Return a stored text with what nobody would see in it made visible, by its code."""
    return "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else f"\\u{ord(c):04x}" for c in text)
