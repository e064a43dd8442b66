"""What can go wrong with the Octopus Server, as errors whose sentences people can act on."""

from enum import StrEnum

from bot.domain.errors import UserError


class OctopusErrorKind(StrEnum):
    """What sort of trouble it is; decides whether asking again may help."""

    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"
    """Its TLS certificate is not accepted, or it speaks no TLS: waiting does not help."""
    UNAUTHORISED = "unauthorised"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not found"
    RATE_LIMITED = "rate limited"
    CONFLICT = "conflict"
    """The document is not what we expected it to be: somebody else changed it."""
    REFUSED = "refused"
    """Octopus understood the request and does not accept it."""
    SERVER_ERROR = "server error"
    UNEXPECTED = "unexpected answer"


class OctopusError(UserError):
    """The Octopus Server did not do what was asked; the text says what, and what to do next."""

    def __init__(
        self,
        text: str,
        *,
        kind: OctopusErrorKind,
        status: int | None = None,
        permission: str | None = None,
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.status = status
        self.permission = permission
        """The permission that is missing, where Octopus named it."""


class RecordVanished(OctopusError):  # noqa: N818 - it names what happened, as everybody says it
    """A record is no longer there: deleted by someone, or by a policy that removes unavailable machines."""
