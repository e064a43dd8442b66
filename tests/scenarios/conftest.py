"""A town for scenarios: the sandbox, the real bot, and people who talk to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.town import Town


@pytest.fixture(scope="module")
def quiet_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Return a town that the questions of a module share: they change nothing."""
    with Town(tmp_path_factory.mktemp("quiet")) as built:
        yield built


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Return a dozen Tentacles with a bot that waits seconds where a real one waits minutes."""
    with Town(tmp_path) as built:
        yield built
