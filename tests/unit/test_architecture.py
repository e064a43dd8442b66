"""The house keeps its rooms: who may import what, how long a module may be, what may not stand anywhere."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from bot.settings_tables import Deadlines

ROOT = Path(__file__).parents[2]
LONGEST = 500
"""Lines of a module; most should have far fewer."""


class Import(NamedTuple):
    """One import statement."""

    file: str
    line: int
    module: str
    """Absolute; for `from a import b` both `a` and `a.b` are listed, because b may be a module."""


def modules(*folders: str) -> list[Path]:
    """Return the Python files below some folders of the repository, or those files themselves."""
    found: list[Path] = []
    for folder in folders:
        path = ROOT / folder
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def relative(path: Path) -> str:
    """Return a path as the repository knows it."""
    return path.relative_to(ROOT).as_posix()


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Return every import of a module: at its top, inside functions, relative ones, and by literal name."""
    found: list[Import] = []
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called.endswith(("import_module", "__import__")) and isinstance(node.args[0].value, str):
                names = [node.args[0].value]
        found += [Import(relative(path), getattr(node, "lineno", 0), name) for name in names]
    return tuple(found)


def within(module: str, *packages: str) -> bool:
    """Whether a module is one of some packages or lies in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def offenders(folders: tuple[str, ...], forbidden: tuple[str, ...], allowed: str = r"(?!)") -> list[str]:
    """Return the imports of `forbidden` packages in some folders, except in files that match `allowed`."""
    return sorted(
        {
            f"{found.file}:{found.line} imports {found.module}"
            for path in modules(*folders)
            if not re.fullmatch(allowed, relative(path))
            for found in imports_of(path)
            if within(found.module, *forbidden)
        }
    )


@pytest.mark.parametrize(
    ("forbidden", "allowed"),
    [
        (("handlers",), r"handlers/.*|bot/cli\.py"),
        (("winrm", "requests"), r"bot/windows/.*"),
        (("hvac",), r"bot/vault\.py"),  # the one client of HashiCorp Vault
        (("httpx",), r"bot/octopus/.*"),
        (("slack_bolt", "slack_sdk"), r"handlers/.*|bot/slack/.*|bot/app\.py"),
        (("bot.sandbox",), r"bot/sandbox/.*|bot/cli\.py|bot/operating/bench.*"),
        (("bot.cli",), r"bot/cli\.py"),
        (("bot.app",), r"bot/cli\.py|bot/sandbox/[a-z_]+\.py"),
        (("tomllib",), r"bot/settings\.py"),
        (("pypsrp", "pytest", "tests"), r"(?!)"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_belongs_to_one_room_is_imported_there_only(forbidden, allowed):
    """Each outside library and each upper room has few importers, and they are named."""
    assert offenders(("bot", "handlers"), forbidden, allowed) == []


def test_one_module_alone_knows_the_durable_engine():
    """Whoever exchanges dbos edits one module of bot/runs."""
    users = {
        found.file for path in modules("bot", "handlers") for found in imports_of(path) if within(found.module, "dbos")
    }
    assert len(users) <= 1, users
    assert all(user.startswith("bot/runs/") for user in users)


def test_handlers_are_thin():
    """Listeners see Slack, the domain, the desk and the messages; never clients, hosts or the sandbox."""
    allowed = (
        "handlers",
        "slack_bolt",
        "slack_sdk",
        "structlog",
        "bot.domain",
        "bot.runs",
        "bot.slack",
        "bot.logs",
        "bot.clock",
    )
    foreign = [
        f"{found.file}:{found.line} imports {found.module}"
        for path in modules("handlers")
        for found in imports_of(path)
        if found.module != "bot" and not within(found.module, *allowed, *sys.stdlib_module_names)
    ]
    assert foreign == []


# fmt: off
PURE = (
    "abc", "base64", "bisect", "collections", "dataclasses", "datetime", "decimal", "difflib", "enum", "fnmatch",
    "functools", "graphlib", "hashlib", "heapq", "html", "itertools", "json", "math", "operator", "re", "shlex",
    "statistics", "string", "textwrap", "types", "typing", "unicodedata", "urllib.parse",
)
# fmt: on
"""What the domain may use of the standard library: nothing that reads a clock, a file, a socket or the environment."""


def test_the_domain_is_pure():
    """The domain imports itself, pydantic's types and a few modules without side effects."""
    foreign = [
        f"{found.file}:{found.line} imports {found.module}"
        for path in modules("bot/domain")
        for found in imports_of(path)
        if not within(found.module, "bot.domain", "pydantic", "pydantic_core", *PURE) and found.module != "urllib"
    ]
    assert foreign == []


def test_the_sandbox_does_not_lean_on_the_clients_that_it_judges():
    """A stand-in that used the bot's own clients would agree with their mistakes; only what starts the bot sees it."""
    rooms = ("bot.octopus", "bot.windows", "bot.slack", "bot.runs", "bot.certificates", "bot.audit")
    found = [
        line
        for line in offenders(
            ("bot/sandbox",), rooms, allowed=r"bot/sandbox/(demo|play|sandbox|estate|story|stories)\.py"
        )
        if not re.search(r" imports bot\.windows(\.scripts.*)?$", line)
    ]
    assert found == []


def test_the_environment_is_read_in_few_places():
    """Settings come from one file; only secrets, and the sandbox's programs, look at the environment."""
    readers = re.compile(r"\bos\.(environ|getenv|putenv)\b|\bfrom os import .*(environ|getenv)")
    found = [
        relative(path)
        for path in modules("bot", "handlers")
        if readers.search(path.read_text(encoding="utf-8"))
        and not re.fullmatch(r"bot/secrets\.py|bot/sandbox/.*", relative(path))
    ]
    assert found == []


def test_every_deadline_is_waited_for():
    """No setting of [deadlines] is there for show: each is read by the code."""
    text = "\n".join(p.read_text(encoding="utf-8") for p in modules("bot") if p.name != "settings_tables.py")
    assert [name for name in Deadlines.model_fields if not re.search(rf"deadlines\.{name}\b", text)] == []


@pytest.mark.parametrize("folder", ["bot", "handlers", "tests"])
def test_no_module_is_long(folder):
    """A module that needs more than 500 lines is two modules."""
    sizes = {relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in modules(folder)}
    assert {file: size for file, size in sizes.items() if size > LONGEST} == {}


# Written with a gap, so that this file does not offend itself.
FORBIDDEN = {
    "a path of one machine": r"/wor[k]/|/root[/]|/tmp/resear[c]h|\.\./share[d]\b",
    "a registry's address": r"index-ur[l]|pythonhoste[d]|npm[j]s|pypi\.or[g]",
    "a promise instead of code": r"\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b|NotImplemente[d]Error",
    "a patched function": r"(import|from) unittest[.]mock|MagicMoc[k]|monkeypatch\.setatt[r]|mocker[.]patch",
}
TEXT = {".py", ".ps1", ".toml", ".md", ".html", ".js", ".css", ".yaml", ".yml", ".json", ".lock", ".mako", ".txt", ""}


def committed() -> list[Path]:
    """Return the text files of the repository, without what git ignores and what others wrote."""
    kept = ("bot", "handlers", "tests", "docs", ".ci")
    files = [path for folder in kept for path in (ROOT / folder).rglob("*")]
    files += list(ROOT.iterdir())
    return [
        path
        for path in files
        if path.is_file()
        and path.suffix in TEXT
        and "__pycache__" not in path.parts
        and path.name not in {"LICENSE", "uv.lock", ".git"}
    ]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_may_not_stand_anywhere(what):
    """Nobody's machine, no registry, no stub and no patching in the whole repository."""
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{relative(path)}:{number}: {line.strip()[:80]}"
        for path in committed()
        # CI alone looks beside the checkout; what git ignores names no file of ours.
        if relative(path) not in {".ci/run", ".gitignore"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


def documented(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield every module, public class and public function or method of a file with its docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    yield relative(path), ast.get_docstring(tree)
    nodes: list[ast.AST] = [tree]
    while nodes:
        for node in ast.iter_child_nodes(nodes.pop()):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                yield f"{relative(path)}:{node.lineno} {node.name}", ast.get_docstring(node)
                if isinstance(node, ast.ClassDef):
                    nodes.append(node)


@pytest.mark.parametrize("folder", ["bot", "handlers"])
def test_everything_public_says_what_it_is(folder):
    """Modules, classes and functions begin with one sentence on one line."""
    bad = [
        name
        for path in modules(folder)
        if "versions" not in path.parts
        for name, text in documented(path)
        if not text or not text.splitlines()[0].rstrip().endswith((".", "?", ":"))
    ]
    assert bad == []


def test_every_test_says_what_it_shows():
    """Each test has a sentence of its own."""
    bad = [
        name
        for path in modules("tests")
        if path.name.startswith("test_")
        for name, text in documented(path)
        if re.search(r"( test_\w+|\.py)$", name)
        and (not text or not text.split("\n\n")[0].rstrip().endswith((".", "?", ":")))
    ]
    assert bad == []
