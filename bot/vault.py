"""HashiCorp Vault: reads fields of secrets where they are used, with TLS verified. Nothing is kept on disk."""

import threading
from typing import Any

import hvac
from hvac.exceptions import Forbidden, InvalidPath, VaultError

from bot.clock import Clock
from bot.domain.errors import SettingsError
from bot.secrets import Secret
from bot.settings_vault import Vault as Table

KEEP_SECONDS = 15.0
"""How long a secret is kept in memory: so soon a rotated one is used. A run asks for one many times a second."""
TIMEOUT_SECONDS = 10


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
        if settings.auth == "approle" and settings.secret_id:
            client.auth.approle.login(role_id=settings.role_id, secret_id=settings.secret_id.read().reveal())
        elif settings.auth == "kubernetes":
            client.auth.kubernetes.login(role=settings.role, jwt=settings.jwt.read().reveal())
        return client
