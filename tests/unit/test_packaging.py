"""What is shipped: the wheel, the pinned requirements, the image and the README say the same as the code."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bot import __version__, cli
from bot.operating import configuration
from bot.operating.healthcheck import check
from bot.operating.web import WebServer
from bot.settings import Settings
from bot.settings_operating import Address

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SET_UP = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && "

pytestmark = pytest.mark.xdist_group("packaging")  # so that the wheel is built once


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel once, as a release does, without asking any registry."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """Return the names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_two_packages_and_nothing_else(names):
    """No tests, no notes and no configuration get into anybody's site-packages."""
    assert {name.split("/")[0] for name in names} == {"bot", "handlers", f"octocert-{__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".toml"))]


def test_the_wheel_holds_every_file_of_the_packages(names):
    """Scripts, pages and templates are shipped as well as modules."""
    there = {
        path.relative_to(ROOT).as_posix()
        for package in ("bot", "handlers")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there - names == set()
    assert "bot/py.typed" in names
    assert [name for name in names if name.startswith("bot/windows/scripts/") and name.endswith(".ps1")]


def test_the_wheel_carries_licence_and_command(wheel, names):
    """The licence travels along, and the command `octocert` is there."""
    assert f"octocert-{__version__}.dist-info/licenses/LICENSE" in names
    with zipfile.ZipFile(wheel) as archive:
        about = archive.read(f"octocert-{__version__}.dist-info/METADATA").decode()
        commands = archive.read(f"octocert-{__version__}.dist-info/entry_points.txt").decode()
    assert "octocert = bot.cli:main" in commands
    assert "License-Expression: Apache-2.0" in about
    assert "Private :: Do Not Upload" in about


def test_the_wheel_runs_without_the_source_tree(wheel, tmp_path):
    """The command answers from what was unpacked, in a folder where nothing else is."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    program = (
        "import bot.cli, bot.settings, bot.logs, handlers, sys; print(bot.__file__, handlers.__file__); bot.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [
        f"{site}/bot/__init__.py {site}/handlers/__init__.py",
        f"octocert {__version__}",
    ], done.stderr


def test_every_library_in_use_is_declared():
    """What the code imports stands in pyproject.toml, and what stands there is imported."""
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    owners = metadata.packages_distributions()
    used: set[str] = set()
    for path in [p for package in ("bot", "handlers") for p in (ROOT / package).rglob("*.py")]:
        for module in re.findall(r"(?m)^\s*(?:from|import) (\w+)", path.read_text(encoding="utf-8")):
            if module not in {"bot", "handlers"} | sys.stdlib_module_names:
                used |= {canonicalize_name(owner) for owner in owners.get(module, [])}
    # psycopg is imported by SQLAlchemy's and uvicorn's own choice of a driver, pydantic-core comes with pydantic.
    assert used - declared - {"pydantic-core"} == set()


LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def pinned() -> dict[str, str]:
    """Return the pinned versions by name."""
    return {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)", LOCK)}


def test_the_lock_pins_every_requirement_with_a_version_that_is_allowed():
    """After a change of pyproject.toml the lock must be made anew; the README says how."""
    for line in PROJECT["dependencies"]:
        requirement = Requirement(line)
        version = pinned().get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(version), f"{requirement.name} {version} is not {requirement.specifier}"


def test_the_lock_has_hashes_and_no_addresses():
    """Every pin has its hashes; no line names a registry, a folder or an option."""
    assert "://" not in LOCK
    for block in re.split(r"(?m)^(?=\S)", LOCK):
        if block.strip():
            assert re.match(r"[\w.-]+==\S+ \\\n", block), block
            assert "--hash=sha256:" in block
            assert not re.search(r"--(?!hash=sha256:[0-9a-f]{64})", block)


def test_the_image_runs_the_bot_as_an_unprivileged_user():
    """Slim, pinned by hashes, not root, and with the promised command."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert [line.split(" as ")[0].split(" AS ")[0] for line in lines if line.startswith("FROM")] == [
        "FROM python:3.11-slim"
    ] * 2
    assert "--require-hashes" in text
    assert "USER 10001" in lines
    assert json.loads(next(line for line in lines if line.startswith("ENTRYPOINT ")).removeprefix("ENTRYPOINT ")) == [
        "octocert"
    ]
    assert json.loads(next(line for line in lines if line.startswith("CMD ")).removeprefix("CMD ")) == [
        "run",
        "--config",
        "/etc/octocert/octocert.toml",
    ]
    assert lines.index("USER 10001") < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))


def test_the_image_gets_all_it_is_built_from():
    """Whatever the Dockerfile copies from the checkout is let through by .dockerignore."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {name for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", text) for name in line.split()[:-1]}
    assert copied == {line.strip("!/") for line in ignore if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_tells_whether_the_bot_lives(tmp_path):
    """Its health check asks where the configuration says; without an address there is nothing to ask."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"HEALTHCHECK [^\[]+(\[.+\])", text)
    assert found
    assert json.loads(found[1]) == ["python", "-m", "bot.operating.healthcheck", "/etc/octocert/octocert.toml"]
    config = tmp_path / "octocert.toml"
    assert check(config)[0], "the demo has no configuration"
    config.write_text(configuration.text(configuration.Answers()))
    assert check(config)[0]

    async def healthz(request: Request) -> Response:
        return Response(status_code=503 if request.headers["host"].startswith("127.0.0.2") else 200)

    for host, is_alive in (("127.0.0.1", True), ("0.0.0.0", True), ("127.0.0.2", False)):
        server = WebServer(Address(host, 0), [Route("/healthz", healthz)])
        server.start()
        listen = f"{host}:{server.address.port}"
        config.write_text(configuration.text(configuration.Answers(extra={"operating.listen": listen})))
        assert check(config)[0] is is_alive
        server.stop()
        assert not check(config)[0], "nothing listens there any more"


def test_compose_runs_the_same_image_with_postgres_and_secrets_as_files():
    """What it mounts is what its head tells to write; nothing in it is a secret, and nothing is open to the network."""
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    assert "image: postgres:17\n" in text
    declared = set(re.findall(r"(?m)^  ([\w-]+): \{ file: \./secrets/\1 \}$", text))
    used = {name for line in re.findall(r"(?m)^    secrets: \[(.+)\]$", text) for name in line.split(", ")}
    assert declared == used == set(re.findall(r"file:/run/secrets/([\w-]+)", text))
    assert all(line.startswith('"127.0.0.1:') for line in re.findall(r"(?m)^    ports: \[(.+)\]$", text))
    assert 'profiles: [demo]\n    command: ["demo", "--bind", "0.0.0.0"' in text
    assert "POSTGRES_PASSWORD:" not in text


def test_the_readme_has_the_two_commands():
    """A newcomer copies one line to see it and one line to test it."""
    assert f"\n{SET_UP}.venv/bin/octocert demo\n" in README
    assert f"\n{SET_UP}.venv/bin/pytest\n" in README


def test_the_readme_names_every_command_and_table():
    """What the program and the configuration have is told in the README."""
    assert isinstance(cli.octocert, click.Group)
    for command in cli.octocert.commands:
        assert f"octocert {command}" in README
    for table in Settings.model_fields:
        if table not in {"credentials", "hosts", "certificates", "windows", "log"}:
            assert f"[{table}]" in README, table


def test_every_link_of_the_readme_leads_somewhere():
    """Pictures and pages that the README points to exist; the picture of the thread comes with the release."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("https://") and target != "docs/images/thread.png":
            assert (ROOT / target).exists(), target


def test_the_changelog_tells_of_this_version():
    """The newest entry is the version in the code, or what is not released yet."""
    newest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert newest
    assert newest[1] in {__version__, "Unreleased"}
