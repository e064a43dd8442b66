"""The doctor's look at HashiCorp Vault: its address, the login, and what the PKI roles of [certificates.ca] allow."""

from datetime import timedelta

from bot.clock import Clock
from bot.operating.examination import Examination, FailedCheckError, Good
from bot.settings import Settings
from bot.settings_certificates import Ca
from bot.vault import Vault

ADDRESS, LOGIN = "vault: address", "vault: login"
SHORT = timedelta(days=3)
"""A token that somebody else must renew and that holds for less is worth a word."""
_OWN = {"token": "token", "approle": "secret_id", "kubernetes": "jwt"}
"""The secret of [vault] itself by the kind of login."""


def examine(found: Examination, settings: Settings, clock: Clock) -> None:
    """Look at [vault], if there is one; what lies in it is looked at where it is needed."""
    if settings.vault is None:
        return
    vault = Vault(settings.vault, clock)

    def address() -> Good:
        state = vault.state()
        if state != "ready":
            raise FailedCheckError(
                f"Vault at {settings.vault and settings.vault.address} is {state}.",
                "Have whoever runs it unseal it: vault operator unseal."
                if state == "sealed"
                else "It was never set up: see whether this is the right Vault.",
            )
        return Good("Vault answers there and is unsealed.")

    def login() -> Good:
        left = vault.seconds_left()
        how = settings.vault.auth if settings.vault else ""
        if left is None:
            return Good(f"Logged in by {how}; the token does not end.", vault)
        hint = ""
        if how == "token" and left < SHORT.total_seconds():
            hint = "Have something renew it, such as Vault Agent, or let the bot log in by approle or kubernetes."
        return Good(f"Logged in by {how}; the token holds for {timedelta(seconds=round(left))}.", vault, hint)

    found.check(ADDRESS, address)
    own = f"secret: [vault] {_OWN[settings.vault.auth]}"
    found.check(LOGIN, login, needs=[own, ADDRESS])


def look_at_role(vault: Vault, name: str, table: Ca) -> str:
    """Confirm that the role of a CA can sign on the configured terms; return a hint, if there is one."""
    sign, shown, revoke = (f"{table.mount}/{p}" for p in (f"sign/{table.role}", f"roles/{table.role}", "revoke"))
    may = vault.capabilities(sign, shown, revoke)
    if not may[sign] & {"update", "root", "sudo"}:
        raise FailedCheckError(
            f"The bot's policy in Vault does not let it sign for the CA “{name}”.",
            f'Add to the policy: path "{sign}" {{ capabilities = ["update"] }}',
        )
    hints = []
    if may[shown] & {"read", "root", "sudo"}:
        _confirm_fits(vault, name, table)
    else:
        hints.append(f'With path "{shown}" {{ capabilities = ["read"] }} the role itself could be checked here.')
    if not may[revoke] & {"update", "root", "sudo"}:
        hints.append(
            f'Without path "{revoke}" {{ capabilities = ["update"] }} the bot names a certificate that was signed and '
            "never used, and does not revoke it."
        )
    return " ".join(hints)


def _confirm_fits(vault: Vault, name: str, table: Ca) -> None:
    """Compare the role with the terms: what it would cut or refuse fails in the middle of a run otherwise."""
    assert table.role is not None, "a CA in Vault without a role was refused"
    role = vault.role(table.mount, table.role)
    here = f"[certificates.ca.{name}]"
    if role is None:
        raise FailedCheckError(
            f"The PKI engine {table.mount} in Vault has no role “{table.role}”.", f"Correct role in {here}, or make it."
        )
    if role.get("key_type") not in {"rsa", "any", None}:
        raise FailedCheckError(
            f"The role {table.role} signs {role['key_type']} keys only; the bot's are RSA.",
            'Set key_type = "rsa" (or "any") on the role.',
        )
    if int(role.get("key_bits") or 0) > table.key_bits:
        raise FailedCheckError(
            f"The role {table.role} wants keys of {role['key_bits']} bits; {here} says {table.key_bits}.",
            f"Raise key_bits in {here}, or lower it on the role.",
        )
    longest = _seconds(role.get("max_ttl"))
    if 0 < longest < timedelta(days=table.days).total_seconds():
        raise FailedCheckError(
            f"The role {table.role} cuts certificates to {longest / 86_400:g} days; {here} promises {table.days}.",
            f"Lower days in {here}, or raise max_ttl on the role.",
        )


def _seconds(value: object) -> float:
    """Return a lifetime in Vault's answer; 0 where there is none, or it is not understood."""
    return float(value) if isinstance(value, int | float) else 0.0
