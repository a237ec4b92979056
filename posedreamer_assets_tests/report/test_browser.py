"""The pages in a real browser, where one is installed: they load, and nothing is written to the console."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from posedreamer_assets.report.gallery import GallerySample, write_gallery
from posedreamer_assets_tests.report.test_pages import full_gallery, full_report, picture

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def load(page: Path, width: int, fragment: str = "") -> tuple[str, str]:
    """The page's DOM after its scripts have run, and what the browser logged."""
    assert BROWSER is not None
    address = page.as_uri() + (f"#{fragment}" if fragment else "")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=2000"]
    flags.append("--allow-file-access-from-files")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    done = subprocess.run(
        [BROWSER, *flags, profile, f"--window-size={width},900", "--dump-dom", address],
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


@pytest.mark.parametrize("write", [full_report, full_gallery])
def test_a_page_is_no_wider_than_a_phone(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Headless Chromium has no window so narrow: the page stands in a frame of that width."""
    write(tmp_path / "page.html")
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<iframe src='page.html' style='width: 360px; height: 900px; border: 0' onload='document.title = "
        "this.contentDocument.documentElement.scrollWidth'></iframe>"
    )
    found = re.search(r"<title>(\d+)</title>", load(frame, 800)[0])
    assert found is not None and int(found[1]) <= 360


SAMPLES = [
    GallerySample("a-0000/000000", {"image": picture(0)}, {"oks": 0.9, "predicted_oks": 0.8}, "kept", "kept"),
    GallerySample("a-0000/000001", {"image": picture(1)}, {"oks": 0.2, "predicted_oks": 0.7}, "rejected", "low_oks"),
    GallerySample("a-0000/000002", {"image": picture(2)}, {"oks": 0.7, "predicted_oks": 0.3}, "rejected", "crowded"),
    GallerySample("a-0000/000003", {"image": picture(3)}, {"predicted_oks": 0.9}, "rejected", "low_oks"),
]


def shown(dom: str) -> list[int]:
    """Numbers of the samples on the page, in order."""
    body = dom[dom.index("<main>") : dom.index("<script>")]
    return [int(number) for number in re.findall(r"<h2>a-0000/0*(\d+)</h2>", body)]


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("", [0, 1, 2, 3]),
        ("sort=hardest", [2, 1, 0, 3]),
        ("sort=oks:down", [0, 2, 1, 3]),
        ("view=sheet&sort=oks:up", [1, 2, 0, 3]),
        ("label=low_oks", [1, 3]),
        ("least=0.5", [0, 2]),
        ("most=0.5&label=low_oks", [1]),
        ("view=sides", [0, 1, 3, 2]),
        ("view=sides&sort=hardest&least=0.1", [0, 1, 2]),
    ],
)
def test_the_gallery_shows_what_its_address_asks_for(fragment: str, expected: list[int], tmp_path: Path) -> None:
    page = write_gallery(tmp_path / "page.html", SAMPLES)
    dom, logged = load(page, 390, fragment)
    assert shown(dom) == expected
    assert f">{len(expected)} of 4<" in dom
    assert not re.findall(r"CONSOLE.*", logged)


def test_data_docs_are_no_wider_than_a_phone(tmp_path: Path) -> None:
    from posedreamer_assets.checks import CheckOutcome
    from posedreamer_assets.runtime.home import Home
    from posedreamer_assets.runtime.outcomes import record
    from posedreamer_assets.runtime.site import write_all

    home, found = Home(tmp_path), "a-0000/000001, " * 12
    outcomes = [CheckOutcome("a_name_as_long_as_they_are", False, "warn", found, found, ("a-0000/000001",) * 9, 9, 9)]
    store = home.store()
    for name in ("hard_difficulty_model", "control_checkpoint"):
        record(store, name, None, "content", outcomes)
    write_all(home, store)
    frame = tmp_path / "frame.html"
    pages = ("index.html", "hard_difficulty_model/index.html", "hard_difficulty_model/all.html")
    for page in pages:
        frame.write_text(
            f"<iframe src='checks/{page}' style='width: 360px; height: 900px; border: 0' onload='document.title = "
            "this.contentDocument.documentElement.scrollWidth'></iframe>"
        )
        dom, logged = load(frame, 800)
        width = re.search(r"<title>(\d+)</title>", dom)
        assert width is not None and int(width[1]) <= 360, page
        assert not re.findall(r"CONSOLE.*", logged)
