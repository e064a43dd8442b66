"""An examination: checks in order, each with what was found and how to mend it; what cannot be judged is skipped."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeVar

import structlog

from bot import logs
from bot.domain.errors import UserError

log = structlog.get_logger("octocert.doctor")

T = TypeVar("T")


class Good(NamedTuple):
    """What a check found in order; an advice is a hint that does not make it a failure."""

    detail: str
    value: Any = None
    """What later checks need of it."""
    advice: str = ""


class FailedCheckError(Exception):
    """What a check found out of order, and how it is mended."""

    def __init__(self, detail: str, advice: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.advice = advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check and its result."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
    skipped: bool = False
    """Whether another failure stands before it; then nobody knows how this one is."""

    def to_document(self) -> dict[str, Any]:
        """Return it as scripts read it."""
        document = asdict(self)
        del document["skipped"]
        return document


class Examination:
    """Collects checks. What one needs and did not get makes it skipped, with the reason."""

    def __init__(self, on_begin: Callable[[str], None] = lambda _: None) -> None:
        self.checks: list[Check] = []
        self._values: dict[str, Any] = {}
        self._on_begin = on_begin

    @property
    def ok(self) -> bool:
        """Whether everything is in order."""
        return all(check.ok for check in self.checks)

    def check(self, name: str, look: Callable[[], Good], *, needs: Sequence[str] = ()) -> bool:
        """Look at one thing, unless something that it needs is missing; return whether it is in order."""
        for need in needs:
            if need not in self._values:
                self.skip(name, f"“{need}” is not in order")
                return False
        self._on_begin(name)
        try:
            good = look()
        except FailedCheckError as failure:
            self._add(Check(name=name, ok=False, detail=failure.detail, advice=failure.advice))
        except UserError as error:
            detail, advice = split(str(error))
            self._add(Check(name=name, ok=False, detail=detail, advice=advice or "Mend that, then ask again."))
        except Exception as error:
            log.exception("a check could not be made", check=name)
            self._add(
                Check(
                    name=name,
                    ok=False,
                    detail=f"This could not be found out: something unexpected happened ({type(error).__name__}).",
                    advice="The log on standard error has the details; please report them.",
                )
            )
        else:
            self._values[name] = good.value
            self._add(Check(name=name, ok=True, detail=good.detail, advice=good.advice))
            return True
        return False

    def skip(self, name: str, why: str) -> None:
        """Note that nobody can say how something is."""
        self._add(
            Check(name=name, ok=False, detail=f"skipped: because {why}.", advice="Mend that first.", skipped=True)
        )

    def value(self, name: str) -> Any:
        """Return what a check in order found; KeyError if it is not."""
        return self._values[name]

    def has(self, name: str) -> bool:
        """Whether a check was made and is in order."""
        return name in self._values

    def document(self) -> dict[str, Any]:
        """Return all of it as scripts read it."""
        return {"ok": self.ok, "checks": [check.to_document() for check in self.checks]}

    def _add(self, check: Check) -> None:
        self.checks.append(
            Check(
                name=check.name,
                ok=check.ok,
                detail=logs.clean(check.detail),
                advice=logs.clean(check.advice),
                skipped=check.skipped,
            )
        )


def secret_check(setting: str) -> str:
    """Return the name of the check of a setting's secret."""
    return f"secret: {setting}"


def split(text: str) -> tuple[str, str]:
    """Return what happened and what to do: our errors say first the one and then, in further sentences, the other."""
    head, dot, rest = text.partition(". ")
    return (f"{head}.", rest) if dot and rest else (text, "")
