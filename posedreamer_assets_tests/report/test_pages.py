"""The report and the gallery: self-contained, escaped, well-formed."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from posedreamer_assets.errors import MetricsError
from posedreamer_assets.report import html, plots, sections
from posedreamer_assets.report.gallery import GallerySample, sortable_figures, write_gallery

EVIL = '<script>alert("x")</script> & "quoted" http-free'
VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects elements and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.problems: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"{tag} at {self.getpos()}")


def picture(seed: int, size: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def estimate(value: float) -> dict[str, Any]:
    return {"value": value, "low": value * 0.9, "high": value * 1.1, "standard_error": 0.1, "replicates": 9}


def by_network() -> dict[str, Any]:
    named = ("frechet", "kd", "cmmd", "precision", "recall", "density", "coverage")
    return {name: estimate(0.5) for name in named}


def quality() -> dict[str, Any]:
    named = ("fid_2048", "fid_64", "kid", "precision", "recall")
    score = "efficientnet_lite0_score"
    return {
        **{name: estimate(0.5) for name in (*named, score, f"{score}_reference")},
        "classifier_name": "efficientnet_lite0",
        "generated": 1200,
        "reference": 90,
        "kid_block_mean": 0.01,
        "kid_block_std": 0.002,
        "kid_blocks": 100,
        "kid_block_size": 90,
        "fid_2048_halves": 12.0,
        "fid_64_halves": None,
        "notes": [EVIL],
    }


def full_report(path: Path) -> str:
    rng = np.random.default_rng(0)
    rows = [
        html.PanelRow({EVIL: picture(i), "generated": picture(i + 9)}, EVIL, {EVIL: EVIL}, "good") for i in range(2)
    ]
    before, after = rng.uniform(0, 1, 30), rng.uniform(0.2, 1, 30)
    reasons = ["kept"] * 20 + ["low_oks"] * 9 + [EVIL]
    report = [
        sections.samples_section(rows),
        sections.alignment_section(
            before, after, {EVIL: ([0, 1, 2], [0.7, 0.6, 0.5])}, pairs={EVIL: 3}, same_seed=rows, judge=EVIL
        ),
        sections.curation_section(reasons, before, min_oks=0.8, examples={"kept": rows, EVIL: rows}),
        sections.difficulty_section(
            {
                EVIL: sections.Difficulty(before, after, {"R²": EVIL}, rows),
                "hard2": sections.Difficulty(before, after, {}),
            },
            {"base": before, EVIL: after},
        ),
        sections.quality_section(
            {EVIL: {**quality(), "by_network": {EVIL: by_network()}}},
            {EVIL: {EVIL: rng.normal(size=(9, 2)), "reference": rng.normal(size=(5, 2))}},
        ),
        sections.coverage_section(
            [
                plots.distributions(EVIL, {EVIL: before, "hard": after}, label=EVIL),
                plots.kept_bars(EVIL, {EVIL: 5, "other": 0}, {EVIL: 2}),
            ]
        ),
        html.Section(
            EVIL, [html.Picture(picture(1), EVIL, EVIL), html.Note(EVIL, "warn"), html.Table((EVIL,), [[EVIL]])], EVIL
        ),
    ]
    summary = {
        "title": EVIL,
        "subtitle": EVIL,
        "headline": [{"label": EVIL, "value": EVIL, "note": EVIL}, {"label": "FID", "value": 12.34567}],
        "stages": [{"name": EVIL, "seconds": 95.0, "items": 10, "note": EVIL}, {"name": "b/c_d", "seconds": 0.2}],
        "notes": [EVIL],
        "setup": {EVIL: EVIL, "seed": 1234567},
    }
    html.write_report(path, summary, report)
    return path.read_text(encoding="utf-8")


def full_gallery(path: Path) -> str:
    samples = [
        GallerySample("a-0001/000000", {EVIL: picture(0)}, {EVIL: EVIL, "oks": 0.9}, "kept", "kept"),
        GallerySample(EVIL, {"image": picture(1)}, {"oks": float("nan")}, "rejected", 'low"oks'),
        GallerySample("a-0001/000002", {"image": picture(2)}, {"oks": 0.2, "seed": 1234567}),
    ]
    write_gallery(path, samples, title=EVIL, subtitle=EVIL)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=[full_report, full_gallery])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return request.param(tmp_path_factory.mktemp("page") / "page.html")


def test_page_refers_to_nothing_outside_itself(page: str) -> None:
    assert not re.search(r"https?://|//[a-z]+\.", re.sub(r"base64,[^\"]*", "", page))
    for tag, attributes in Page(page).elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "data", "action", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), (tag, name, value[:60])
    assert not re.search(r"@import|url\((?!#)", re.sub(r"base64,[^\"]*", "", page))


def test_page_forbids_requests_by_policy(page: str) -> None:
    policies = [a["content"] for tag, a in Page(page).elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert (policies[0] or "").startswith("default-src 'none'; img-src data:;")


def test_text_is_escaped_everywhere(page: str) -> None:
    assert "alert(&#34;x&#34;)" in page
    assert not re.search(r"<script>alert|<script>\s*alert", page)
    scripts = [tag for tag, _ in Page(page).elements if tag == "script"]
    assert len(scripts) <= 1  # the gallery's own


def test_tags_close_in_order_and_suit_a_phone(page: str) -> None:
    parsed = Page(page)
    assert parsed.problems == []
    assert parsed.open == []
    viewports = [a["content"] for tag, a in parsed.elements if tag == "meta" and a.get("name") == "viewport"]
    assert viewports == ["width=device-width, initial-scale=1"]
    assert "prefers-color-scheme: dark" in page


def test_every_image_has_words_and_a_size(page: str) -> None:
    images = [attributes for tag, attributes in Page(page).elements if tag == "img"]
    assert images
    assert all(image["alt"] is not None and int(image["width"] or 0) == 24 for image in images)


def test_links_of_the_report_lead_to_its_sections(tmp_path: Path) -> None:
    elements = Page(full_report(tmp_path / "r.html")).elements
    ids = {a["id"] for _, a in elements if "id" in a}
    targets = [a["href"] for tag, a in elements if tag == "a"]
    assert len(targets) >= 9
    assert {str(t)[1:] for t in targets} <= ids


def test_sections_with_equal_titles_keep_distinct_anchors(tmp_path: Path) -> None:
    twice = [html.Section("Same", [html.Note("first")]), html.Section("Same", [html.Note("second")])]
    html.write_report(tmp_path / "r.html", {"title": "t", "headline": []}, twice)
    ids = re.findall(r'<section id="([^"]+)"', (tmp_path / "r.html").read_text())
    assert len(ids) == len(set(ids)) == 3


def test_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    assert full_report(tmp_path / "a.html") == full_report(tmp_path / "b.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]  # no partial file is left


def test_unknown_summary_keys_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match=r"missing \['headline'\], unknown \['headlines'\]"):
        html.write_report(tmp_path / "r.html", {"title": "t", "headlines": []}, [])
    with pytest.raises(MetricsError, match="unknown keys"):
        html.write_report(tmp_path / "r.html", {"title": "t", "headline": [], "stages": [{"time": 1}]}, [])
    assert not (tmp_path / "r.html").exists()


def test_data_uri_holds_the_image_losslessly_when_it_is_flat() -> None:
    flat = np.zeros((32, 32, 3), np.uint8)
    flat[8:16] = (10, 200, 30)
    uri = html.data_uri(flat)
    assert uri.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))), flat)
    assert html.data_uri(picture(3, 96)).startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (12345, "12,345"),
        (0.123456, "0.1235"),
        (float("nan"), "–"),
        (np.float32(2), "2"),
        ("a", "a"),
    ],
)
def test_cells_are_shown_briefly(value: object, text: str) -> None:
    assert html.show(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.84, "0.8 s"), (42.4, "42 s"), (185, "3 min 05 s"), (7810, "2 h 10 min")]
)
def test_durations_are_shown_in_their_own_unit(value: float, text: str) -> None:
    assert html.show_seconds(value) == text


def test_what_an_item_took_is_a_duration_that_people_read(tmp_path: Path) -> None:
    stages = [{"name": "long", "seconds": 1010.9, "items": 1}, {"name": "short", "seconds": 0.9, "items": 60}]
    html.write_report(tmp_path / "r.html", {"title": "t", "headline": [], "stages": stages}, [])
    cells = re.findall(r'<td class="n wide">([^<]*)</td></tr>', (tmp_path / "r.html").read_text())
    assert cells == ["16 min 51 s", "0.015 s"]


def test_plots_take_all_their_colours_from_the_page() -> None:
    drawn = [
        plots.oks_histogram({"a": np.array([0.2, 0.9])}, threshold=0.8),
        plots.reason_bars({"kept": 3, "low_oks": 1}),
        plots.loss_curves({"train": (list(range(80)), [0.7] * 80)}, reference=0.69),
        plots.difficulty_scatter(np.array([0.1, 0.5]), np.array([0.2, 0.4])),
        plots.counts_bars("families", {"walk $x_1$": 3}),
    ]
    for plot in drawn:
        assert "var(--ink)" in plot.svg or "var(--muted)" in plot.svg
        assert not re.search(r"#01020\d", plot.svg)
        assert "xmlns" not in plot.svg
        assert not re.search(r"(fill|stroke): #(?!ffffff)", plot.svg)
    assert "walk $x_1$" in drawn[-1].svg


def test_a_scatter_of_many_points_stays_small() -> None:
    rng = np.random.default_rng(0)
    plot = plots.difficulty_scatter(rng.uniform(size=5000), rng.uniform(size=5000))
    assert len(plot.svg) < 200_000
    assert "data:image/png;base64" in plot.svg


def test_plots_of_nothing_are_errors() -> None:
    with pytest.raises(MetricsError, match="no verdicts"):
        plots.reason_bars({})
    with pytest.raises(MetricsError, match="no finite values"):
        plots.distributions("pitch", {"base": np.array([np.nan])}, label="degrees")


def test_gallery_groups_by_reason_and_sorts_by_numbers(tmp_path: Path) -> None:
    elements = Page(full_gallery(tmp_path / "g.html")).elements
    labels = [a["data-label"] for tag, a in elements if tag == "button"]
    assert labels == ["", "kept", 'low"oks', "unjudged"]
    keys = [a["data-keys"] for tag, a in elements if tag == "article"]
    assert keys == ["0.9||", "||", "0.2|1234567.0|"]


def test_sortable_figures_leave_out_words_and_yes_no() -> None:
    samples = [GallerySample("a", {}, {"oks": 0.1, "family": "yoga", "truncated": True, "people": np.int32(1)})]
    assert sortable_figures(samples) == ["oks", "people"]
