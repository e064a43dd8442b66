"""What .NET sees in a PFX file (RFC 7292): every certificate with its key, in .NET's order, or why it cannot be read.

A reader of its own, because the order of certificates inside the file decides what Tentacle imports, and because a
second opinion on the files that the bot writes is worth having. Key bags and certificate bags with PBES2 (AES) or
PBE-SHA1-3DES, or no encryption; SHA-1 and SHA-2 MACs or none. Other encryptions are left to `cryptography`.
"""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import pkcs12

from bot.sandbox.pki import Key


class PfxError(Exception):
    """The file cannot be read."""


class NotPfx(PfxError):  # noqa: N818  # a kind of PfxError
    """The bytes are no PFX at all."""


class WrongPassword(PfxError):  # noqa: N818  # a kind of PfxError
    """The MAC or the decryption says that the password is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One certificate of a PFX; `key` is None where the file has none for it."""

    certificate: x509.Certificate
    key: Key | None


_DATA = "1.2.840.113549.1.7.1"
_ENCRYPTED = "1.2.840.113549.1.7.6"
_KEY_BAG = "1.2.840.113549.1.12.10.1.1"
_SHROUDED_BAG = "1.2.840.113549.1.12.10.1.2"
_CERT_BAG = "1.2.840.113549.1.12.10.1.3"
_PBES2 = "1.2.840.113549.1.5.13"
_PBE_3DES = "1.2.840.113549.1.12.1.3"
_HASHES = {"1.3.14.3.2.26": "sha1", "2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.3": "sha512"}
_HMACS: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.2.7": hashes.SHA1(),  # noqa: S303  # what old files have
    "1.2.840.113549.2.9": hashes.SHA256(),
    "1.2.840.113549.2.11": hashes.SHA512(),
}
_AES_BYTES = {"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}


class _Unsupported(Exception):  # noqa: N818  # not an error: others may read it
    """An encryption that this reader leaves to others."""


@dataclass(frozen=True, slots=True)
class Node:
    """One DER element."""

    tag: int
    content: bytes
    raw: bytes

    @property
    def children(self) -> list["Node"]:
        """The elements inside."""
        return list(elements(self.content))

    @property
    def oid(self) -> str:
        """The object identifier in dots."""
        numbers, value = [], 0
        for byte in self.content:
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                numbers.append(value)
                value = 0
        first = min(numbers[0] // 40, 2)
        return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))

    @property
    def number(self) -> int:
        """The integer."""
        return int.from_bytes(self.content, "big")


def elements(data: bytes) -> Iterator[Node]:
    """Yield the DER elements of some bytes; NotPfx where they are none."""
    while data:
        if len(data) < 2:
            raise NotPfx("a DER element is cut off")
        size, head = data[1], 2
        if size & 0x80:
            head += size & 0x7F
            size = int.from_bytes(data[2:head], "big")
        if head + size > len(data) or head > 6:
            raise NotPfx("a DER element is longer than its file")
        yield Node(data[0], data[head : head + size], data[: head + size])
        data = data[head + size :]


def read(data: bytes, password: str) -> list[Entry]:
    """Return the certificates in .NET's order: the last of the file first, as seen on Linux; on Windows UNVERIFIED.

    Raises NotPfx, WrongPassword, or PfxError for what neither this reader nor `cryptography` can decrypt.
    """
    try:
        top = next(elements(data)).children
        version, content = top[0].number, top[1].children
        if version != 3 or content[0].oid != _DATA:
            raise NotPfx("not version 3, or not protected by a password")
        safe = content[1].children[0].content
    except (IndexError, StopIteration) as error:
        raise NotPfx("the file has not the shape of a PFX") from error
    forms = [password.encode("utf-16-be") + b"\0\0"] + ([] if password else [b""])
    if len(top) > 2:
        forms = [f for f in forms if _mac_matches(top[2], safe, f)]
        if not forms:
            raise WrongPassword("the MAC does not match")
    try:
        entries = _entries(safe, password, forms[0])
    except _Unsupported:
        return _read_elsewhere(data, password)
    return entries[::-1]


def derive(password: bytes, salt: bytes, rounds: int, purpose: int, size: int, name: str = "sha1") -> bytes:
    """Return key (purpose 1), initial vector (2) or MAC key (3) as RFC 7292, appendix B.2, derives them."""
    block = 128 if name == "sha512" else 64
    width = hashlib.new(name).digest_size

    def stretched(text: bytes) -> bytes:
        length = block * -(-len(text) // block)
        return (text * (length // max(len(text), 1) + 1))[:length]

    inner, result = stretched(salt) + stretched(password), b""
    while len(result) < size:
        digest = bytes([purpose]) * block + inner
        for _ in range(rounds):
            digest = hashlib.new(name, digest).digest()
        result += digest
        addend = int.from_bytes((digest * (block // width + 1))[:block], "big") + 1
        inner = b"".join(
            ((int.from_bytes(inner[i : i + block], "big") + addend) % (1 << 8 * block)).to_bytes(block, "big")
            for i in range(0, len(inner), block)
        )
    return result[:size]


def _mac_matches(node: Node, safe: bytes, password: bytes) -> bool:
    info, salt, *rounds = node.children
    algorithm, digest = info.children
    name = _HASHES.get(algorithm.children[0].oid)
    if name is None:
        return True  # PBMAC1 and others: the decryption will tell
    size = hashlib.new(name).digest_size
    key = derive(password, salt.content, rounds[0].number if rounds else 1, 3, size, name)
    return hmac.compare_digest(hmac.digest(key, safe, name), digest.content)


def _entries(safe: bytes, password: str, form: bytes) -> list[Entry]:
    certificates: list[x509.Certificate] = []
    keys: list[Key] = []
    for content in next(elements(safe)).children:
        kind, body = content.children
        if kind.oid == _DATA:
            bags = body.children[0].content
        elif kind.oid == _ENCRYPTED:
            _, algorithm, text = body.children[0].children[1].children
            bags = _decrypt(algorithm, _octets(text), password, form)
        else:
            raise _Unsupported(kind.oid)
        for bag in next(elements(bags)).children:
            value = bag.children[1].children[0]
            match bag.children[0].oid:
                case oid if oid == _CERT_BAG:
                    der = value.children[1].children[0].content
                    certificates.append(x509.load_der_x509_certificate(der))
                case oid if oid == _KEY_BAG:
                    keys.append(_key(value.raw))
                case oid if oid == _SHROUDED_BAG:
                    algorithm, text = value.children
                    keys.append(_key(_decrypt(algorithm, text.content, password, form)))
    return [Entry(certificate=c, key=next((k for k in keys if _fits(k, c)), None)) for c in certificates]


def _octets(node: Node) -> bytes:
    """Return an implicitly tagged octet string, which may be cut into pieces."""
    return b"".join(n.content for n in node.children) if node.tag & 0x20 else node.content


def _key(der: bytes) -> Key:
    return serialization.load_der_private_key(  # type: ignore[return-value]  # compared by its public half only
        der, None, unsafe_skip_rsa_key_validation=True
    )


def _fits(key: Key, certificate: x509.Certificate) -> bool:
    return key.public_key() == certificate.public_key()


def _decrypt(algorithm: Node, text: bytes, password: str, form: bytes) -> bytes:
    kind, parameters = algorithm.children
    if kind.oid == _PBES2:
        cipher = _pbes2(parameters, password)
    elif kind.oid == _PBE_3DES:
        salt, rounds = parameters.children
        key = derive(form, salt.content, rounds.number, 1, 24)
        vector = derive(form, salt.content, rounds.number, 2, 8)
        cipher = Cipher(TripleDES(key), modes.CBC(vector))
    else:
        raise _Unsupported(kind.oid)
    decryptor = cipher.decryptor()
    plain = decryptor.update(text) + decryptor.finalize()
    padding = plain[-1]
    if not 1 <= padding <= 16 or plain[-padding:] != bytes([padding]) * padding:
        raise WrongPassword("the decrypted text is not padded")
    return plain[:-padding]


def _pbes2(parameters: Node, password: str) -> Cipher[modes.CBC]:
    derivation, encryption = parameters.children
    salt, rounds, *rest = derivation.children[1].children
    function = next((n for n in rest if n.tag == 0x30), None)
    name = function.children[0].oid if function else "1.2.840.113549.2.7"
    size = _AES_BYTES.get(encryption.children[0].oid)
    if size is None or name not in _HMACS:
        raise _Unsupported(encryption.children[0].oid)
    key = PBKDF2HMAC(_HMACS[name], size, salt.content, rounds.number).derive(password.encode())
    return Cipher(AES(key), modes.CBC(encryption.children[1].content))


def _read_elsewhere(data: bytes, password: str) -> list[Entry]:
    """Read with `cryptography`, which tells no order: the leaf is taken to be first, as every tool writes it."""
    try:
        found = pkcs12.load_pkcs12(data, password.encode())
    except ValueError as error:
        raise WrongPassword(str(error)) from error
    certificates = [c.certificate for c in ([found.cert] if found.cert else []) + list(found.additional_certs)]
    entries = []
    for certificate in certificates:
        fits = found.key is not None and found.key.public_key() == certificate.public_key()
        entries.append(Entry(certificate=certificate, key=found.key if fits else None))  # type: ignore[arg-type]
    return entries[::-1]
