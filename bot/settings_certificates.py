"""The tables [certificates.…] of the configuration: PFX files, and CAs that sign a certificate for each target."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from bot.settings_tables import Table
from bot.settings_values import ExistingFile, Name, PathHere, Reference, problem

USUAL_NAMES = r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}"
"""The names that a CA signs unless the configuration says otherwise: nothing that could be taken for something else."""
_NEEDED = {"local": ("certificate", "key"), "vault": ("role",)}
_FOREIGN = {"local": ("role",), "vault": ("certificate", "key", "key_password")}


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise problem(f"is not a regular expression: {error}.") from None
    return value


def _template(value: str) -> str:
    if "{target}" not in value or re.search(r"[{}]", value.replace("{target}", "")):
        raise problem("must hold {target}, which stands for the target's name, and no other braces.")
    return value


Template = Annotated[str, AfterValidator(_template)]


class Pfx(Table):
    """A PFX file on the bot's machine, used in commands as pfx:NAME."""

    path: PathHere
    """The file; it is read anew at each use."""
    password: Reference | None = None
    """The password of the file; without it, the file has none."""


class Ca(Table):
    """A CA that signs a certificate for each target, used in commands as ca:NAME. The bot makes the key in memory."""

    engine: Literal["local", "vault"] = "local"
    """local: the CA's own key is at hand. vault: a PKI engine of the Vault in [vault] signs."""
    certificate: ExistingFile | None = None
    """For local: the CA's certificate (PEM)."""
    key: Reference | None = None
    """For local: the CA's private key (PEM)."""
    key_password: Reference | None = None
    """The password of that key; without it, the key has none."""
    mount: str = Field(default="pki", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    """For vault: where the PKI engine is mounted."""
    role: Name | None = None
    """For vault: the role that signs."""
    common_name: Template = "{target}"
    """What a certificate is made out to; {target} stands for the target's name in Octopus."""
    alternative_names: tuple[Template, ...] = ()
    """DNS names that it carries besides, with {target} likewise."""
    allowed: Annotated[str, AfterValidator(_pattern)] = USUAL_NAMES
    """A regular expression that each of these names must match as a whole; a target without is refused."""
    days: int = Field(default=365, ge=1, le=36_500)
    """How long a certificate holds; never longer than the CA's own."""
    key_bits: int = Field(default=2048, ge=2048, le=8192)
    """The size of its RSA key."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        missing = [key for key in _NEEDED[self.engine] if not getattr(self, key)]
        if missing:
            raise problem(f"needs {' and '.join(missing)} for the engine {self.engine}.")
        foreign = [key for key in _FOREIGN[self.engine] if getattr(self, key)]
        if foreign:
            raise problem(f"names {' and '.join(foreign)}, which means nothing to the engine {self.engine}.")
        return self


class Certificates(Table):
    """Where new certificates come from, besides new-certificate, which needs no setting."""

    pfx: dict[Name, Pfx] = Field(default_factory=dict)
    """PFX files by the name that commands use."""
    ca: dict[Name, Ca] = Field(default_factory=dict)
    """CAs by the name that commands use."""
