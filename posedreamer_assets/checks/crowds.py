"""Tests of scenes with many people, and of people over photographs: each recomputes something from other columns."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.checks.labels import usable_rows
from posedreamer_assets.checks.model import Around, DataCheck, Measured, Verdicts
from posedreamer_assets.checks.rows import UNREADABLE, Picture, Rows
from posedreamer_assets.tables.fields import BODY_COLUMNS
from posedreamer_assets.tables.images import decode_rgb
from posedreamer_assets.tables.rows import bodies

_BATCHES, _LEVEL = 8, 1e-4


def by_image(names: Iterable[str]) -> dict[str, list[int]]:
    """Numbers of the rows of each image."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        found[name].append(row)
    return found


def bodies_apart(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """No vertex of a dressed body lies inside another one of the same image."""
    from posedreamer_assets.render.appearance import appearance_from_json
    from posedreamer_assets.scenes.apart import touching
    from posedreamer_assets.scenes.people import dressed

    verdicts: Verdicts = [None] * len(rows)
    usable = set(usable_rows(rows, BODY_COLUMNS).tolist())
    for numbers in by_image(rows.values("image_id")).values():
        own = [i for i in numbers if i in usable]
        some = rows.table.take(own)
        looks = [appearance_from_json(text) for text in some.column("appearance").to_pylist()]
        solids = dressed(around.body(), bodies(some), looks, some.column("seed").to_pylist())
        for i in own:
            verdicts[i] = True
        for a in range(len(own)):
            for b in range(a):
                if touching(solids[a], solids[b], np.zeros(3)):
                    verdicts[own[a]] = verdicts[own[b]] = False
    return verdicts


def feet_on_ground(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The lowest point of a body lies within `tolerance_m` of the ground, or above it in families that leave the ground."""
    from posedreamer_assets.scenes.people import AIRBORNE

    tolerance = check.args.get("tolerance_m", 0.01)
    verdicts: Verdicts = [None] * len(rows)
    for i in usable_rows(rows, BODY_COLUMNS).tolist():
        one = rows.table.slice(i, 1)
        low = float(around.body().forward(bodies(one)).vertices[..., 1].min())
        flies = one.column("family")[0].as_py() in AIRBORNE
        verdicts[i] = abs(low) <= tolerance or (flies and low > 0)
    return verdicts


def same_within_image(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Rows of an image agree in `columns`."""
    columns = [rows.values(name) for name in check.args["columns"]]
    verdicts: Verdicts = [True] * len(rows)
    for numbers in by_image(rows.values("image_id")).values():
        alike = all(values[i] == values[numbers[0]] for values in columns for i in numbers)
        for i in numbers:
            verdicts[i] = alike
    return verdicts


def people_counted(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """`people_placed` is the number of the image's rows, and at most `people_drawn`."""
    placed, drawn = rows.values("people_placed"), rows.values("people_drawn")
    verdicts: Verdicts = [None] * len(rows)
    for numbers in by_image(rows.values("image_id")).values():
        for i in numbers:
            verdicts[i] = placed[i] == len(numbers) and placed[i] <= (drawn[i] or 0)
    return verdicts


def poisson_counts(rows: Rows, check: DataCheck, around: Around) -> Measured:
    """`people_drawn` is Poisson's with the profile's mean (0 counts as 1), over this batch and up to `batches` before it.

    The mean and, where there are images enough, the whole distribution are tested.
    """
    from scipy.stats import chi2, norm, poisson

    profile = around.profile()
    if profile is None or not len(rows):
        return Measured(0.0, 0.0, "not judged: the settings of these rows are not known")
    columns = ["image_id", "people_drawn", "photo_id"]
    tables = [rows.table.select(columns), *around.before(columns, check.args.get("batches", _BATCHES), 1 << 62)]
    counts = np.array([one["people_drawn"] for table in tables for one in _first_of_images(table)])
    mean = profile.crowds.people_mean if rows.values("photo_id")[0] is None else profile.mixed.people_mean
    edges = _bins(mean, len(counts))
    share = np.diff(np.concatenate([[0.0], poisson.cdf(edges, mean), [1.0]]))
    found = np.histogram(counts, [-np.inf, *(edges + 0.5), np.inf])[0]
    statistic = float((((found - len(counts) * share) ** 2) / (len(counts) * share)).sum())
    of_mean = 2 * norm.sf(abs(counts.mean() - mean - np.exp(-mean)) / np.sqrt(mean / len(counts)))
    p = float(min(1.0, 2 * min(chi2.sf(statistic, max(len(share) - 1, 1)), of_mean)))
    text = f"mean {counts.mean():.2f} of {len(counts)} images, expected {mean:g}; p = {p:.2g}"
    return Measured(max(check.args.get("level", _LEVEL) - p, 0.0), 0.0, text)


def _bins(mean: float, count: int) -> np.ndarray:
    """Upper edges of bins that about five images or more are expected in; none where there are too few for two bins."""
    from scipy.stats import poisson

    bins = int(np.clip(count // 8, 1, 8))
    # A count of 0 becomes 1, so both lie in the first bin.
    return np.unique(np.maximum(poisson.ppf(np.arange(1, bins) / bins, mean), 1.0))


def pitch_uniform(rows: Rows, check: DataCheck, around: Around) -> Measured:
    """Cameras of scenes without a photograph look down by angles uniform in the profile's range (Kolmogorov-Smirnov)."""
    from scipy.stats import kstest

    profile = around.profile()
    if profile is None or not len(rows) or rows.values("photo_id")[0] is not None:
        return Measured(0.0, 0.0, "not judged: settings not known, or cameras of photographs")
    columns = ["image_id", "cam_pitch_deg"]
    tables = [rows.table.select(columns), *around.before(columns, check.args.get("batches", _BATCHES), 1 << 62)]
    pitch = np.array([one["cam_pitch_deg"] for table in tables for one in _first_of_images(table)])
    low, high = profile.crowds.pitch_min_deg, profile.crowds.pitch_max_deg
    p = float(kstest(pitch, "uniform", (low, max(high - low, 1e-9))).pvalue)
    text = f"mean {pitch.mean():.1f} deg of {len(pitch)} images, range {low:g} to {high:g}; p = {p:.2g}"
    return Measured(max(check.args.get("level", _LEVEL) - p, 0.0), 0.0, text)


def _first_of_images(table: pa.Table) -> list[dict[str, Any]]:
    plain = table.to_pylist()
    return [plain[numbers[0]] for numbers in by_image(one["image_id"] for one in plain).values()]


def background_verdict_follows(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """`reason` is what size, people and the profile's least size say, and people were counted where the size allows it."""
    from posedreamer_assets.scenes.background_files import HAS_PEOPLE, KEPT, reason_of

    profile = around.profile()
    if profile is None:
        return [None] * len(rows)
    least, verdicts = profile.crowds.min_background_px, []
    for width, height, people, reason in zip(
        *(rows.values(name) for name in ("width", "height", "people", "reason")), strict=True
    ):
        size = None if width is None or height is None else (width, height)
        counted = people is not None
        verdicts.append(reason == reason_of(size, people, least) and counted == (reason in (KEPT, HAS_PEOPLE)))
    return verdicts


def instances_list_people(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """`persons` are those of the image's layout, and the map of people shows no other; an image that no layout has fails."""
    (table,) = check.args["to"]
    layout = around.rows(table, ["sample_id", "image_id", "person"])
    persons = layout.column("person").to_pylist()
    placed = {
        name: sorted(persons[i] for i in own) for name, own in by_image(layout.column("image_id").to_pylist()).items()
    }
    found = zip(rows.ids, rows.values("persons"), rows.values("amodal_pixels"), rows.pictures("instances"), strict=True)
    return [
        None if own is None or picture is None
        else own == placed.get(image) and len(amodal or ()) == len(own) and _only(picture, own)
        for image, own, amodal, picture in found
    ]  # fmt: skip


def _only(picture: Picture, persons: list[int]) -> bool:
    return {int(v) for v in np.unique(picture.pixels)} <= {0, *(person + 1 for person in persons)}


def crowd_maps_agree(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Instances, parts and depth show people at the same pixels."""
    maps = zip(*(rows.pictures(name) for name in ("instances", "parts", "depth")), strict=True)
    verdicts: Verdicts = []
    for one in maps:
        shown = [picture.pixels > 0 for picture in one if picture is not None]
        whole = len(shown) == 3 and len({inside.shape for inside in shown}) == 1
        verdicts.append(all(np.array_equal(shown[0], other) for other in shown) if whole else None)
    return verdicts


def untouched_outside_mask(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Pixels of a mixture that show no synthetic person are those of its photograph in `to`."""
    (table,) = check.args["to"]
    found = zip(rows.values("photo_id"), rows.pictures("image"), rows.pictures("instances"), strict=True)
    if not any(rows.values("photo_id")):
        return [None] * len(rows)
    photos = around.rows(table, ["sample_id", "image"])
    files = dict(zip(photos.column("sample_id").to_pylist(), photos.column("image").to_pylist(), strict=True))
    return [
        None
        if photo not in files or image is None or mask is None
        else _same_outside(image.pixels, _photo(files[photo]), mask.pixels)
        for photo, image, mask in found
    ]


def changed_only_in_mask(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Pixels outside of the synthetic people of `to` are as they were there; all of them where nothing was stylised."""
    (table,) = check.args["to"]
    before = rows.matched(around.rows(table, ["sample_id", "image", "instances"]))
    found = zip(
        rows.pictures("image"),
        before.pictures("image"),
        before.pictures("instances"),
        rows.values("status"),
        strict=True,
    )
    verdicts: Verdicts = []
    for image, was, mask, status in found:
        if image is None or was is None or mask is None:
            verdicts.append(None)
            continue
        people = mask.pixels if status == "stylised" else np.zeros_like(mask.pixels)
        verdicts.append(_same_outside(image.pixels, was.pixels, people))
    return verdicts


def _photo(blob: bytes) -> np.ndarray | None:
    """The pixels of a photograph as mixtures are made of them; None where not all can be read."""
    try:
        return decode_rgb(blob)
    except UNREADABLE:
        return None


def _same_outside(image: np.ndarray, was: np.ndarray | None, people: np.ndarray) -> bool | None:
    """Whether two pictures (h, w, 3) are the same where a map (h, w) shows nobody; None where one cannot be read."""
    if was is None:
        return None
    if was.shape != image.shape or people.shape != was.shape[:2]:
        return False
    outside = people == 0
    return np.array_equal(image[outside], was[outside])


def visibility_follows_instances(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """What is marked visible of synthetic people, and who hides the rest, follow from the maps in `to`."""
    from posedreamer_assets.scenes.points import mpii_parts
    from posedreamer_assets.scenes.visibility import joints_seen

    maps = _maps(rows, check, around, ("instances", "parts"))
    beside = mpii_parts(around.body())
    joints, heads = rows.numbers("mpii_2d", 2), rows.numbers("head_size_px")
    visible, hidden = rows.numbers("mpii_visible") == 1, rows.numbers("occluded_by")
    verdicts: Verdicts = []
    for i, (origin, person, image) in enumerate(
        zip(rows.values("origin"), rows.values("person"), rows.values("image_id"), strict=True)
    ):
        pictures = maps.get(image)
        if origin != "synthetic" or pictures is None:
            verdicts.append(None)
            continue
        seen, hidden_by = joints_seen(joints[i], beside, person + 1, heads[i], pictures[0].pixels, pictures[1].pixels)
        verdicts.append(bool(np.array_equal(seen, visible[i]) and np.array_equal(hidden_by, hidden[i])))
    return verdicts


def boxes_follow_instances(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Of synthetic people, `bbox` encloses the pixels in `to` tightly, and `pixels_visible` counts them: at most the amodal."""
    from posedreamer_assets.render.control import silhouette_box

    maps = _maps(rows, check, around, ("instances",))
    boxes, counts, amodal = rows.numbers("bbox"), rows.numbers("pixels_visible"), rows.numbers("pixels_amodal")
    verdicts: Verdicts = []
    for i, (origin, person, image) in enumerate(
        zip(rows.values("origin"), rows.values("person"), rows.values("image_id"), strict=True)
    ):
        if origin != "synthetic" or image not in maps:
            verdicts.append(None)
            continue
        own = maps[image][0].pixels == person + 1
        tight = np.array_equal(boxes[i], silhouette_box(own))
        verdicts.append(bool(tight and counts[i] == own.sum() <= amodal[i]))
    return verdicts


def _maps(rows: Rows, check: DataCheck, around: Around, names: tuple[str, ...]) -> dict[str, list[Picture]]:
    """By image, its maps in `to` where all of them can be read."""
    (table,) = check.args["to"]
    images = Rows(around.rows(table, ["sample_id", *names]))
    found = zip(images.ids, *(images.pictures(name) for name in names), strict=True)
    return {one[0]: list(one[1:]) for one in found if all(picture is not None for picture in one[1:])}


def min_distance_agrees(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """`min_distance_px` is the distance of a person's centre to the nearest other one, null for somebody alone."""
    from posedreamer_assets.scenes.visibility import centre_of

    tolerance = check.args.get("tolerance_px", 0.01)
    joints, known, stored = (
        rows.numbers("mpii_2d", 2),
        rows.numbers("mpii_labelled") == 1,
        rows.numbers("min_distance_px"),
    )
    verdicts: Verdicts = [None] * len(rows)
    for numbers in by_image(rows.values("image_id")).values():
        centres = np.array([centre_of(joints[i], known[i]) for i in numbers])
        for k, i in enumerate(numbers):
            apart = np.hypot(*(np.delete(centres, k, axis=0) - centres[k]).T)
            apart = apart[np.isfinite(apart)]
            alone = bool(np.isnan(stored[i]))
            verdicts[i] = bool(abs(stored[i] - apart.min()) <= tolerance) if len(apart) else alone
    return verdicts


_OF_PHOTO = ("mpii_2d", "mpii_labelled", "keypoints_2d", "head_size_px", "bbox")
_VISIBLE = {"mpii_visible": "mpii_2d", "keypoints_visible": "keypoints_2d"}  # and the points that it is about


def labels_of_photo(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """People of photographs have the labels of `to` bit for bit; visible is what was visible and is not covered now."""
    from posedreamer_assets.scenes.mix import under

    people, images = check.args["to"]
    if not any(rows.values("photo_person")):
        return [None] * len(rows)
    found = around.rows(people, ["sample_id", *_OF_PHOTO, *_VISIBLE])
    place = {name: i for i, name in enumerate(found.column("sample_id").to_pylist())}
    stored, wanted = ({name: rows_.numbers(name) for name in (*_OF_PHOTO, *_VISIBLE)} for rows_ in (rows, Rows(found)))
    masks = Rows(around.rows(images, ["sample_id", "instances"]))
    instances = dict(zip(masks.ids, masks.pictures("instances"), strict=True))
    verdicts: Verdicts = []
    for i, (name, image) in enumerate(zip(rows.values("photo_person"), rows.values("image_id"), strict=True)):
        mask = instances.get(image)
        if name is None or name not in place or mask is None:
            verdicts.append(None if name is None else False)
            continue
        j = place[name]
        same = all(np.array_equal(stored[column][i], wanted[column][j], equal_nan=True) for column in _OF_PHOTO)
        for flag, points in _VISIBLE.items():
            covered = under(stored[points][i].reshape(-1, 2), mask.pixels) > 0
            same &= np.array_equal(stored[flag][i] == 1, (wanted[flag][j] == 1) & ~covered)
        verdicts.append(bool(same))
    return verdicts
