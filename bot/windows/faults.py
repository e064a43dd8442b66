"""What pywinrm throws, and what it means: a dozen foreign exceptions become a few typed errors with advice."""

import ssl
from typing import TYPE_CHECKING

import requests
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from bot.domain.errors import UserError
from bot.windows.errors import RemoteError, RemoteErrorKind

if TYPE_CHECKING:
    from bot.windows.transport import Endpoint

SHELL_QUOTA = {2150859173, 2150859174}
"""WSMan: too many shells (0x803381A5) or operations (0x803381A6) of this user."""
ERROR_BUSY = 170
"""Windows: the requested resource is in use."""
GONE_SHELL = 2150858843
"""WSMan: no such shell (ERROR_WSMAN_INVALID_SELECTORS); it was deleted, idle for too long, or the host restarted."""
ACCESS_DENIED = 5


def is_lost_connection(error: Exception) -> bool:
    """Whether the connection went away, rather than the host answering."""
    if isinstance(error, requests.exceptions.SSLError) and _is_trust(error):
        return False
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
        return True
    # under sealing a new connection answers 400 to what was sealed for the old one
    return isinstance(error, WinRMTransportError) and _status(error) == 400


def is_busy(error: Exception) -> bool:
    """Whether the host answered that it has no room just now."""
    if isinstance(error, WSManFaultError):
        return error.wsman_fault_code == ERROR_BUSY
    return isinstance(error, WinRMTransportError) and _status(error) == 503


def is_passing(error: Exception) -> bool:
    """Whether the same call may work in a moment: connection, busy host, full quota."""
    quota = isinstance(error, WSManFaultError) and error.wsman_fault_code in SHELL_QUOTA
    return quota or is_busy(error) or is_lost_connection(error)


def is_refusal(error: Exception) -> bool:
    """Whether the host surely did not begin what it was asked for: it answered, and with a fault."""
    return isinstance(error, WSManFaultError | InvalidCredentialsError) or is_busy(error)


def _status(error: WinRMTransportError) -> int:
    return int(error.code) if str(error.code).isdigit() else 0


def _is_trust(error: Exception) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def explained(error: Exception, endpoint: "Endpoint", *, begun: bool) -> Exception:
    """Return the error to raise instead of a foreign one; `begun` says whether the script may have run.

    Nothing of what was sent or received is kept: bodies may hold secrets.
    """
    if isinstance(error, UserError):
        return error
    host = endpoint.host

    def made(kind: RemoteErrorKind, text: str) -> RemoteError:
        return RemoteError(kind, host, text)

    if isinstance(error, InvalidCredentialsError | PermissionError) or _is_missing_challenge(error):
        return made(RemoteErrorKind.AUTHENTICATION, _login_refused(endpoint))
    if isinstance(error, requests.exceptions.SSLError):
        if _is_trust(error):
            return made(
                RemoteErrorKind.TLS,
                f"The certificate of {host}'s WinRM listener is not trusted. Set ca_file under [winrm] to the CA that "
                "issued it, and see that the certificate names the address by which the host is reached.",
            )
        return made(RemoteErrorKind.TLS, f"TLS with {host} failed. See that its listener on {endpoint.url} is HTTPS.")
    if begun and (is_lost_connection(error) or isinstance(error, WinRMOperationTimeoutError)):
        return made(
            RemoteErrorKind.UNKNOWN_OUTCOME,
            f"The connection to {host} was lost while the script ran, so its end was not seen.",
        )
    if isinstance(error, requests.exceptions.Timeout):
        return made(RemoteErrorKind.UNREACHABLE, f"{host} did not answer on {endpoint.url}. Is WinRM running there?")
    if isinstance(error, requests.exceptions.RequestException | OSError):
        return made(
            RemoteErrorKind.UNREACHABLE,
            f"{host} cannot be reached on {endpoint.url}. "
            "See that it is up, WinRM listens there, and no firewall is between.",
        )
    if isinstance(error, WSManFaultError):
        return _fault(error, host, begun=begun)
    if isinstance(error, WinRMTransportError):
        return _http(error, endpoint, begun=begun)
    kind = RemoteErrorKind.UNKNOWN_OUTCOME if begun else RemoteErrorKind.PROTOCOL
    return made(
        kind,
        f"{host} answered on {endpoint.url} with something that is not WinRM ({type(error).__name__}).",
    )


def _is_missing_challenge(error: Exception) -> bool:
    return isinstance(error, KeyError) and "www-authenticate" in str(error).casefold()


def _login_refused(endpoint: "Endpoint") -> str:
    text = f"{endpoint.host} refused the login of {endpoint.username or 'our certificate'} by {endpoint.transport}. "
    if endpoint.transport == "kerberos":
        return text + "See that the ticket is valid and the host's name fits its service principal."
    hints = ["Check the password reference; it is not tried again, so that the account does not lock."]
    if endpoint.transport == "ntlm":
        hints.append(
            "If the password is right: NTLM may be switched off there, or something between us and the host ends TLS, "
            "so that channel binding fails."
        )
    if endpoint.transport == "basic":
        hints.append("Basic must be allowed on the host's WinRM service, and takes local accounts only.")
    return text + " ".join(hints)


def _fault(error: WSManFaultError, host: str, *, begun: bool) -> RemoteError:
    code = error.wsman_fault_code
    if code in SHELL_QUOTA:
        return RemoteError(
            RemoteErrorKind.QUOTA,
            host,
            f"Our account has too many shells open on {host}. They end by themselves; "
            "raise MaxShellsPerUser if it stays so.",
        )
    if code == ERROR_BUSY:
        return RemoteError(RemoteErrorKind.BUSY, host, f"{host} is too busy to take the visit. It may be asked again.")
    if code == ACCESS_DENIED:
        return RemoteError(
            RemoteErrorKind.AUTHENTICATION,
            host,
            f"Our account may log in on {host}, but not open a shell. Make it a local administrator there; for a local "
            "account set LocalAccountTokenFilterPolicy.",
        )
    if begun:
        return RemoteError(
            RemoteErrorKind.UNKNOWN_OUTCOME,
            host,
            f"{host} lost the visit's shell (fault {code}), so its end was not seen.",
        )
    return RemoteError(RemoteErrorKind.PROTOCOL, host, f"{host} refused the visit with WS-Management fault {code}.")


def _http(error: WinRMTransportError, endpoint: "Endpoint", *, begun: bool) -> RemoteError:
    status = _status(error)
    if begun:
        return RemoteError(
            RemoteErrorKind.UNKNOWN_OUTCOME,
            endpoint.host,
            f"{endpoint.host} answered HTTP {status} in mid-visit, so the script's end was not seen.",
        )
    if status == 503:
        return RemoteError(RemoteErrorKind.BUSY, endpoint.host, f"{endpoint.host} is too busy to take the visit.")
    hint = " It may refuse messages that are not sealed: use https or ntlm." if status == 500 else ""
    return RemoteError(
        RemoteErrorKind.PROTOCOL, endpoint.host, f"{endpoint.host} answered HTTP {status} on {endpoint.url}.{hint}"
    )
