"""Authorities: CAs that sign a certificate for each target, and the terms on which they may. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.domain.errors import UserError
from bot.domain.thumbprint import Thumbprint

TARGET = "{target}"
"""What stands for a target's name in the templates of names."""
LONGEST_COMMON_NAME = 64
"""Characters of a common name (RFC 5280, ub-common-name)."""
BACKDATED = timedelta(hours=1)
"""How long before the present a certificate begins, so that a host whose clock is late takes it, too."""
_DNS = re.compile(r"(?=.{1,253}$)(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")  # fmt: skip  # noqa: E501


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the certificate of one target is made out to."""

    common: str
    alternative: tuple[str, ...] = ()
    """DNS names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA and the terms on which it signs: all that an approver can know before there is a certificate."""

    name: str
    """As commands call it."""
    engine: str
    """`local` or `vault`."""
    issuer: str
    """The subject of its own certificate."""
    thumbprint: Thumbprint
    """Of its own certificate."""
    until: datetime
    """When its own certificate ends; nothing that it signs lasts longer."""
    common_name: str
    """A template, such as `{target}`."""
    alternative_names: tuple[str, ...]
    """Templates."""
    allowed: str
    """A regular expression that every name must match as a whole."""
    days: int
    key_bits: int

    @property
    def templates(self) -> Names:
        """The names as the configuration gives them."""
        return Names(common=self.common_name, alternative=self.alternative_names)

    def names_for(self, target: str) -> Names:
        """Return the names for a target; UserError, with what to do, if the terms do not allow them."""
        names = Names(
            common=self.common_name.replace(TARGET, target),
            alternative=tuple(dict.fromkeys(t.replace(TARGET, target) for t in self.alternative_names)),
        )
        for name in (names.common, *names.alternative):
            if not re.fullmatch(self.allowed, name):
                raise UserError(
                    f"its certificate would be made out to “{name}”, which [certificates.ca.{self.name}] allowed does "
                    "not match"
                )
        if not 0 < len(names.common) <= LONGEST_COMMON_NAME:
            raise UserError(
                f"its certificate would be made out to “{names.common}”, and a common name has at most "
                f"{LONGEST_COMMON_NAME} characters"
            )
        for name in names.alternative:
            if not _DNS.fullmatch(name):
                raise UserError(f"its certificate would carry the alternative name “{name}”, which is no DNS name")
        return names

    def ends(self, now: datetime) -> datetime:
        """Return when a certificate ends that is signed now: never later than the CA's own."""
        return min(now + timedelta(days=self.days), self.until)

    def is_cut_short(self, now: datetime) -> bool:
        """Whether the CA ends before a certificate would that is signed now."""
        return now + timedelta(days=self.days) > self.until
