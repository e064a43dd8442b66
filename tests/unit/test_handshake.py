"""The handshake sees what is served, by modern and by very old hosts, and says in a sentence why it saw nothing."""

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bot.certificates.handshake import see
from bot.sandbox import pki

PAGE = b"HTTP/1.0 200 OK\r\n\r\n<html>Octopus Tentacle configured successfully</html>"


class Listener:
    """One TLS listener on the loopback that serves a certificate and answers any line by a page, as Tentacle does."""

    def __init__(self, host: str, context: ssl.SSLContext) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.heard = b""
        self.end = "nothing came"
        self._context = context
        self._socket = socket.create_server((host, 0), family=family)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            raw, _ = self._socket.accept()
        except OSError:
            return
        raw.settimeout(5)
        try:
            with self._context.wrap_socket(raw, server_side=True) as channel:
                while not self.heard.endswith(b"\r\n\r\n"):
                    self.heard += channel.recv(4096)
                channel.sendall(PAGE)
                channel.unwrap().close()
            self.end = "in order"
        except OSError as error:
            self.end = type(error).__name__

    def close(self) -> None:
        """End the conversation."""
        self._thread.join(5)
        self._socket.close()


Serve = Callable[..., Listener]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start listeners that serve a certificate."""
    started: list[Listener] = []

    def start(identity: pki.Identity, *, host: str = "127.0.0.1", version: ssl.TLSVersion | None = None) -> Listener:
        (tmp_path / "served.pem").write_bytes(identity.pem + identity.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        if version:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
        context.load_cert_chain(tmp_path / "served.pem")
        started.append(Listener(host, context))
        return started[-1]

    yield start
    for listener in started:
        listener.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_served_certificate_is_seen(serve: Serve, version: ssl.TLSVersion) -> None:
    """Thumbprint and details are those of the certificate that is served, from TLS 1.0 to 1.3."""
    identity = pki.self_signed("Octopus Tentacle")
    seen = see("127.0.0.1", serve(identity, version=version).port, timeout=5)
    assert (seen.thumbprint, seen.error, seen.place) == (identity.thumbprint, None, "bot")
    assert seen.certificate is not None
    assert seen.certificate.subject == "CN=Octopus Tentacle"


def test_the_listener_notices_no_abrupt_end(serve: Serve) -> None:
    """A harmless line is said, the page is heard out and TLS is closed in order: nothing for the host's log."""
    listener = serve(pki.self_signed("Octopus Tentacle"))
    assert see("127.0.0.1", listener.port, timeout=5).thumbprint
    listener.close()
    assert (listener.heard, listener.end) == (b"GET / HTTP/1.0\r\n\r\n", "in order")


@pytest.mark.parametrize(
    ("bits", "signature"), [(2048, "sha1"), (1024, "sha256"), (1024, "sha1")], ids=["SHA-1", "RSA 1024", "both"]
)
def test_outdated_certificates_are_seen(serve: Serve, bits: int, signature: str) -> None:
    """What must be replaced must first be seen: SHA-1 signatures and short keys do not stop the handshake."""
    identity = pki.self_signed("old", key_bits=bits, hash=signature)
    seen = see("127.0.0.1", serve(identity).port, timeout=5)
    assert seen.thumbprint == identity.thumbprint
    assert seen.certificate is not None
    assert (seen.certificate.key_bits, seen.certificate.signature_hash) == (bits, signature)


def test_ipv6_is_seen_with_and_without_brackets(serve: Serve) -> None:
    """An IPv6 host may be written either way; messages show it with brackets."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    identity = pki.self_signed("six")
    for spelling in ("::1", "[::1]"):
        try:
            port = serve(identity, host="::1").port
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        seen = see(spelling, port, timeout=5)
        assert (seen.thumbprint, seen.address) == (identity.thumbprint, f"[::1]:{port}")


def test_a_name_is_resolved_and_the_place_is_kept(serve: Serve) -> None:
    """Names work like addresses, and the sighting says from where it was made."""
    identity = pki.self_signed("named")
    assert see("localhost", serve(identity).port, timeout=5, place="doctor").place == "doctor"


def test_nobody_there_is_said() -> None:
    """A closed port, an unknown name and a strange address end in a sentence at once."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        free = taken.getsockname()[1]
    refused = see("127.0.0.1", free, timeout=5)
    assert refused.thumbprint is None
    assert refused.error == f"127.0.0.1:{free} refused the connection: nothing listens there."
    assert see("no-such-host.invalid", 10933, timeout=5).error == (
        "no-such-host.invalid:10933 cannot be found: the name does not resolve."
    )
    for address, port in (("", 10933), ("127.0.0.1", 0), ("127.0.0.1", 70000), ("x" * 70 + ".example", 1), ("a..b", 1)):
        assert (see(address, port, timeout=5).error or "").endswith("is not an address.")


def test_silence_ends_at_the_deadline() -> None:
    """A peer that accepts and says nothing costs the time given, not more."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        assert see("127.0.0.1", port, timeout=0.1).error == f"127.0.0.1:{port} did not answer within 0.1 seconds."


@pytest.mark.parametrize(
    ("greeting", "said"),
    [(b"SSH-2.0-OpenSSH_9.2\r\n" * 3, "does not speak TLS"), (b"", "broke the connection during the TLS handshake")],
    ids=["another protocol", "closed at once"],
)
def test_what_is_no_tls_is_said(greeting: bytes, said: str) -> None:
    """Another protocol and a connection closed at once are told apart."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        error = see("127.0.0.1", server.getsockname()[1], timeout=5).error
        thread.join()
    assert said in (error or "")


def test_a_refusing_peer_is_quoted() -> None:
    """An alert of the peer stands in the sentence, in words."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listener = Listener("127.0.0.1", context)
    error = see("127.0.0.1", listener.port, timeout=5).error or ""
    listener.close()
    assert error.startswith(f"The TLS handshake with 127.0.0.1:{listener.port} failed: ")
    assert "handshake failure" in error
