"""What the tests of pages share: does everything fit, and pictures for people."""

import os
from pathlib import Path
from typing import Any


def fits(page: Any) -> None:
    """Assert that nothing stands out of the page, a dialog or a table sideways."""
    too_wide = page.evaluate(
        """() => [document.documentElement]
            .concat([...document.querySelectorAll("dialog[open], .dialog-body, .home, .table-frame")])
            .filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.className || box.tagName)"""
    )
    assert too_wide == []


def picture(page: Any, name: str) -> None:
    """Keep a screenshot where OCTOCERT_PICTURES names a folder: for people to look at, and for the README."""
    folder = os.environ.get("OCTOCERT_PICTURES")
    if folder:
        page.wait_for_timeout(600)  # messages fade in
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
