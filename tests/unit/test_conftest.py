"""Where everything is said to be there, no test is skipped silently."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPING = """
import pytest

def test_skips():
    pytest.skip("Chromium is missing")

@pytest.mark.skipif(True, reason="pg_ctl is missing")
def test_is_marked():
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_fails_as_expected():
    assert False

def test_has_no_proxy():
    import os
    assert not [name for name in os.environ if name.lower().endswith("_proxy")]
"""
MISSING = 'import pytest\npytest.importorskip("no_such_module")\n'


@pytest.mark.parametrize(
    ("required", "closing"),
    [("", "1 passed, 3 skipped, 1 xfailed"), ("1", "1 failed, 1 passed, 1 xfailed, 2 errors")],
    ids=["usual", "all-required"],
)
@pytest.mark.parametrize("workers", ["0", "1"], ids=["one-process", "xdist"])
def test_a_skip_is_a_failure_where_all_is_required(tmp_path, required, closing, workers):
    """Skips by call, by mark and of a whole module fail, with their reason; expected failures stay expected."""
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    (tmp_path / "test_missing.py").write_text(MISSING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", workers, "-p", "no:cacheprovider", "--continue-on-collection-errors"],
        cwd=tmp_path,
        env={
            **os.environ,
            "OCTOCERT_REQUIRE_ALL": required,
            "HTTP_PROXY": "x",
            "https_proxy": "x",
            "PYTEST_ADDOPTS": "",
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert closing in done.stdout.splitlines()[-1], done.stdout
    assert done.returncode == (1 if required else 0)
    for reason in ("Chromium is missing", "pg_ctl is missing", "could not import 'no_such_module'"):
        assert (f"allows no skips, but: Skipped: {reason}" in done.stdout) is bool(required)
