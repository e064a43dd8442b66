"""The PowerShell that runs on hosts: a constant bootstrap and the scripts that it is given on standard input.

The `.ps1` files beside this module are written for Windows PowerShell 5.1 in ASCII and are meant to be read by the
administrators of the hosts.
"""

import base64
from functools import cache
from importlib import resources


def _text(file: str) -> str:
    return resources.files(__name__).joinpath(file).read_text(encoding="ascii")


BOOTSTRAP: str = _text("bootstrap.ps1")
"""What reads a script and its parameters from standard input and runs it: the same on every visit."""


_PARTS = {"inspect": ("common", "inspect"), "apply": ("common", "trust", "server", "apply")}
"""The files of which each script is made, in the order in which they are sent."""


@cache
def script(name: str) -> str:
    """Return the text of a script, its parts in their order; `name` is `inspect` or `apply`, else FileNotFoundError."""
    if name not in _PARTS:
        raise FileNotFoundError(f"there is no script {name}")
    return "\n".join(_text(f"{part}.ps1") for part in _PARTS[name])


@cache
def encoded_bootstrap() -> str:
    """Return the bootstrap as powershell.exe's -EncodedCommand takes it: base64 of UTF-16, little endian."""
    return base64.b64encode(BOOTSTRAP.encode("utf-16-le")).decode("ascii")
