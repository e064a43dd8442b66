"""A town for scenarios: the sandbox, the real bot, and people who talk to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.town import Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Return a dozen Tentacles with a bot that waits seconds where a real one waits minutes."""
    with Town(tmp_path) as built:
        yield built
