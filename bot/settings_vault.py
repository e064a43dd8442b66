"""The table [vault] of the configuration: how secrets are read from HashiCorp Vault."""

from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from bot.settings_tables import Table
from bot.settings_values import ExistingFile, Reference, WebAddress, problem

SERVICE_ACCOUNT = "file:/var/run/secrets/kubernetes.io/serviceaccount/token"
"""Where Kubernetes puts a pod's token."""


class Vault(Table):
    """How secrets are read from HashiCorp Vault, version 2 of its key-value engine: vault:PATH#FIELD."""

    address: WebAddress
    """The address of Vault; https, except on this machine."""
    auth: Literal["token", "approle", "kubernetes"] = "token"
    """How the bot logs in to Vault."""
    token: Reference | None = None
    """For auth = "token": a token, renewed by somebody else."""
    role_id: str | None = Field(default=None, min_length=1)
    """For auth = "approle": the role id, which is no secret."""
    secret_id: Reference | None = None
    """For auth = "approle": the secret id."""
    role: str | None = Field(default=None, min_length=1)
    """For auth = "kubernetes": the role in Vault."""
    jwt: Reference | None = None
    """For auth = "kubernetes": the pod's token; where Kubernetes puts it unless said otherwise."""
    mount: str = Field(default="secret", pattern=r"^[A-Za-z0-9_./-]+$")
    """Where the key-value engine is mounted."""
    namespace: str | None = Field(default=None, min_length=1)
    """The namespace, in Vault Enterprise."""
    ca_file: ExistingFile | None = None
    """CA certificates (PEM) that vouch for Vault; without it, those of the bot's installation (certifi)."""

    @model_validator(mode="before")
    @classmethod
    def _has_the_pods_token(cls, data: Any) -> Any:
        # no default of the field: every reference is read at start, and only a pod has this file
        if isinstance(data, dict) and data.get("auth") == "kubernetes":
            return {"jwt": SERVICE_ACCOUNT} | data
        return data

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needed = {"token": ("token",), "approle": ("role_id", "secret_id"), "kubernetes": ("role", "jwt")}[self.auth]
        missing = [key for key in needed if not getattr(self, key)]
        if missing:
            raise problem(f"needs {' and '.join(missing)} for auth = “{self.auth}”.")
        parts = urlsplit(self.address)
        if parts.scheme == "http" and not (parts.hostname or "").startswith(("127.", "localhost")):
            raise problem("address is http: every secret would cross the network readable. Use https.")
        for key in ("token", "secret_id", "jwt"):
            reference = getattr(self, key)
            if reference is not None and reference.kind == "vault":
                raise problem(f"{key} cannot stand in Vault itself. Use env:NAME or file:/path.")
        return self
