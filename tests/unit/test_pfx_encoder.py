"""The PFX that travels to a host is read by OpenSSL, by Python's library and by .NET, with the empty password."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat, load_pem_private_key, pkcs12

from bot.certificates import encoder
from bot.sandbox import pki


@pytest.fixture(scope="module")
def identity() -> pki.Identity:
    """Make a key with its certificate."""
    return pki.self_signed("Octopus Tentacle")


@pytest.fixture
def encoded(identity: pki.Identity) -> bytes:
    """Encode them as a host would get them."""
    assert isinstance(identity.key, rsa.RSAPrivateKey)
    return encoder.encode(identity.key, identity.certificate)


def test_the_library_reads_it_back(identity: pki.Identity, encoded: bytes) -> None:
    """Key and certificate come back, paired, and nothing else is in the file."""
    assert isinstance(identity.key, rsa.RSAPrivateKey)
    for password in (b"", None):
        key, certificate, others = pkcs12.load_key_and_certificates(encoded, password)
        assert isinstance(key, rsa.RSAPrivateKey)
        assert key.private_numbers() == identity.key.private_numbers()
        assert certificate == identity.certificate
        assert others == []


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not on the PATH")
def test_openssl_reads_it_without_its_legacy_algorithms(identity: pki.Identity, encoded: bytes, tmp_path: Path) -> None:
    """OpenSSL 3 reads it, and names the algorithms that Windows Server 2016 and older need."""
    path = tmp_path / "travel.pfx"
    path.write_bytes(encoded)
    command = ["openssl", "pkcs12", "-in", str(path), "-passin", "pass:", "-noenc", "-info"]
    seen = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "MAC: sha1, Iteration 2000" in seen.stderr
    assert seen.stderr.count("pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2000") == 2
    assert isinstance(identity.key, rsa.RSAPrivateKey)
    key = load_pem_private_key(seen.stdout[seen.stdout.index("-----BEGIN PRIVATE") :].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.private_numbers() == identity.key.private_numbers()
    local_id = identity.thumbprint[:2] + " " + identity.thumbprint[2:4]
    assert seen.stdout.count(f"localKeyID: {local_id}") == 2


def test_another_password_does_not_open_it(encoded: bytes) -> None:
    """The integrity check holds: with any password but the empty one the file is refused."""
    with pytest.raises(ValueError, match="password"):
        pkcs12.load_pkcs12(encoded, b"x")


def test_each_file_is_salted_anew(identity: pki.Identity, encoded: bytes) -> None:
    """Two files of the same key have nothing in common but their length."""
    assert isinstance(identity.key, rsa.RSAPrivateKey)
    again = encoder.encode(identity.key, identity.certificate)
    assert again != encoded
    assert len(again) == len(encoded)


def test_the_library_still_refuses_to_write_it() -> None:
    """The reason for our own encoder: the day this fails, it can go."""
    scheme = PrivateFormat.PKCS12.encryption_builder()
    scheme = scheme.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1())
    with pytest.raises(ValueError, match="1 or more bytes"):
        scheme.build(b"")


@pytest.mark.skipif(not shutil.which("pwsh"), reason="pwsh is not on the PATH")
def test_dotnet_reads_it(identity: pki.Identity, encoded: bytes, tmp_path: Path) -> None:
    """.NET opens it as Tentacle does, with the private key, from a file and without a password."""
    (tmp_path / "travel.pfx").write_bytes(encoded)
    script = (
        "$c=[Security.Cryptography.X509Certificates.X509Certificate2]::new("
        f"'{tmp_path}/travel.pfx','',[Security.Cryptography.X509Certificates.X509KeyStorageFlags]::Exportable);"
        "$r=[Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey($c);"
        "Write-Output ('{0} {1} {2}' -f $c.Thumbprint,$c.HasPrivateKey,($r.ExportParameters($true).Modulus.Length*8))"
    )
    (tmp_path / "read.ps1").write_text(script)
    command = ["pwsh", "-NoProfile", "-File", str(tmp_path / "read.ps1")]
    seen = subprocess.run(command, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == f"{identity.thumbprint} True 2048"
