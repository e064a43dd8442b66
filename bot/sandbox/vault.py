"""A stand-in for HashiCorp Vault: key-value version 2, a PKI engine, logins by token, approle and kubernetes.

Sources: developer.hashicorp.com/vault/api-docs (secret/kv/kv-v2, auth/approle, auth/kubernetes); paths and error bodies
are those that hvac is written for. Renewal is left out: a token is good or it is not. Of policies there is what may be
taken away by path (`denied`).
"""

import secrets
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bot.sandbox.octopus.web import WebServer
from bot.sandbox.vault_pki import PkiEngine, RoleError

ROLE_ID = "sandbox-role"


class VaultServer:
    """Serves secrets at an address of its own; `with` starts and stops it."""

    def __init__(self, files: tuple[Path, Path] | None = None) -> None:
        """Serve HTTPS where `files` (PEM of certificate and key) are given."""
        self.secrets: dict[str, dict[str, Any]] = {}
        """By path; None as a field's value stands for a version that was deleted."""
        self.token = f"hvs.{secrets.token_hex(16)}"
        self.secret_id = secrets.token_hex(16)
        self.jwt = secrets.token_hex(24)
        self.pki: PkiEngine | None = None
        """What is mounted at `pki`."""
        self.signed = 0
        self.revoked: list[str] = []
        """Serial numbers that the PKI engine revoked, as hex digits without colons."""
        self.denied: set[str] = set()
        """Paths that the policy of every token leaves out, such as `pki/revoke`."""
        self.lease_seconds = 0
        """How long a token holds; 0 for ever."""
        self.sealed = False
        self.reads = 0
        self.logins = 0
        self._given: set[str] = set()
        routes = [
            Route("/v1/auth/approle/login", self._approle, methods=["POST"]),
            Route("/v1/auth/kubernetes/login", self._kubernetes, methods=["POST"]),
            Route("/v1/secret/data/{path:path}", self._secret, methods=["GET"]),
            Route("/v1/pki/ca/pem", self._authority, methods=["GET"]),
            Route("/v1/pki/sign/{role}", self._sign, methods=["POST", "PUT"]),
            Route("/v1/pki/roles/{role}", self._role, methods=["GET"]),
            Route("/v1/pki/revoke", self._revoke, methods=["POST", "PUT"]),
            Route("/v1/sys/health", self._health, methods=["GET"]),
            Route("/v1/sys/capabilities-self", self._capabilities, methods=["POST"]),
            Route("/v1/auth/token/lookup-self", self._lookup, methods=["GET"]),
        ]
        self._web = WebServer(Starlette(routes=routes), "127.0.0.1", 0, files)

    @property
    def url(self) -> str:
        """The address of Vault."""
        return self._web.url

    def revoke(self) -> None:
        """Make every token that a login gave worthless."""
        self._given.clear()

    def start(self) -> None:
        """Serve."""
        self._web.start()

    def stop(self) -> None:
        """Refuse connections."""
        self._web.stop()

    def _login(self, good: bool) -> Response:
        if self.sealed:
            return JSONResponse({"errors": ["Vault is sealed"]}, 503)
        if not good:
            return JSONResponse({"errors": ["invalid role or secret ID"]}, 400)
        self.logins += 1
        token = f"hvs.{secrets.token_hex(16)}"
        self._given.add(token)
        return JSONResponse({"auth": {"client_token": token, "lease_duration": 3600, "renewable": True}})

    async def _approle(self, request: Request) -> Response:
        body = await request.json()
        return self._login(body.get("role_id") == ROLE_ID and body.get("secret_id") == self.secret_id)

    async def _kubernetes(self, request: Request) -> Response:
        body = await request.json()
        return self._login(body.get("role") == ROLE_ID and body.get("jwt") == self.jwt)

    def _refusal(self, request: Request, *, for_anybody: bool = False) -> Response | None:
        if self.sealed:
            return JSONResponse({"errors": ["Vault is sealed"]}, 503)
        if not for_anybody and request.headers.get("X-Vault-Token") not in {self.token, *self._given}:
            return JSONResponse({"errors": ["permission denied"]}, 403)
        if request.url.path.removeprefix("/v1/") in self.denied:
            return JSONResponse({"errors": ["1 error occurred:\n\t* permission denied\n\n"]}, 403)
        return None

    async def _health(self, _: Request) -> Response:
        # 503 is what a sealed one answers; a load balancer reads the number, people the document
        document = {"initialized": True, "sealed": self.sealed, "standby": False, "version": "1.18.3"}
        return JSONResponse(document, 503 if self.sealed else 200)

    async def _lookup(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        expires = "2026-12-31T12:00:00Z" if self.lease_seconds else None
        return JSONResponse({"data": {"ttl": self.lease_seconds, "expire_time": expires, "policies": ["default"]}})

    async def _capabilities(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        paths = (await request.json())["paths"]
        told = {path: ["deny"] if path in self.denied else ["read", "update"] for path in paths}
        return JSONResponse({"data": told, **told})

    async def _role(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        role = self.pki.roles.get(request.path_params["role"]) if self.pki else None
        if role is None:
            return JSONResponse({"errors": []}, 404)
        seconds = int(role.max_ttl.total_seconds())
        return JSONResponse({"data": {"max_ttl": seconds, "key_type": "rsa", "key_bits": role.key_bits}})

    async def _revoke(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        serial = str((await request.json()).get("serial_number") or "").replace(":", "").lstrip("0")
        if self.pki is None or serial not in self.pki.serials:
            return JSONResponse({"errors": [f"certificate with serial {serial} not found"]}, 400)
        self.revoked.append(serial)
        return JSONResponse({"data": {"revocation_time": 1_767_225_600, "state": "revoked"}})

    async def _authority(self, request: Request) -> Response:
        if refusal := self._refusal(request, for_anybody=True):
            return refusal
        if self.pki is None:
            return JSONResponse({"errors": ['no handler for route "pki/ca/pem". route entry not found.']}, 404)
        return PlainTextResponse(self.pki.issuer.pem.decode(), media_type="application/pem-certificate-chain")

    async def _sign(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if self.pki is None:
            return JSONResponse({"errors": ["no handler for route. route entry not found."]}, 404)
        try:
            answer = self.pki.sign(request.path_params["role"], await request.json())
        except RoleError as refusal:
            return JSONResponse({"errors": [str(refusal)]}, 400)
        self.signed += 1
        return JSONResponse(answer)

    async def _secret(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        self.reads += 1
        data = self.secrets.get(request.path_params["path"])
        if data is None:
            return JSONResponse({"errors": []}, 404)
        metadata = {"version": 1, "destroyed": False, "deletion_time": "", "created_time": "2026-01-05T09:00:00Z"}
        return JSONResponse({"data": {"data": data, "metadata": metadata}})
