"""The doctor's look at the sources of certificates: PFX files that open, and CAs that would sign."""

from bot.certificates.authorities import Authorities
from bot.certificates.sources import Sources
from bot.clock import Clock
from bot.operating import doctor_vault
from bot.operating.examination import Examination, FailedCheckError, Good, secret_check, split
from bot.settings import Settings


def examine(found: Examination, settings: Settings, clock: Clock) -> None:
    """Look at everything of [certificates]; no certificate is signed."""
    _pfx(found, settings, clock)
    _cas(found, settings, clock)


def _pfx(found: Examination, settings: Settings, clock: Clock) -> None:
    files = settings.certificates.pfx
    sources = Sources({name: (pfx.path, pfx.password) for name, pfx in files.items()})
    for name, pfx in files.items():

        def look(name: str = name) -> Good:
            now = clock.now()
            details = sources.check(name, now)
            for caution in sources.cautions(name):
                raise FailedCheckError(*split(caution))
            return Good(f"{details.subject}, {details.days_left(now)} days left.")

        needs = [secret_check(f"[certificates.pfx.{name}] password")] if pfx.password else []
        found.check(f"pfx {name}", look, needs=needs)


def _cas(found: Examination, settings: Settings, clock: Clock) -> None:
    authorities = Authorities.of(settings, clock)
    for name, table in settings.certificates.ca.items():

        def look(name: str = name) -> Good:
            now = clock.now()
            table = settings.certificates.ca[name]
            terms = authorities.terms(name, now)
            hints = []
            if table.engine == "vault":
                hints.append(doctor_vault.look_at_role(found.value(doctor_vault.LOGIN), name, table))
            if terms.is_cut_short(now):
                hints.append(f"Its own certificate ends before {table.days} days are over, and so will what it signs.")
            what = f"{terms.issuer}, until {terms.until:%Y-%m-%d}; signs for {terms.days} days, RSA {terms.key_bits}."
            return Good(what, terms, " ".join(h for h in hints if h))

        if table.engine == "vault":
            needs = [doctor_vault.LOGIN]
        else:
            keys = [key for key in ("key", "key_password") if getattr(table, key)]
            needs = [secret_check(f"[certificates.ca.{name}] {key}") for key in keys]
        found.check(f"ca {name}", look, needs=needs)
