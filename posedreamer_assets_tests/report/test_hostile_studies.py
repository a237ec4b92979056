"""Names of recipes, families and images that are HTML, in the sections on students and scenes: shown as text."""

import io
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posedreamer_assets.report.html import Panels, Section, write_report
from posedreamer_assets.report.scenes import _panel
from posedreamer_assets.report.students import section_of

EVIL = "<script>alert('name')</script>"


def page_of(section: Section, tmp_path: Path) -> str:
    return write_report(tmp_path / "report.html", {"title": EVIL, "headline": []}, [section]).read_text()


def figures() -> dict[str, Any]:
    """A study whose recipe, test set, family, contrast and metric have this name."""
    cell = {"mean": 90.0, "ci95": (80.0, 100.0)}
    cells = {"pve_mm": cell, "pa_mpjpe_mm": cell}
    rate = {"value": 1.0, "low": 0.5, "high": 2.0, "least": 0.1, "most": 9.0, "drawn_on": False}
    result = {
        "mean": 1.0,
        "low": -1.0,
        "high": 3.0,
        "detectable": 2.0,
        "told": False,
        "corrected": False,
        "words": EVIL,
        "metric": f"{EVIL}_mm",
    }
    contrast = {"name": EVIL, "test": EVIL, "metric": f"{EVIL}_mm", "sets": {EVIL: result}}
    return {
        "exchange": {EVIL: {EVIL: rate}},
        "primary": [contrast],
        "exploratory": [],
        "test_sets": {EVIL: 3},
        "recipes": {EVIL: {"images": 5, "paper": EVIL}},
        "cells": {name: {EVIL: cells} for name in (EVIL, "constant", "floor")},
        "families": {EVIL: {EVIL: 90.0}},
        "seeds": 1,
        "draws": 1,
        "samples_seen": 5,
        "init": EVIL,
    }


def test_names_of_a_study_are_text(tmp_path: Path) -> None:
    page = page_of(section_of(figures(), pocket=True), tmp_path)
    assert "<script" not in page
    assert page.count(escape(EVIL, quote=False).replace("'", "&#39;")) > 8


def test_names_of_scenes_are_text(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(stream, "PNG")
    instances = stream.getvalue()
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(stream, "PNG")
    row = {"sample_id": EVIL, "image": stream.getvalue(), "instances": instances}
    person = {
        "mpii_2d": np.zeros((16, 2)),
        "mpii_labelled": [True] * 16,
        "mpii_visible": [True] * 16,
        "person": 0,
        "origin": EVIL,
        "visible_ratio": 1.0,
    }
    page = page_of(Section(EVIL, [Panels([_panel(row, [person], {})], EVIL, EVIL)], EVIL), tmp_path)
    assert "<script" not in page
    assert escape(EVIL, quote=False).replace("'", "&#39;") in page
