"""HashiCorp Vault: reads fields of secrets where they are used, and has its PKI engines sign, with TLS verified.

Nothing is kept on disk. Paths and forms are those of Vault's HTTP API; UNVERIFIED against a real Vault.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import hvac
from hvac.exceptions import Forbidden, InvalidPath, VaultError

from bot.clock import Clock
from bot.domain.errors import SettingsError, UserError
from bot.secrets import Secret
from bot.settings_vault import Vault as Table

KEEP_SECONDS = 15.0
"""How long a secret is kept in memory: so soon a rotated one is used. A run asks for one many times a second."""
TIMEOUT_SECONDS = 10
LARGEST_ANSWER = 1024 * 1024
"""Bytes of one answer of Vault's: a secret with its fields, or a chain of certificates."""
_PART = 16 * 1024
LONGEST_TOLD = 300
"""Characters of Vault's own words that are told, where they are about what was asked for."""


class Vault:
    """Logs in when it must, and again when its token is refused."""

    def __init__(self, settings: Table, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._client: hvac.Client | None = None
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def read(self, path: str, field: str) -> Secret:
        """Return a field of the newest version of a secret; SettingsError, with the mend, where that cannot be."""
        value = self._data(path).get(field)
        if not isinstance(value, str) or not value:
            raise SettingsError(f"The secret {path} in Vault has no text in a field “{field}”. Correct the reference.")
        return Secret(value)

    def authority(self, mount: str) -> str:
        """Return the certificate of a PKI engine as PEM; UserError, with the mend, where that cannot be."""
        return str(self._pki(mount, "", lambda client: client.secrets.pki.read_ca_certificate(mount_point=mount)))

    def certify(self, mount: str, role: str, request: str, common_name: str, wanted: Mapping[str, Any]) -> str:
        """Have a role of a PKI engine sign a request, and return the certificate as PEM; UserError where it refuses."""
        answer = self._pki(
            mount,
            role,
            lambda client: client.secrets.pki.sign_certificate(
                name=role, csr=request, common_name=common_name, extra_params=dict(wanted), mount_point=mount
            ),
        )
        try:
            return str(answer["data"]["certificate"])
        except (KeyError, TypeError):
            raise UserError(
                f"Vault answered {mount}/sign/{role} without a certificate. Check mount and role."
            ) from None

    def revoke(self, mount: str, serial: str) -> None:
        """Revoke a certificate of a PKI engine by its serial number in hex digits; UserError where it refuses."""
        parts = serial.zfill(len(serial) + len(serial) % 2).lower()
        spelt = ":".join(parts[i : i + 2] for i in range(0, len(parts), 2))
        self._pki(
            mount,
            "",
            lambda client: client.secrets.pki.revoke_certificate(serial_number=spelt, mount_point=mount),
            path=f"{mount}/revoke",
        )

    def state(self) -> str:
        """Return `ready`, `sealed` or `not initialised`, without a login; UserError where nobody answers."""
        client = self._client_of(token="")
        try:
            answer = client.sys.read_health_status(method="GET", standby_ok=True)
            # the library returns the document for 200, the whole answer for everything else
            told = answer if isinstance(answer, dict) else answer.json()
            if not told["initialized"]:
                return "not initialised"
            return "sealed" if told["sealed"] else "ready"
        except (VaultError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._unreachable(error) from None

    def seconds_left(self) -> float | None:
        """Log in and return how long the login holds, None for ever; UserError, with the mend, where it is refused."""
        try:
            data = self._at_hand().auth.token.lookup_self()["data"]
            return float(data["ttl"]) if data["expire_time"] else None
        except VaultError as error:
            told = " ".join(str(t) for t in error.errors or [type(error).__name__])
            raise UserError(
                f"Vault refuses the login: {told[:LONGEST_TOLD].strip()}. Check auth under [vault] and what belongs to "
                "it: the token, the role or the secret id."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._unreachable(error) from None

    def capabilities(self, *paths: str) -> dict[str, frozenset[str]]:
        """Return what our token may do under each path, such as `read` and `update`; UserError where it refuses."""
        answer = self._pki(
            "", "", lambda client: client.sys.get_capabilities(list(paths)), path="sys/capabilities-self"
        )
        told = answer.get("data", answer)
        return {path: frozenset(told.get(path) or ()) for path in paths}

    def role(self, mount: str, role: str) -> Mapping[str, Any] | None:
        """Return what a PKI engine says of a role, None if it has none of that name; UserError where it refuses."""
        path = f"{mount}/roles/{role}"

        def ask(client: hvac.Client) -> Any:
            try:
                return client.secrets.pki.read_role(name=role, mount_point=mount)["data"]
            except InvalidPath:
                return None

        found: Mapping[str, Any] | None = self._pki(mount, role, ask, path=path)
        return found

    def _pki(self, mount: str, role: str, ask: Callable[[hvac.Client], Any], *, path: str = "") -> Any:
        # not under the lock: the targets of a wave have theirs signed at the same time
        try:
            try:
                return ask(self._at_hand())
            except Forbidden:  # the token may have expired
                with self._lock:
                    self._client = None
                return ask(self._at_hand())
        except Forbidden:
            raise UserError(
                "Vault refuses our token. Check [vault], and that the policy of the bot's role allows update on "
                f"{path or f'{mount}/sign/' + (role or 'ROLE')}."
            ) from None
        except InvalidPath:
            raise UserError(f"Vault has no PKI engine “{mount}”, or it has no issuer. Correct mount.") from None
        except VaultError as error:
            # what it says is about a request and its names, which are no secrets
            told = " ".join(str(t) for t in error.errors or [type(error).__name__])
            raise UserError(f"Vault refuses: {told[:LONGEST_TOLD].strip()}") from None
        except (OSError, ValueError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> UserError:
        """Return what is told where Vault gave no usable answer: the class only, for a library's text may quote."""
        return UserError(
            f"Vault at {self._settings.address} cannot be asked ({type(error).__name__}). Check [vault] address "
            "and ca_file."
        )

    def _at_hand(self) -> hvac.Client:
        with self._lock:
            if self._client is None:
                self._client = self._logged_in()
            return self._client

    def _data(self, path: str) -> dict[str, Any]:
        with self._lock:
            now = self._clock.monotonic()
            at, data = self._known.get(path, (float("-inf"), dict[str, Any]()))
            if now - at < KEEP_SECONDS:
                return data
            try:
                try:
                    answer = self._ask(path)
                except Forbidden:  # the token may have expired
                    self._client = None
                    answer = self._ask(path)
                data = answer["data"]["data"]
            except Forbidden:
                raise SettingsError(
                    f"Vault refuses to show {path}. Check [vault] and the policy of the bot's role: it needs read on "
                    f"{self._settings.mount}/data/{path}."
                ) from None
            except InvalidPath:
                raise SettingsError(
                    f"Vault has no secret {path} under {self._settings.mount}, or it was deleted. "
                    "Correct the reference."
                ) from None
            except (VaultError, OSError, ValueError, KeyError, TypeError) as error:
                # the name of the class only: a library's text may quote what it sent
                raise SettingsError(
                    f"Vault at {self._settings.address} cannot be asked ({type(error).__name__}). Check [vault] "
                    "address and ca_file, and whether Vault is sealed."
                ) from None
            if not isinstance(data, dict):
                raise SettingsError(f"Vault answered for {path} with something unexpected. Check [vault] mount.")
            self._known[path] = (now, data)
            return data

    def _ask(self, path: str) -> Any:
        if self._client is None:
            self._client = self._logged_in()
        return self._client.secrets.kv.v2.read_secret_version(
            path=path, mount_point=self._settings.mount, raise_on_deleted_version=True
        )

    def _logged_in(self) -> hvac.Client:
        settings = self._settings
        token = settings.token.read().reveal() if settings.auth == "token" and settings.token else ""
        client = self._client_of(token)
        if settings.auth == "approle" and settings.secret_id:
            client.auth.approle.login(role_id=settings.role_id, secret_id=settings.secret_id.read().reveal())
        elif settings.auth == "kubernetes" and settings.jwt:
            client.auth.kubernetes.login(role=settings.role, jwt=settings.jwt.read().reveal())
        return client

    def _client_of(self, token: str) -> hvac.Client:
        settings = self._settings
        client = hvac.Client(  # type: ignore[no-untyped-call]
            url=settings.address,
            token=token,
            verify=str(settings.ca_file) if settings.ca_file else True,
            namespace=settings.namespace,
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )
        # or variables of the environment could exchange the CAs, or send the requests elsewhere
        client.session.trust_env = False
        client.session.hooks["response"].append(_cut)
        return client


def _cut(response: Any, **_given: Any) -> None:
    """Read an answer before the library does, and no more than an answer may hold; ValueError if there is more."""
    parts, size = list[bytes](), 0
    for part in response.iter_content(_PART):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            response.close()
            raise ValueError("the answer is too large")
    response._content = b"".join(parts)  # noqa: SLF001 -- as the library itself would have left it
