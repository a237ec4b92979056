"""Test images for networks that are trained elsewhere, and their predictions scored as those of students are."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile, write_whole
from posedreamer_assets.errors import StudentError
from posedreamer_assets.export.samples import image_suffix
from posedreamer_assets.pipeline.student_study import study_keys
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.tables.fields import BODY, CAMERA, names_of
from posedreamer_assets.tables.keys import BENCH, BENCH_GENERATED
from posedreamer_assets.tables.rows import array, bodies, cameras, texts

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore

_LISTED = ("sample_id", "file", "test_set", "width", "height", "focal_px", "principal_x_px", "principal_y_px")
_SHOWN = ("pve_mm", "pve_area_mm", "pa_pve_mm", "mpjpe_mm", "pa_mpjpe_mm", "orient_deg", "body_angle_deg")


def export_test_images(store: "LanceStore", profile: Profile, folder: Path) -> int:
    """Write the test images and `images.csv` with their intrinsics, and no label; returns how many.

    Raises:
        StudentError: there are no up-to-date test images.
    """
    rows = _tests(store, profile, ("image", "test_set", *names_of(CAMERA)))
    centre = array(rows, "principal_px")
    lines = []
    for i, name in enumerate(texts(rows, "sample_id")):
        data = rows.column("image")[i].as_py()
        file = folder / "images" / f"{name.replace('/', '_')}.{image_suffix(name, data)}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        of_camera = [rows.column(column)[i].as_py() for column in ("width", "height", "focal_px")]
        test_set = rows.column("test_set")[i].as_py()
        lines.append([name, str(file.relative_to(folder)), test_set, *of_camera, *centre[i].tolist()])
    with (folder / "images.csv").open("w", newline="") as out:
        csv.writer(out).writerows([_LISTED, *lines])
    return rows.num_rows


def score_predictions(store: "LanceStore", profile: Profile, name: str, path: Path, out: Path) -> dict[str, Any]:
    """Score predictions under the profile's protocol and keep the figures in a file.

    Args:
        store: with the test images.
        profile: of the home.
        name: of the network.
        path: an npz, see `students/external.py`.
        out: the JSON file to write.

    Raises:
        StudentError: bad predictions, or ones that do not cover a test set that they touch.
    """
    from posedreamer_assets.body.model import load_body
    from posedreamer_assets.metrics.intervals import bootstrap_mean
    from posedreamer_assets.students.external import read_predictions
    from posedreamer_assets.students.metrics import Protocol
    from posedreamer_assets.students.scoring import score, truth_of

    ids, found = read_predictions(path)
    tests = _tests(store, profile, ("test_set", *names_of(BODY), *names_of(CAMERA)))
    place = {one: i for i, one in enumerate(texts(tests, "sample_id"))}
    unknown = [one for one in ids if one not in place]
    if unknown:
        raise StudentError(
            f"{path}: {len(unknown)} sample ids are no test images of this home, {unknown[0]!r} among them"
        )
    chosen = tests.take(pa.array([place[one] for one in ids]))
    sets = np.array(texts(chosen, "test_set"))
    for test_set in sorted(set(sets)):
        asked, given = texts(tests, "test_set").count(test_set), int((sets == test_set).sum())
        if asked != given:
            raise StudentError(
                f"{path}: {given} of the {asked} images of {test_set}; predict all of a set or none of it"
            )
    body = load_body(profile.body.model_path)
    scores = score(body, found, truth_of(Protocol(profile.students.pelvis), body, bodies(chosen), cameras(chosen)))
    figures: dict[str, Any] = {"name": name, "pelvis": profile.students.pelvis, "test_sets": {}}
    for test_set in sorted(set(sets)):
        own = {metric: bootstrap_mean(scores[metric][sets == test_set]).as_dict() for metric in _SHOWN}
        figures["test_sets"][test_set] = own
    write_whole(out, json.dumps(figures, indent=2, sort_keys=True) + "\n")
    return figures


def _tests(store: "LanceStore", profile: Profile, columns: tuple[str, ...]) -> pa.Table:
    snapshot = Snapshot(profile, store)
    keys = study_keys(profile)
    wanted = [*keys.get(BENCH, []), *keys.get(BENCH_GENERATED, [])]
    current = snapshot.current_keys("benchmark_images", (BENCH, BENCH_GENERATED))
    found = [key for key in wanted if key in current]
    if not found:
        raise StudentError("no test images are up to date; run `posedreamer run` with a study first")
    return store.read("benchmark_images", keys=found, columns=["sample_id", *columns])
