"""What the command lines of Tentacle and of the Octopus Server print, and what Octopus's logs say of certificates.

Exit codes and these lines are no evidence that something happened; they tell people why something did not. Sources:
recorded runs of the real Tentacle on Linux, and its source for Windows; the Server's lines come from its documentation
and are UNVERIFIED.
"""

import json
import re
from dataclasses import dataclass

from bot.domain.facts import Style
from bot.domain.thumbprint import Thumbprint

_HEX = r"([0-9A-Fa-f]{40})"
_IMPORTED = re.compile(rf"^Certificate with thumbprint {_HEX} imported successfully\.", re.MULTILINE)
_MADE = re.compile(
    rf"^A new certificate has been generated (?:and [^\n]*?\. Thumbprint|with thumbprint):\s+{_HEX}\s*$", re.MULTILINE
)
_SHOWN = re.compile(rf"^\s*(?:The thumbprint of this Tentacle is:\s*)?{_HEX}\s*$")
# Older Servers break the line after the comma (3.14).
_SWITCHED = re.compile(rf"old thumbprint = {_HEX}[,\s]+new thumbprint = {_HEX}")
_UPDATED = re.compile(
    rf"^Updating (?P<what>[a-z() ]+?)  ?(?P<address>\S*) {_HEX} - changing to trust {_HEX}\s*$", re.MULTILINE
)
_UNEXPECTED = re.compile(
    rf"expected the server to present a certificate with the thumbprint '{_HEX}'. Instead, it presented a certificate "
    rf"with a thumbprint of '{_HEX}'"
)
_NOT_TRUSTED = re.compile(rf"client certificate with the thumbprint '{_HEX}'[^\n]* not in the list of thumbprints")
_AGAINST_TRUST = (
    "unexpected security certificate",
    "not in the list of thumbprints that we trust",
    "does not trust",
    "not trusted",
    "unable to receive the remote identity",
    "sha1",
    "sha-1",
)
_RESTART = "These changes require a restart of the "
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.+`]*(?:Exception|Error|Failure)$")
_LONGEST = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustUpdate:
    """One entry of a trust list that `update-trust` changed."""

    style: Style
    address: str
    """Empty for a listening Tentacle."""
    old: Thumbprint
    new: Thumbprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Two thumbprints that should have been one, as a log line of Octopus or Tentacle told them."""

    expected: Thumbprint | None
    """None where the log tells only which client was refused."""
    presented: Thumbprint


def imported(output: str) -> Thumbprint | None:
    """Return the thumbprint that Tentacle's `import-certificate` says it imported."""
    found = _IMPORTED.search(output)
    return Thumbprint(found[1]) if found else None


def made(output: str) -> Thumbprint | None:
    """Return the thumbprint of the certificate that `new-certificate` made, of Tentacle or of the Server."""
    found = _MADE.search(output)
    return Thumbprint(found[1]) if found else None


def shown(output: str) -> Thumbprint | None:
    """Return what `show-thumbprint` shows: bare (since 3.15.0), as JSON, or in the sentence of older versions."""
    try:
        document = json.loads(output)
    except ValueError:
        found = _SHOWN.match(output)
        return Thumbprint(found[1]) if found else None
    text = document.get("Thumbprint") if isinstance(document, dict) else None
    # Forty digits without a letter are a number to JSON.
    return Thumbprint.maybe(text if isinstance(text, str) else output.strip())


def switched(output: str) -> tuple[Thumbprint, Thumbprint] | None:
    """Return old and new thumbprint from the output of the Server's `import-certificate`."""
    found = _SWITCHED.search(output)
    return (Thumbprint(found[1]), Thumbprint(found[2])) if found else None


def trust_updates(output: str) -> tuple[TrustUpdate, ...]:
    """Return the entries that `update-trust` changed; none where nothing matched, which it exits with 0 for as well."""
    return tuple(
        TrustUpdate(
            style=Style.POLLING if "polling" in found["what"] else Style.LISTENING,
            address=found["address"],
            old=Thumbprint(found[3]),
            new=Thumbprint(found[4]),
        )
        for found in _UPDATED.finditer(output)
    )


def asks_for_restart(output: str) -> bool:
    """Return whether a command says that its change takes effect with the next restart only."""
    return _RESTART in output


def decisive_line(stdout: str, stderr: str, exit_code: int) -> str:
    """Return the one line of a program's output that tells people why it failed.

    An unexpected exception is printed as a line of 79 `=`, its message, its type, a stack and advice; everything else
    as one line on standard error, or, at worst, as the last line of standard output.
    """
    lines = [line.strip() for line in stderr.splitlines()]
    rules = [number for number, line in enumerate(lines) if len(line) >= 70 and set(line) == {"="}]
    if rules:
        message = []
        for line in lines[rules[0] + 1 :]:
            if _EXCEPTION.match(line) or line.startswith(("at ", "--")):
                break
            message.append(line)
        found = " ".join(part for part in message if part)
    else:
        found = next((line for line in lines if line), "")
    if not found:
        spoken = [line.strip() for line in stdout.splitlines() if line.strip() and _RESTART not in line]
        found = spoken[-1] if spoken else f"It ended with exit code {exit_code} and said nothing."
    return found if len(found) <= _LONGEST else found[:_LONGEST] + "…"


def mismatch(text: str) -> Mismatch | None:
    """Return the thumbprints that a log line about a refused certificate carries."""
    if found := _UNEXPECTED.search(text):
        return Mismatch(expected=Thumbprint(found[1]), presented=Thumbprint(found[2]))
    if found := _NOT_TRUSTED.search(text):
        return Mismatch(expected=None, presented=Thumbprint(found[1]))
    return None


def speaks_against_trust(text: str) -> bool:
    """Return whether a log line blames certificates or trust, rather than scripts, disks or the network."""
    folded = text.casefold()
    return any(phrase in folded for phrase in _AGAINST_TRUST)
