"""The image's health check: asks /healthz where the configuration has [operating] listen. `python -m` runs it."""

import http.client
import sys
from pathlib import Path

from bot.domain.errors import SettingsError
from bot.settings import load
from bot.settings_operating import address_of

SECONDS = 5
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not to listen, to be asked


def check(config: Path) -> tuple[bool, str]:
    """Return whether the bot of this configuration lives, and a sentence."""
    try:
        listen = load(config).operating.listen if config.exists() else None
    except SettingsError as error:
        return False, str(error)
    address = address_of(listen) if listen else None
    if address is None:
        return True, "Nothing can be asked: the configuration has no [operating] listen."
    connection = http.client.HTTPConnection(_EVERYWHERE.get(address.host, address.host), address.port, timeout=SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == http.client.OK, answer.read(4096).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return False, f"{listen} does not answer: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    is_alive, sentence = check(Path(sys.argv[1]))
    print(sentence)  # noqa: T201 - Docker shows it beside the container's health
    sys.exit(not is_alive)
