"""A secret shows itself only to `reveal`, and a reference is read where it is used."""

import copy
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from bot.domain.errors import SettingsError
from bot.runs.recorded import StrictJson
from bot.secrets import Secret, SecretReference

CANARY = "canary-8f3a1b2c"


@pytest.mark.parametrize("show", [str, repr, "{}".format, "%s".__mod__, "{:>40}".format, ascii], ids=range(6))
def test_no_way_of_printing_shows_a_secret(show):
    """However a secret is printed, its value does not appear."""
    assert CANARY not in show(Secret(CANARY))


def test_a_secret_inside_other_values_stays_hidden():
    """A dataclass, a list or an exception that holds a secret does not show it either."""

    @dataclass
    class Login:
        password: Secret

    assert CANARY not in repr([Login(Secret(CANARY))])
    assert CANARY not in str(ValueError("no", Secret(CANARY)))


@pytest.mark.parametrize(
    "take", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps], ids=["pickle", "copy", "deepcopy", "json"]
)
def test_a_secret_is_never_copied_to_where_it_could_be_kept(take):
    """Pickling, copying and JSON are refused."""
    with pytest.raises(TypeError):
        take(Secret(CANARY))


def test_reveal_returns_the_value_and_an_empty_secret_is_false():
    """The value is there for whoever asks by name."""
    assert Secret(CANARY).reveal() == CANARY
    assert Secret(CANARY)
    assert not Secret("")


def test_a_reference_to_the_environment_is_read_anew_at_each_use(monkeypatch):
    """A secret that was changed is seen without a restart."""
    reference = SecretReference("env:OCTOCERT_TEST_SECRET")
    monkeypatch.setenv("OCTOCERT_TEST_SECRET", "one")
    assert reference.read().reveal() == "one"
    monkeypatch.setenv("OCTOCERT_TEST_SECRET", "two")
    assert reference.read().reveal() == "two"


@pytest.mark.parametrize("value", [None, ""], ids=["missing", "empty"])
def test_a_missing_variable_is_one_sentence_that_names_it(monkeypatch, value):
    """Missing and empty variables are told by name."""
    if value is None:
        monkeypatch.delenv("OCTOCERT_TEST_SECRET", raising=False)
    else:
        monkeypatch.setenv("OCTOCERT_TEST_SECRET", value)
    with pytest.raises(SettingsError, match="environment variable OCTOCERT_TEST_SECRET is not set"):
        SecretReference("env:OCTOCERT_TEST_SECRET").read()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"], ids=["bare", "unix", "windows"])
def test_a_file_is_read_without_the_newline_at_its_end(tmp_path: Path, ending):
    """Editors end a file with a newline that is no part of the secret; spaces are."""
    file = tmp_path / "secret"
    file.write_bytes(f" {CANARY} {ending}".encode())
    file.chmod(0o600)
    assert SecretReference(f"file:{file}").read().reveal() == f" {CANARY} "


def test_a_file_that_everybody_can_read_is_refused_with_its_mend(tmp_path: Path):
    """The sentence says which command helps, and does not show the secret."""
    file = tmp_path / "secret"
    file.write_text(CANARY)
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600") as caught:
        SecretReference(f"file:{file}").read()
    assert CANARY not in str(caught.value)


def test_a_missing_file_is_one_sentence_that_names_it(tmp_path: Path):
    """A path that leads nowhere is told, without a traceback of causes."""
    with pytest.raises(SettingsError, match="no-such-file") as caught:
        SecretReference(f"file:{tmp_path / 'no-such-file'}").read()
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("text", [CANARY, "env:", "file:", "vault", "", f"http:{CANARY}", f"ENV:{CANARY}"])
def test_what_is_no_reference_is_refused_and_not_repeated(text):
    """A secret typed where a reference belongs does not end up in the error."""
    with pytest.raises(SettingsError, match="not a reference") as caught:
        SecretReference(text)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "word"), [(0o644, "read by everybody"), (0o602, "by everybody"), (0o620, "its group")]
)
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int, word: str) -> None:
    """Whoever can change a secret can exchange the one who is trusted by it."""
    file = tmp_path / "secret"
    file.write_text(CANARY)
    file.chmod(mode)
    with pytest.raises(SettingsError, match=word):
        SecretReference(f"file:{file}").read()


def test_a_secret_in_a_log_line_stays_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    """As a value of structlog's, and as its text once the reference was read."""
    structlog.get_logger("octocert").warning("here", token=Secret(CANARY), found=[Secret(CANARY)])
    assert CANARY not in "".join(capsys.readouterr())


def test_a_secret_is_never_journaled() -> None:
    """The durable engine stores plain JSON and nothing else."""
    with pytest.raises(TypeError):
        StrictJson().serialize({"password": Secret(CANARY)})
