"""Writes the PFX that travels to a host: one key, its certificate, the empty password, in the oldest common form.

PKCS#12 (RFC 7292) with PBE-SHA1-3DES for key and certificate and HMAC-SHA1 over the whole. Windows Server 2016 and
older read nothing newer, and call it a wrong password; every Windows since 2012 R2 is expected to read this, UNVERIFIED
on Windows itself. OpenSSL 3, `cryptography`, .NET and the real Tentacle on Linux read it.

`cryptography` cannot write it: `NoEncryption()` leaves the key in a plain bag, in which Mono finds no key, under a
SHA-256 MAC, and its encryption builder demands a password of at least one byte. An empty password on the other hand
spares a password on Tentacle's command line, where process audits would record it.

NOT SECRET: an empty password protects nothing. These bytes are as precious as the bare key.
"""

import hashlib
import hmac
import os

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_INTEGER, _OCTETS, _OBJECT, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x30, 0x31
_EXPLICIT_0, _IMPLICIT_0 = 0xA0, 0x80
_NULL = b"\x05\x00"


def _tlv(tag: int, *contents: bytes) -> bytes:
    """Return one DER element."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _integer(value: int) -> bytes:
    # The extra bit keeps the sign bit clear.
    return _tlv(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


# RFC 7292 and PKCS #7, #9: the object identifiers, as DER.
_DATA = _tlv(_OBJECT, bytes.fromhex("2a864886f70d010701"))
_ENCRYPTED_DATA = _tlv(_OBJECT, bytes.fromhex("2a864886f70d010706"))
_PBE_SHA1_3DES = _tlv(_OBJECT, bytes.fromhex("2a864886f70d010c0103"))
_SHROUDED_KEY_BAG = _tlv(_OBJECT, bytes.fromhex("2a864886f70d010c0a0102"))
_CERTIFICATE_BAG = _tlv(_OBJECT, bytes.fromhex("2a864886f70d010c0a0103"))
_X509_CERTIFICATE = _tlv(_OBJECT, bytes.fromhex("2a864886f70d01091601"))
_LOCAL_KEY_ID = _tlv(_OBJECT, bytes.fromhex("2a864886f70d010915"))
_SHA1 = _tlv(_OBJECT, bytes.fromhex("2b0e03021a"))

_EMPTY_PASSWORD = b"\0\0"
"""The empty password as a BMPString: nothing but the terminator."""
_ITERATIONS = 2000
"""As in the files that Windows exports."""
_SALT_BYTES = 8
_FOR_KEY, _FOR_IV, _FOR_MAC = 1, 2, 3
"""The ID byte of RFC 7292, B.3: what the derived bytes are for."""


def encode(key: RSAPrivateKey, certificate: x509.Certificate) -> bytes:
    """Return a PFX (DER) of this key and this certificate alone, under the empty password."""
    der = certificate.public_bytes(Encoding.DER)
    pairing = _pairing(der)
    certificates = _encrypted_safe(_safe_contents(_certificate_bag(der, pairing)))
    keys = _plain_safe(_safe_contents(_key_bag(key, pairing)))
    authenticated = _tlv(_SEQUENCE, certificates, keys)
    content = _tlv(_SEQUENCE, _DATA, _tlv(_EXPLICIT_0, _tlv(_OCTETS, authenticated)))
    return _tlv(_SEQUENCE, _integer(3), content, _mac_data(authenticated))


def _pairing(der: bytes) -> bytes:
    """Return the bag attribute that pairs a key with its certificate: localKeyId, as Windows writes it."""
    identity = hashlib.sha1(der, usedforsecurity=False).digest()
    return _tlv(_SET, _tlv(_SEQUENCE, _LOCAL_KEY_ID, _tlv(_SET, _tlv(_OCTETS, identity))))


def _safe_contents(bag: bytes) -> bytes:
    return _tlv(_SEQUENCE, bag)


def _plain_safe(contents: bytes) -> bytes:
    return _tlv(_SEQUENCE, _DATA, _tlv(_EXPLICIT_0, _tlv(_OCTETS, contents)))


def _encrypted_safe(contents: bytes) -> bytes:
    algorithm, ciphertext = _encrypt(contents)
    encrypted = _tlv(_SEQUENCE, _DATA, algorithm, _tlv(_IMPLICIT_0, ciphertext))
    return _tlv(_SEQUENCE, _ENCRYPTED_DATA, _tlv(_EXPLICIT_0, _tlv(_SEQUENCE, _integer(0), encrypted)))


def _certificate_bag(der: bytes, attributes: bytes) -> bytes:
    value = _tlv(_SEQUENCE, _X509_CERTIFICATE, _tlv(_EXPLICIT_0, _tlv(_OCTETS, der)))
    return _tlv(_SEQUENCE, _CERTIFICATE_BAG, _tlv(_EXPLICIT_0, value), attributes)


def _key_bag(key: RSAPrivateKey, attributes: bytes) -> bytes:
    algorithm, ciphertext = _encrypt(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    value = _tlv(_SEQUENCE, algorithm, _tlv(_OCTETS, ciphertext))
    return _tlv(_SEQUENCE, _SHROUDED_KEY_BAG, _tlv(_EXPLICIT_0, value), attributes)


def _encrypt(plain: bytes) -> tuple[bytes, bytes]:
    """Return the AlgorithmIdentifier (DER) and the ciphertext under the empty password."""
    salt = os.urandom(_SALT_BYTES)
    key, vector = _derive(salt, 24, _FOR_KEY), _derive(salt, 8, _FOR_IV)
    padder = padding.PKCS7(64).padder()
    cipher = Cipher(TripleDES(key), modes.CBC(vector)).encryptor()
    ciphertext = cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()
    parameters = _tlv(_SEQUENCE, _tlv(_OCTETS, salt), _integer(_ITERATIONS))
    return _tlv(_SEQUENCE, _PBE_SHA1_3DES, parameters), ciphertext


def _mac_data(authenticated: bytes) -> bytes:
    salt = os.urandom(_SALT_BYTES)
    mac = hmac.new(_derive(salt, 20, _FOR_MAC), authenticated, hashlib.sha1).digest()
    digest = _tlv(_SEQUENCE, _tlv(_SEQUENCE, _SHA1, _NULL), _tlv(_OCTETS, mac))
    return _tlv(_SEQUENCE, digest, _tlv(_OCTETS, salt), _integer(_ITERATIONS))


def _derive(salt: bytes, size: int, purpose: int) -> bytes:
    """Return so many bytes by PKCS#12's own key derivation with SHA-1 (RFC 7292, B.2)."""
    block = 64
    state = bytearray(_filled(salt, block) + _filled(_EMPTY_PASSWORD, block))
    derived = b""
    while len(derived) < size:
        digest = bytes((purpose,)) * block + bytes(state)
        for _ in range(_ITERATIONS):
            digest = hashlib.sha1(digest, usedforsecurity=False).digest()
        derived += digest
        step = int.from_bytes(_filled(digest, block), "big") + 1
        for at in range(0, len(state), block):
            total = int.from_bytes(state[at : at + block], "big") + step
            state[at : at + block] = (total % (1 << 8 * block)).to_bytes(block, "big")
    return derived[:size]


def _filled(data: bytes, block: int) -> bytes:
    """Return the data repeated, and cut, to one whole block; salt, password and digest are all shorter than one."""
    return (data * (block // len(data) + 1))[:block]
