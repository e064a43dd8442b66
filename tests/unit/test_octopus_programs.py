"""The lines that Tentacle and the Octopus Server print are understood; recorded from the real Tentacle on Linux."""

import pytest

from bot.domain.facts import Style
from bot.domain.thumbprint import Thumbprint
from bot.octopus import programs
from bot.octopus.programs import Mismatch, TrustUpdate

LEAF = Thumbprint("2D80C52D938238B4A865838D005A23F240508707")
OLD, NEW, OTHER = Thumbprint("A" * 40), Thumbprint("D" * 40), Thumbprint("B" * 40)
RULE, DASHES = "=" * 79, "-" * 79
TAIL = f"""{DASHES}
Terminating process with exit code 100
Full error details are available in the log files at:
/tentacle/x/Logs
Octopus/Logs
If you need help, please send these log files to https://octopus.com/support
{DASHES}

"""
WRONG_PASSWORD = (
    f"{RULE}\nThe certificate data cannot be read with the provided password, the password may be incorrect.\n"
    "System.Security.Cryptography.CryptographicException\n   at Internal.Cryptography.Pal.Read()\n\n"
    f"--Inner Exception--\nanother\nSystem.Security.Cryptography.CryptographicException\n{TAIL}"
)


def test_an_import_is_read() -> None:
    """The line of success carries the thumbprint, whatever stands around it."""
    output = (
        "Importing the certificate stored in PFX file in /pfx/aes.pfx using the provided password...\n"
        "PFX file /pfx/aes.pfx contains multiple certificates, taking the first one.\n"
        f"Certificate with thumbprint {LEAF} imported successfully.\n"
        "These changes require a restart of the Tentacle.\n"
    )
    assert programs.imported(output) == programs.imported(output.replace("\n", "\r\n")) == LEAF
    assert programs.asks_for_restart(output)
    assert programs.imported("Importing the certificate stored in PFX file in F...\n") is None


def test_a_new_certificate_is_read() -> None:
    """The thumbprint stands on a line of its own, for Tentacle as for the Server, installed or exported."""
    installed = (
        f"A new certificate has been generated and installed. Thumbprint:\n{LEAF}\n"
        "These changes require a restart of the Tentacle.\n"
    )
    exported = f"A new certificate has been generated and written to C:\\x.y\\new.pfx. Thumbprint:\r\n{LEAF}\r\n"
    server = (
        "Generating certificate...\nThe Octopus Server currently uses a certificate with thumbprint:\n"
        f"{OLD}\nA new certificate has been generated with thumbprint:\n{LEAF}\n"
        "The new certificate has been written to X\n"
    )
    assert programs.made(installed) == programs.made(exported) == programs.made(server) == LEAF
    assert programs.made("A certificate already exists, no changes will be applied.\n") is None


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (str(LEAF), LEAF),
        (f'{{"Thumbprint":"{LEAF}"}}', LEAF),
        (f"The thumbprint of this Tentacle is: {LEAF}\r\n", LEAF),
        ("1" * 40, Thumbprint("1" * 40)),
        ("", None),
        ('{"Thumbprint":null}', None),
        ("Octopus Deploy: Tentacle version 3.0", None),
    ],
)
def test_a_shown_thumbprint_is_read(output: str, expected: Thumbprint | None) -> None:
    """All forms of `show-thumbprint` through the years, and the ones without a certificate."""
    assert programs.shown(output) == expected


@pytest.mark.parametrize("gap", [", ", ",\n", ",\r\n  "])
def test_the_servers_import_is_read(gap: str) -> None:
    """Old and new thumbprint of the Server, on one line or, as older ones print it, on two."""
    output = (
        "Importing the certificate stored in PFX file in X\nChecking the Octopus Master Key has been configured.\n"
        f"The certificate CN=Octopus Portal was updated; old thumbprint = {OLD}{gap}new thumbprint = {NEW}\n"
    )
    assert programs.switched(output) == (OLD, NEW)
    assert programs.switched("Certificate imported successfully.") is None


def test_only_changed_entries_count_as_updated() -> None:
    """The header of `update-trust` looks like a change, and exit code 0 comes without one as well."""
    output = (
        f"Updating Octopus servers thumbprint from {OLD} to {NEW}\n"
        f"Finding existing Octopus Server registrations trusting the thumbprint {OLD} and updating them to trust the "
        f"thumbprint {NEW}:\n"
        f"Updating listening tentacle  {OLD} - changing to trust {NEW}\n"
        f"Updating polling tentacle https://octopus:10943/ {OLD.lower()} - changing to trust {NEW}\n"
        f"Updating kubernetes tentacle (polling) https://other:10943/ {OLD} - changing to trust {NEW}\n"
        f"Ignoring listening tentacle  {OTHER} - does not match old thumbprint\n"
        "These changes require a restart of the Tentacle.\n"
    )
    assert programs.trust_updates(output) == (
        TrustUpdate(style=Style.LISTENING, address="", old=OLD, new=NEW),
        TrustUpdate(style=Style.POLLING, address="https://octopus:10943/", old=OLD, new=NEW),
        TrustUpdate(style=Style.POLLING, address="https://other:10943/", old=OLD, new=NEW),
    )
    nothing = "\n".join(line for line in output.splitlines() if not line.endswith(f"to trust {NEW}"))
    assert programs.trust_updates(nothing) == ()


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "decisive"),
    [
        (
            "Importing the certificate stored in PFX file in F...\n",
            WRONG_PASSWORD,
            100,
            "The certificate data cannot be read with the provided password, the password may be incorrect.",
        ),
        (
            "",
            f"{RULE}\nASN1 corrupted data.\nSystem.Security.Cryptography.CryptographicException\n{TAIL}",
            100,
            "ASN1 corrupted data.",
        ),
        (
            "",
            f"{RULE}\r\nUnable to load X509 Certificate file.\r\nMake sure of it.\r\nSystem.Exception\r\n{TAIL}",
            100,
            "Unable to load X509 Certificate file. Make sure of it.",
        ),
        ("", "Certificate 'F' was not found.\n", 1, "Certificate 'F' was not found."),
        ("Stopping service...\n", "The service could not be stopped\n", 0, "The service could not be stopped"),
        ("one\nThese changes require a restart of the Tentacle.\n", "", 100, "one"),
        ("", "", 42, "It ended with exit code 42 and said nothing."),
        ("", f"{RULE}\n", 100, "It ended with exit code 100 and said nothing."),
    ],
)
def test_the_decisive_line_is_found(stdout: str, stderr: str, code: int, decisive: str) -> None:
    """Of a stack trace and advice, people are shown the one sentence that says what failed."""
    assert programs.decisive_line(stdout, stderr, code) == decisive


def test_a_very_long_line_is_cut() -> None:
    """A message of a platform may be endless; a thread in Slack is not."""
    assert len(programs.decisive_line("", "x" * 5000, 1)) == 401


def test_refused_certificates_are_read_from_log_lines() -> None:
    """Both sides of a refused connection say which thumbprint they saw."""
    outgoing = (
        "The server at https://web-01:10933/ presented an unexpected security certificate. We expected the server to "
        f"present a certificate with the thumbprint '{OLD}'. Instead, it presented a certificate with a thumbprint of "
        f"'{NEW}' and subject 'CN=Octopus Tentacle'. This usually happens when …"
    )
    incoming = (
        f"A client at 10.0.0.1:5000 presented a client certificate with the thumbprint '{OTHER}' which is not in the "
        "list of thumbprints that we trust"
    )
    assert programs.mismatch(outgoing) == Mismatch(expected=OLD, presented=NEW)
    assert programs.mismatch(incoming) == Mismatch(expected=None, presented=OTHER)
    assert programs.mismatch("Disk full") is None
    assert programs.speaks_against_trust(outgoing)
    assert programs.speaks_against_trust(incoming)
    assert not programs.speaks_against_trust("The script failed: disk C: is nearly full")
