"""The doctor: looks at everything that the bot needs, in the order in which it is needed, and changes nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bot import logs
from bot.clock import Clock
from bot.domain.errors import SettingsError
from bot.operating import doctor_certificates, doctor_hosts, doctor_octopus, doctor_slack, doctor_vault
from bot.operating.examination import Examination, FailedCheckError, Good, secret_check, split
from bot.runs import database_look
from bot.secrets import SecretReference
from bot.settings import Settings, load

CONFIGURATION, DATABASE = "configuration", "database"
WORLD_WRITABLE = 0o002
_WHERE = {
    "env": "Set it where the bot is started: EnvironmentFile= of the service, --env-file of the container.",
    "vault": "Put the secret into Vault under that path and field, and let the bot's role read it.",
    "file": "Put the secret into that file, readable for the bot's account alone (chmod 600).",
}
"""Where secrets go, by the kind of their references."""


def examine(
    config: Path,
    *,
    clock: Clock,
    hosts: Sequence[str] = (),
    sample: int = 3,
    on_begin: Callable[[str], None] = lambda _: None,
) -> Examination:
    """Return the result of all checks; `hosts` names targets to visit, otherwise `sample` of them are chosen."""
    found = Examination(on_begin)
    if not found.check(CONFIGURATION, lambda: _configuration(config)):
        for name in ("secrets", DATABASE, "certificates", "slack", "octopus", "hosts"):
            found.skip(name, f"“{CONFIGURATION}” is not in order")
        return found
    settings: Settings = found.value(CONFIGURATION)
    _secrets(found, settings, clock)
    needs = [secret_check("[database] url_password")] if settings.database.url_password else []
    found.check(DATABASE, lambda: _database(settings), needs=needs)
    doctor_certificates.examine(found, settings, clock)
    doctor_slack.examine(found, settings)
    index = doctor_octopus.examine(found, settings, clock)
    doctor_hosts.examine(found, settings, clock, index, hosts=hosts, sample=sample)
    return found


def _configuration(path: Path) -> Good:
    try:
        settings = load(path)
    except SettingsError as error:
        sentences = str(error).splitlines()
        raise FailedCheckError(
            " ".join(sentences),
            "Correct the file; octocert.example.toml explains every setting, and octocert init writes a new one.",
        ) from None
    mode = path.stat().st_mode
    if mode & WORLD_WRITABLE:
        raise FailedCheckError(
            f"{path} can be changed by everybody on this machine, approvers included.", f"Run: chmod 600 {path}"
        )
    return Good(f"{path} is complete.", settings, " ".join(settings.cautions))


def _secrets(found: Examination, settings: Settings, clock: Clock) -> None:
    """Look for all secrets; those that lie in Vault last, for they need others and a Vault that answers."""
    references = sorted(settings.references(), key=lambda r: r[1].kind == "vault")
    is_vault_seen = False
    for setting, reference in references:
        if reference.kind == "vault" and not is_vault_seen:
            doctor_vault.examine(found, settings, clock)
            is_vault_seen = True

        def look(reference: SecretReference = reference) -> Good:
            try:
                secret = reference.read()
            except SettingsError as error:
                detail, advice = split(str(error))
                raise FailedCheckError(detail, advice or _WHERE[str(reference).partition(":")[0]]) from None
            if not secret:
                raise FailedCheckError(f"{reference} is empty.", "Put the secret there.")
            logs.hide(secret.reveal())
            return Good(f"{reference} is there.", secret)

        found.check(secret_check(setting), look, needs=[doctor_vault.LOGIN] if reference.kind == "vault" else [])
    if not is_vault_seen:
        doctor_vault.examine(found, settings, clock)


def _database(settings: Settings) -> Good:
    password = settings.database.url_password
    return Good(database_look.look(settings.database.url, password.read() if password else None))
