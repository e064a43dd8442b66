"""The documentation is true: links lead somewhere, and what it quotes is in the code."""

import ast
import re
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from bot import cli, telemetry
from bot.domain.commands import COMMANDS
from bot.settings import Settings
from tests import reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```")


def text_of(page: Path) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", text_of(page))
    return {re.sub(r"[^\w\- ]", "", h.casefold()).replace(" ", "-") for h in headings}


def test_the_reference_is_what_the_code_says() -> None:
    """Run `python -m tests.reference` after a change of a command, a setting or a metric."""
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page()


def test_the_index_names_every_page() -> None:
    """Nothing stands aside."""
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text(encoding="utf-8")))
    assert named == {p.name for p in PAGES} - {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Pages, their headings, pictures and files."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def test_every_picture_is_shown_and_said_in_words() -> None:
    """None lies about unused, and who sees none reads what it shows."""
    shown: dict[str, str] = {}
    for page in [*PAGES, ROOT / "README.md"]:
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            shown[Path(target).name] = words
    assert set(shown) == {p.name for p in (DOCS / "images").iterdir()}
    assert all(len(words) > 15 for words in shown.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_and_settings_that_a_page_names_exist(page: Path) -> None:
    """`octocert x`, `/octocert y`, `--option`, `[table] key` and metrics."""
    text = page.read_text(encoding="utf-8")
    assert isinstance(cli.octocert, click.Group)
    assert set(re.findall(r"(?m)(?:^|[`=]|bin/)octocert ([a-z]+)", text)) <= set(cli.octocert.commands)
    slack = {spec.name for spec in COMMANDS}
    assert set(re.findall(r"(?m)(?:^|[` ])/octocert ([a-z][a-z-]+)", text)) <= slack
    tables = {name.split(".")[0] for name, _ in reference.tables(Settings, "") if name}
    fields = {name: model.model_fields for name, model in reference.tables(Settings, "")}
    for table, key in re.findall(r"`\[{1,2}([a-z.A-Z]+)\]{1,2}(?: ([a-z_]+))?[`= ]", text):
        assert table.split(".")[0] in tables, table
        if key:
            assert key in fields[table], (table, key)
    metrics = set(re.findall(r"\| `(octocert_\w+)` \|", reference.PAGE.read_text(encoding="utf-8")))
    for name in re.findall(r"\bocto(?:cert)_[a-z_]+", text):
        assert name in metrics or name.removesuffix("_bucket") in metrics, name
    assert telemetry.MOMENT.keys() <= metrics


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples_in_a_page_can_be_read(page: Path) -> None:
    """TOML and YAML parse, and tables of the configuration have no unknown key."""
    fields = {name: model.model_fields for name, model in reference.tables(Settings, "")}
    for kind, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind == "yaml":
            assert yaml.safe_load(body)
        if kind == "toml":
            for table, content in tomllib.loads(body).items():
                one = content[0] if isinstance(content, list) else content
                named = f"{table}.NAME" if f"{table}.NAME" in fields else table
                keys = next(iter(one.values())) if named.endswith("NAME") else one
                assert set(keys) <= set(fields[named]), table


def test_what_troubleshooting_quotes_is_said_by_the_bot() -> None:
    """A sentence that was reworded in the code is reworded there."""
    said: list[str] = []
    for path in [*(ROOT / "bot").rglob("*.py"), *(ROOT / "handlers").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    everything = "\n".join(" ".join(s.split()) for s in said).casefold()
    unsaid = [
        piece.strip()
        for quote in re.findall(r"“([^”]+)”", text_of(DOCS / "troubleshooting.md"))
        for piece in quote.split("…")
        if len(piece.strip()) > 5 and piece.strip().casefold() not in everything
    ]
    assert unsaid == []
