"""Memory: one process, a few areas of it."""

import platform

import pytest

from bot.operating import memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator has areas to limit")
def test_the_allocator_takes_the_limit() -> None:
    """It says so itself; what it is worth, the benchmark shows."""
    assert memory.tighten()
