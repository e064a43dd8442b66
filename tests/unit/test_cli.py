"""The command line answers at once, in sentences, and never with a traceback."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bot import __version__

PROGRAM = Path(sys.executable).with_name("octocert")
CANARY = "canary-8f3a1b2c"

CONFIGURATION = """
[slack]
bot_token = "env:OCTOCERT_TEST_BOT"
app_token = "env:OCTOCERT_TEST_APP"
[octopus]
url = "https://octopus.example.com"
api_key = "env:OCTOCERT_TEST_KEY"
[winrm]
username = 'CORP\\svc'
password = "env:OCTOCERT_TEST_PASSWORD"
[policy]
approvers = ["U02ADA", "U03BEN"]
"""


def octocert(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a person does, in a terminal of 80 columns."""
    return subprocess.run(
        [PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def refused(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the sentences with which the program refused."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), ["run ", "demo ", "init ", "manifest ", "doctor ", "approves", "--version"]),
        (("init",), ["--out FILE", "--defaults", "--force"]),
        (("manifest",), ["--http-url URL"]),
        (("doctor",), ["--config FILE", "--json", "--host NAME", "--sample N"]),
        (("run",), ["--http HOST:PORT", "--config FILE", "octocert.example.toml", "[default: octocert.toml]"]),
        (("demo",), ["--play [STORY]", "--json", "--port N", "--hosts N", "--seed N", "--state DIR", "failure"]),
    ],
    ids=["octocert", "init", "manifest", "doctor", "run", "demo"],
)
def test_help_tells_what_there_is(command, words, flag):
    """Every command explains itself on one screen, each option with a sentence."""
    done = octocert(*command, flag)
    assert done.returncode == 0
    assert done.stderr == ""
    for word in words:
        assert word in done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80


def test_help_answers_at_once():
    """Nothing heavy is imported before it is needed: the best of three calls takes less than 0.4 s."""
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        assert octocert("--help").returncode == 0
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.4


def test_help_imports_nothing_heavy():
    """Whatever a command needs is imported when it runs; for the help, click is enough."""
    program = "import sys, bot.cli; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    heavy = {
        "alembic", "cryptography", "dbos", "httpx", "handlers", "jinja2", "prometheus_client", "pydantic", "requests",
        "rich", "slack_bolt", "slack_sdk", "sqlalchemy", "starlette", "structlog", "uvicorn", "winrm",
    }  # fmt: skip
    assert heavy & set(done.stdout.split()) == set()


def test_version_tells_the_version():
    """The version is that of the package."""
    assert octocert("--version").stdout == f"octocert {__version__}\n"


def test_a_missing_configuration_is_one_sentence(tmp_path):
    """Without a file the program says where it looked and what to do."""
    (sentence,) = refused(octocert("run", cwd=tmp_path))
    assert sentence.startswith("octocert: There is no configuration at octocert.toml. Write one by octocert init")


def test_an_unknown_setting_is_one_sentence(tmp_path):
    """A mistake is told with file, table, key and suggestion."""
    file = tmp_path / "mine.toml"
    file.write_text(CONFIGURATION.replace("[winrm]", "[winrm]\nprot = 5986"))
    (sentence,) = refused(octocert("run", "--config", str(file)))
    assert sentence == f"octocert: {file}, [winrm] prot is not a setting; did you mean port?"


def test_several_problems_are_several_sentences(tmp_path):
    """All mistakes are told in one go, one line each."""
    file = tmp_path / "mine.toml"
    file.write_text(CONFIGURATION.replace('approvers = ["U02ADA", "U03BEN"]', "") + "[log]\ncolour = true")
    sentences = refused(octocert("run", "--config", str(file)))
    assert len(sentences) == 2
    assert all(sentence.startswith(f"octocert: {file}, [") for sentence in sentences)


def test_missing_secrets_are_told_before_anything_starts(tmp_path):
    """Every secret that is not there is named; those that are there are not shown."""
    file = tmp_path / "mine.toml"
    file.write_text(CONFIGURATION)
    done = octocert("run", "--config", str(file), OCTOCERT_TEST_BOT=CANARY, OCTOCERT_TEST_APP=CANARY)
    sentences = refused(done)
    assert [sentence.split(": ")[1] for sentence in sentences] == ["[octopus] api_key", "[winrm] password"]
    assert CANARY not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rotate",), "No such command 'rotate'"),
        (("run", "--confg", "x"), "No such option"),
        (("run", "--http", "8080"), "it must be HOST:PORT"),
        (("manifest", "--http-url", "http://bot.example.com"), "https addresses only"),
        (("demo", "--json"), "--json belongs to --play."),
        (("demo", "--play", "nothing"), "'nothing' is not one of 'tentacle', 'failure'"),
        (("demo", "--hosts", "0"), "0 is not in the range"),
        (("demo", "--port", "x"), "'x' is not a valid integer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistyped_command_is_refused_with_the_way_to_its_help(arguments, words):
    """Usage errors say what is wrong and where help is."""
    done = octocert(*arguments)
    assert words in " ".join(refused(done)).replace('"', "'")
    assert "for help." in done.stderr
