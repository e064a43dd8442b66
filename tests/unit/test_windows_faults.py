"""What foreign exceptions mean: each becomes one kind, one sentence with host and advice, and keeps no secret."""

import ssl

import pytest
import requests
from spnego.exceptions import BadMICError
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from bot.domain.errors import SettingsError
from bot.windows import faults
from bot.windows.errors import RemoteErrorKind as Kind
from bot.windows.transport import Endpoint

CANARY = "Canary-Body"


def wsman_fault(code: int | None, wmi: int | None = None) -> WSManFaultError:
    """Return pywinrm's fault; its `response` is the raw body."""
    return WSManFaultError(
        code=500, message="Bad", response=CANARY, reason=CANARY, wsman_fault_code=code, wmierror_code=wmi
    )


def named(name: str, base: type[Exception] = Exception) -> Exception:
    """Return an exception of a class that is not installed here."""
    return type(name, (base,), {})(CANARY)


ALL = [
    (InvalidCredentialsError(CANARY), Kind.AUTHENTICATION),
    (PermissionError(CANARY), Kind.AUTHENTICATION),
    (KeyError("www-authenticate"), Kind.AUTHENTICATION),
    (BadMICError(), Kind.AUTHENTICATION),
    (named("KerberosExchangeError", requests.RequestException), Kind.AUTHENTICATION),
    (named("MutualAuthenticationError", requests.RequestException), Kind.AUTHENTICATION),
    (UnicodeEncodeError("latin-1", CANARY, 0, 1, "x"), Kind.AUTHENTICATION),
    (WinRMError("requested auth method is kerberos, but pykerberos is not installed"), Kind.AUTHENTICATION),
    (wsman_fault(5), Kind.AUTHENTICATION),
    (requests.exceptions.SSLError(ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED: expired")), Kind.TLS),
    (requests.exceptions.SSLError("WRONG_VERSION_NUMBER"), Kind.TLS),
    (requests.exceptions.ConnectionError(CANARY), Kind.UNREACHABLE),
    (requests.exceptions.ConnectTimeout(CANARY), Kind.UNREACHABLE),
    (requests.exceptions.ReadTimeout(CANARY), Kind.UNREACHABLE),
    (requests.exceptions.ChunkedEncodingError(CANARY), Kind.UNREACHABLE),
    (WinRMOperationTimeoutError(), Kind.UNREACHABLE),
    (wsman_fault(170), Kind.BUSY),
    (wsman_fault(1460), Kind.BUSY),
    (WinRMTransportError("http", 503, CANARY), Kind.BUSY),
    (wsman_fault(2150859173), Kind.QUOTA),
    (wsman_fault(None, 2150859174), Kind.QUOTA),
    (wsman_fault(2150858843), Kind.PROTOCOL),
    (wsman_fault(None), Kind.PROTOCOL),
    (WinRMTransportError("http", 500, CANARY), Kind.PROTOCOL),
    (WinRMTransportError("http", 400, CANARY), Kind.PROTOCOL),
    (StopIteration(CANARY), Kind.PROTOCOL),
    (AssertionError(CANARY), Kind.PROTOCOL),
    (UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, "x"), Kind.PROTOCOL),
    (ValueError(CANARY), Kind.PROTOCOL),
]


@pytest.mark.parametrize(("error", "kind"), ALL, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("transport", ["ntlm", "kerberos", "certificate", "basic"])
def test_every_exception_is_one_kind_and_a_sentence(error, kind, transport):
    """It names the host, says what to do, and repeats nothing of what was sent or received."""
    endpoint = Endpoint(url="https://web-01:5986/wsman", transport=transport, username="CORP\\x")
    before = faults.explained(error, endpoint, begun=False)
    assert before.kind is kind
    assert "web-01" in str(before)
    assert CANARY not in str(before) + repr(before)
    assert str(before).endswith((".", "?"))


@pytest.mark.parametrize(("error", "kind"), ALL, ids=lambda value: type(value).__name__)
def test_once_the_script_may_have_run_every_exception_is_an_unknown_outcome(error, kind):
    """Whatever it is: the host must be asked."""
    endpoint = Endpoint(url="https://web-01:5986/wsman", transport="ntlm", username="CORP\\x")
    after = faults.explained(error, endpoint, begun=True)
    assert after.kind is Kind.UNKNOWN_OUTCOME
    assert "journal" in str(after)


def test_errors_that_are_for_people_already_stay_as_they_are():
    """A password reference that cannot be read has its own sentence."""
    error = SettingsError("The environment variable X is not set.")
    assert faults.explained(error, Endpoint(url="https://x/wsman", transport="ntlm"), begun=False) is error


def test_http_400_is_a_lost_connection_only_where_messages_are_sealed():
    """Under TLS it means that the message itself was bad."""
    error = WinRMTransportError("http", 400, "")
    assert faults.is_lost_connection(error, sealed=True)
    assert not faults.is_lost_connection(error, sealed=False)


def test_scrubbing_leaves_thumbprints_and_takes_keys():
    """40 hex digits are what people want to read; 64 characters of base64 and more may be a key."""
    assert faults.scrubbed("AB" * 20) == "AB" * 20
    assert faults.scrubbed("key " + "QUJD" * 16 + " end") == "key … end"
    assert len(faults.scrubbed("word " * 1000)) <= 2000
