"""What can go wrong with a host, as a few kinds, each with a sentence for people."""

from enum import StrEnum

from bot.domain.errors import UserError


class RemoteErrorKind(StrEnum):
    """Why a visit did not end well."""

    UNREACHABLE = "unreachable"
    """No connection, or it was lost before the script got what it works with: nothing was begun."""
    AUTHENTICATION = "authentication"
    """The host refused the login, or our account may not do this. Never tried again by itself: accounts lock."""
    TLS = "tls"
    """The host's certificate is not trusted."""
    BUSY = "busy"
    """The host has no room now; nothing was begun."""
    QUOTA = "quota"
    """Our account has too many shells or operations open there; nothing was begun."""
    UNKNOWN_OUTCOME = "unknown outcome"
    """The script was begun and its end was not seen: the host must be asked."""
    SCRIPT = "script"
    """The script itself said what failed."""
    PROTOCOL = "protocol"
    """The answer was none that WinRM or our script gives."""


class RemoteError(UserError):
    """A visit to a host failed. The text names host, cause and mend; it never holds what was sent or a raw answer."""

    def __init__(
        self, kind: RemoteErrorKind, host: str, text: str, *, reason: str | None = None, said: str = ""
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.host = host
        self.reason = reason
        """The word with which the script refused, such as `stale`: nothing was changed. None for all other errors."""
        self.said = said
        """What the script said of it, without where; empty for all other errors."""
