"""The log: structlog to standard error, and no secret in it.

Every line passes one processor that blots out whatever stands under a telling key, looks like a token, or was handed to
`hide`; texts of exceptions too. The loggers of libraries go through the same processor and may say warnings only.
"""

import base64
import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any, Literal, TextIO
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Format = Literal["auto", "console", "json"]

LIBRARIES = (
    "requests",
    "urllib3",
    "slack_sdk",
    "slack_bolt",
    "httpx",
    "httpcore",
    "winrm",
    "dbos",
    "spnego",
    "alembic.runtime.plugins",
)
"""Loggers that may print payloads below WARNING, or what helps nobody."""

MASK = "[hidden]"
"""What stands where something was blotted out."""

SHORTEST = 4
"""Shorter values are not hidden by value: blotting out every “a” would hide the log and not the secret."""

_TELLING = re.compile(
    r"pass(word|phrase|wd)?$|secret|token|api_?-?key|authorization|cookie|credential|private_?-?key|pfx_?(bytes|data)|^pfx$",
    re.IGNORECASE,
)
_LOOKS_SECRET = re.compile(
    r"\bxox[a-z]-[\w-]+|\bxapp-[\w-]+|\bAPI-[A-Z0-9]{16,}\b"
    r"|(?i:\bauthorization)['\"]?\s*[:=]\s*['\"]?\w+ [\w.~+/=-]+|\bBearer [\w.~+/=-]{8,}"
    r"|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)"
)
_NOTHING = re.compile(r"(?!)")


class _Hidden:
    """The values to blot out, in every spelling in which they may turn up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: frozenset[str] = frozenset()
        self._spellings: frozenset[str] = frozenset()
        self.pattern = _NOTHING

    def add(self, value: str) -> None:
        if value in self._values:  # secrets are read where they are used, so again and again
            return
        spellings = {s for s in _spellings(value) if len(s) >= SHORTEST}
        with self._lock:
            if spellings <= self._spellings:
                return
            self._values |= {value}
            self._spellings |= spellings
            # The longest first, so that a value that holds another one goes as a whole.
            ordered = sorted(self._spellings, key=lambda s: (-len(s), s))
            self.pattern = re.compile("|".join(re.escape(s) for s in ordered))


_hidden = _Hidden()


def _spellings(value: str) -> set[str]:
    once = {value, value.strip(), *_escaped(value)}
    # A library's error may quote a document that quotes the value: hence twice.
    twice = {s for spelling in once for s in _escaped(spelling)}
    return {*once, *twice, quote(value, safe=""), quote_plus(value), base64.b64encode(value.encode()).decode()}


def _escaped(value: str) -> set[str]:
    return {
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        escape(value),
        escape(value, {'"': "&quot;", "'": "&apos;"}),
    }


def hide(value: str) -> None:
    """Blot this value out of every later line, also escaped or in base64; values under 4 characters are not."""
    _hidden.add(value)


def clean(text: str) -> str:
    """Return a text without the values that were hidden and without whatever looks like a token or a private key."""
    return _LOOKS_SECRET.sub(MASK, _hidden.pattern.sub(MASK, text))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blot secrets out of one log event, by key and by value, at any depth; it is the last but one processor."""
    return {clean(str(key)): MASK if _is_telling(key, value) else _clean(value) for key, value in event.items()}


def _is_telling(key: object, value: object) -> bool:
    # A flag or a count under such a key tells no secret.
    return bool(_TELLING.search(str(key))) and value is not None and not isinstance(value, bool | int | float)


def _clean(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {clean(str(k)): MASK if _is_telling(k, v) else _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(v) for v in value]
    if isinstance(value, bytes):
        return f"[{len(value)} bytes]"
    if isinstance(value, BaseException):
        return clean(f"{type(value).__name__}: {value}")
    return clean(value if isinstance(value, str) else repr(value))


def configure(level: Level = "INFO", format: Format = "auto", stream: TextIO | None = None) -> None:  # noqa: A002 -- as the setting is called
    """Send all logs, ours and the libraries', to `stream` (standard error); for people on a terminal, else as JSON."""
    out = stream or sys.stderr
    is_console = format == "console" or (format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Exceptions become text before the text is cleaned; no renderer may format one by itself.
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if is_console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
        )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.setLevel(max(logging.WARNING, root.level))
        library.handlers.clear()
        library.propagate = True
    # dbos gives its logger a handler of its own unless it finds one there.
    dbos = logging.getLogger("dbos")
    dbos.addHandler(handler)
    dbos.propagate = False
    logging.captureWarnings(capture=True)
    threading.excepthook = _thread_died
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _thread_died(arguments: threading.ExceptHookArgs) -> None:
    """Log what ended a thread, instead of printing it past the processor that cleans."""
    if arguments.exc_type is SystemExit or arguments.exc_value is None:
        return
    name = arguments.thread.name if arguments.thread else "?"
    structlog.get_logger("octocert").error("a thread died", thread=name, exc_info=arguments.exc_value)
