"""The pages in a real browser, where one is installed: they load, and nothing is written to the console."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from posedreamer_assets_tests.metrics.test_pages import full_gallery, full_report

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def load(page: Path, width: int) -> tuple[str, str]:
    """The page's DOM after its scripts have run, and what the browser logged."""
    assert BROWSER is not None
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=2000"]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    done = subprocess.run(
        [BROWSER, *flags, profile, f"--window-size={width},900", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HOME": str(page.parent)},
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("write", [full_report, full_gallery])
def test_a_page_loads_without_a_word_on_the_console(write, width: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page = tmp_path / "page.html"
    write(page)
    dom, logged = load(page, width)
    assert "</html>" in dom and "<img" in dom
    assert not re.findall(r"CONSOLE.*", logged)


def test_an_error_on_the_console_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html><body><img><script>throw new Error('planted')</script></body></html>")
    assert re.search(r"CONSOLE.*planted", load(page, 800)[1])
