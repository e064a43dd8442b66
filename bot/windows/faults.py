"""What pywinrm throws, and what it means: a dozen foreign exceptions become a few typed errors with advice."""

import re
import ssl
from typing import TYPE_CHECKING

import requests
from spnego.exceptions import SpnegoError
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from bot.domain.errors import UserError
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.wire import NotWinRm

if TYPE_CHECKING:
    from bot.windows.transport import Endpoint

SHELL_QUOTA = {2150859173, 2150859174}
"""WSMan: too many shells (0x803381A5) or operations (0x803381A6) of this user."""
BUSY_CODES = {170, 1460}
"""Windows: the requested resource is in use; the operation timed out. A loaded host says so to any operation."""
GONE_SHELL = 2150858843
"""WSMan: no such shell; it was deleted, idle for too long, or the host restarted."""
ACCESS_DENIED = 5
_LONG_BASE64 = re.compile(r"[A-Za-z0-9+/=]{64,}")
_TEXT = 2000


def scrubbed(text: str) -> str:
    """Return what a host said with everything that may be a key or a payload taken out, and not too long."""
    return _LONG_BASE64.sub("…", text)[:_TEXT].strip()


def is_lost_connection(error: Exception, *, sealed: bool) -> bool:
    """Whether the connection went away, rather than the host answering. `sealed`: whether logins seal the messages."""
    if isinstance(error, requests.exceptions.SSLError):
        return not _is_trust(error) and "EOF" in str(error)
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
        return not _is_kerberos(error)
    return isinstance(error, requests.exceptions.ChunkedEncodingError) or (sealed and is_unreadable(error))


def is_unreadable(error: Exception) -> bool:
    """Whether the host could not read a message, sealed for another connection perhaps: it did nothing."""
    return isinstance(error, WinRMTransportError) and _status(error) == 400


def is_busy(error: Exception) -> bool:
    """Whether the host answered that it has no room just now."""
    if isinstance(error, WSManFaultError):
        return error.wsman_fault_code in BUSY_CODES
    return isinstance(error, WinRMTransportError) and _status(error) == 503


def is_refused_input(error: Exception) -> bool:
    """Whether the host answered that the program takes no input: it has ended, most likely."""
    return isinstance(error, WSManFaultError) and not is_busy(error) and error.wsman_fault_code != GONE_SHELL


def is_quota(error: Exception) -> bool:
    """Whether our account has too much open there."""
    return isinstance(error, WSManFaultError) and bool({error.wsman_fault_code, error.wmierror_code} & SHELL_QUOTA)


def explained(error: Exception, endpoint: "Endpoint", *, begun: bool) -> Exception:
    """Return the error to raise instead of a foreign one; `begun` says whether the script may have run.

    Nothing of what was sent or received is kept: bodies may hold secrets. Raise it outside of the `except` block, so
    that the foreign one is not kept as its context.
    """
    if isinstance(error, UserError):
        return error
    kind, text = _explanation(error, endpoint)
    if begun:
        return RemoteError(
            RemoteErrorKind.UNKNOWN_OUTCOME,
            endpoint.host,
            f"The script on {endpoint.host} was begun, but its end was not seen. {text} "
            "What it did stands in its journal there, which the next visit reads.",
        )
    return RemoteError(kind, endpoint.host, text)


def _explanation(error: Exception, endpoint: "Endpoint") -> tuple[RemoteErrorKind, str]:
    """Return kind and sentences for an error before anything was begun."""
    host, url = endpoint.host, endpoint.url
    if isinstance(error, InvalidCredentialsError):
        return RemoteErrorKind.AUTHENTICATION, _login_refused(endpoint)
    if isinstance(error, PermissionError) or _is_missing_challenge(error):
        return RemoteErrorKind.AUTHENTICATION, (
            f"{host} offers no login by {endpoint.transport} on {url}. NTLM may be switched off there by policy, or "
            "something between ends the connection: use kerberos, or look at the host's WinRM service."
        )
    if _is_kerberos(error) or isinstance(error, SpnegoError):
        return RemoteErrorKind.AUTHENTICATION, (
            f"The login on {host} by {endpoint.transport} could not be completed ({type(error).__name__}). For "
            "kerberos: see that a ticket is there (klist) and that the host's name in the configuration is the one in "
            "its service principal HTTP/<name>; for ntlm: see that nothing between changes messages."
        )
    if isinstance(error, requests.exceptions.SSLError):
        return RemoteErrorKind.TLS, _tls(error, endpoint)
    if isinstance(error, requests.exceptions.RequestException | WinRMOperationTimeoutError | TimeoutError | OSError):
        return RemoteErrorKind.UNREACHABLE, _unreachable(error, endpoint)
    if isinstance(error, WSManFaultError):
        return _fault(error, host)
    if isinstance(error, WinRMTransportError):
        return _http(_status(error), endpoint)
    if isinstance(error, UnicodeEncodeError):
        return RemoteErrorKind.AUTHENTICATION, (
            f"Name or password for {host} holds characters that {endpoint.transport} cannot carry. "
            "Use ntlm or kerberos."
        )
    if isinstance(error, WinRMError) and "kerberos" in str(error):
        return RemoteErrorKind.AUTHENTICATION, (
            f"{host} is to be reached by kerberos, but its library is not installed: pip install 'octocert[kerberos]'."
        )
    what = str(error) if isinstance(error, NotWinRm) else type(error).__name__
    return RemoteErrorKind.PROTOCOL, (
        f"{host} answered on {url} with something that is not WinRM ({what}). Is a proxy or another service between?"
    )


def _login_refused(endpoint: "Endpoint") -> str:
    host = endpoint.host
    text = f"{host} refused the login of {endpoint.username or 'our certificate'} by {endpoint.transport}. "
    if endpoint.transport == "kerberos":
        return text + "See that the ticket is valid and that the host's name fits its service principal HTTP/<name>."
    if endpoint.transport == "certificate":
        return (
            text + "See that the certificate is mapped to an account there "
            "(winrm enumerate winrm/config/service/certmapping)."
        )
    text += "Check the password reference; it is not tried again, so that the account does not lock. "
    if endpoint.transport == "basic":
        return text + "Basic must be allowed on the host's WinRM service, and takes local accounts only."
    more = ", or something between us and the host ends TLS, so that channel binding fails" if endpoint.is_tls else ""
    return text + f"If the password is right: the account may be locked, or NTLM restricted there by policy{more}."


def _tls(error: Exception, endpoint: "Endpoint") -> str:
    host = endpoint.host
    if not _is_trust(error):
        return f"TLS with {host} failed. See that its listener on {endpoint.url} is HTTPS and speaks TLS 1.2 or newer."
    reason = str(error).lower()
    if "mismatch" in reason or "doesn't match" in reason:
        return (
            f"The certificate of {host}'s WinRM listener is for another name. Reach the host by a name that stands "
            "in it (address in [[hosts]]), or have one issued that names this address."
        )
    if "expired" in reason:
        return f"The certificate of {host}'s WinRM listener has expired. Renew it on the host, then ask again."
    return (
        f"The certificate of {host}'s WinRM listener is not trusted. Set ca_file under [winrm] to the CA that issued "
        "it. octocert has no switch that ignores this."
    )


def _unreachable(error: Exception, endpoint: "Endpoint") -> str:
    host, url = endpoint.host, endpoint.url
    causes = " ".join(type(cause).__name__ for cause in _chain(error)) + " " + str(error)
    if "NameResolution" in causes or "gaierror" in causes:
        return f"The name {host} cannot be resolved. Correct it in Octopus or give the host an address in [[hosts]]."
    if "ConnectTimeout" in causes or isinstance(error, requests.exceptions.ConnectTimeout):
        return f"{host} does not answer on {url}. See that it is up and that no firewall drops this port."
    if isinstance(error, requests.exceptions.Timeout | WinRMOperationTimeoutError | TimeoutError):
        return f"{host} took the connection on {url} but did not answer in time. See how loaded it is, then ask again."
    if "refused" in causes.lower():
        return (
            f"{host} refuses connections on {url}. See that WinRM runs and listens there "
            "(winrm enumerate winrm/config/listener)."
        )
    return (
        f"The connection to {host} on {url} was lost or could not be made. See that it is up, that WinRM listens "
        "there, and that no firewall is between."
    )


def _fault(error: WSManFaultError, host: str) -> tuple[RemoteErrorKind, str]:
    code = error.wsman_fault_code
    if is_quota(error):
        return RemoteErrorKind.QUOTA, (
            f"Our account has too many shells or operations open on {host}. Abandoned ones end by themselves within "
            "minutes; raise MaxShellsPerUser there if it stays so."
        )
    if is_busy(error):
        return RemoteErrorKind.BUSY, f"{host} is too busy to take the visit (fault {code}). Ask again in a minute."
    if code == ACCESS_DENIED:
        return RemoteErrorKind.AUTHENTICATION, (
            f"Our account may log in on {host}, but not open a shell. Make it a member of the host's Administrators; "
            "for a local account set LocalAccountTokenFilterPolicy to 1 there."
        )
    if code == GONE_SHELL:
        return RemoteErrorKind.PROTOCOL, f"{host} does not know the visit's shell any more. Was the host restarted?"
    return RemoteErrorKind.PROTOCOL, (
        f"{host} refused the visit with WS-Management fault {code or 'without a number'}. The host's event log "
        "Microsoft-Windows-WinRM/Operational says more."
    )


def _http(status: int, endpoint: "Endpoint") -> tuple[RemoteErrorKind, str]:
    host, url = endpoint.host, endpoint.url
    if status == 503:
        return RemoteErrorKind.BUSY, f"{host} is too busy to take the visit (HTTP 503). Ask again in a minute."
    if status == 403:
        return RemoteErrorKind.AUTHENTICATION, (
            f"{host} forbids our account the use of WinRM (HTTP 403). Make it a member of the host's Administrators."
        )
    advice = {
        400: "It could not read our message.",
        404: "There is no WS-Management at that address: does another service use the port?",
        413: "The message was longer than its MaxEnvelopeSizekb allows; the default is 500.",
        500: "It may refuse messages that are neither sealed nor under TLS: use https, ntlm or kerberos.",
    }.get(status, "Is a proxy or another service between?")
    return RemoteErrorKind.PROTOCOL, f"{host} answered HTTP {status} on {url}. {advice}"


def _status(error: WinRMTransportError) -> int:
    return int(error.code) if str(error.code).isdigit() else 0


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error with everything that caused it; requests hides causes in arguments and urllib3 in `reason`."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        cause = todo.pop()
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            todo += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return found


def _is_trust(error: Exception) -> bool:
    return any(
        isinstance(c, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(c) for c in _chain(error)
    )


def _is_missing_challenge(error: Exception) -> bool:
    return isinstance(error, KeyError) and "www-authenticate" in str(error).casefold()


def _is_kerberos(error: Exception) -> bool:
    """Whether it comes from pywinrm's Kerberos, whose module cannot be imported where its library is missing."""
    return type(error).__name__ in {"MutualAuthenticationError", "KerberosExchangeError", "KrbError", "GSSError"}
