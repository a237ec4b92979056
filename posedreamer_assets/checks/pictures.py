"""Tests of images by themselves, and of the maps of one sample against each other."""

from collections import Counter
from functools import lru_cache

import numpy as np
from scipy.ndimage import maximum_filter

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.checks.model import Around, DataCheck, Verdicts
from posedreamer_assets.checks.rows import Picture, Rows

_ROUNDING = 2  # levels: colours are rounded once when they are drawn and once when they are compared
_MOST, _FEWEST = 40, 4  # other samples that an outline is compared with
# How much better a turned outline must fit: of 960 scenes none was better by a tenth, of the same turned over all were.
_TURNED = 1.1
# Cloth and hair stand off the body, so edges that are this share of the image's larger side away from an outline count as
# edges along it.
_STANDS_OFF = 1 / 128
_MAPS = ("control", "depth", "normals", "parts", "silhouette")


def image_decodes(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Every pixel can be read, the mode is one of `modes`, and the size is the declared or the commonest one."""
    assert check.column is not None, "held by the kind's scope"
    found, modes = rows.pictures(check.column, check.args.get("pick")), check.args.get("modes")
    sizes = _declared_sizes(rows, check, found)

    def fits(picture: Picture | None, size: tuple[int, int] | None) -> bool:
        return picture is not None and picture.size == size and (not modes or picture.mode in modes)

    files = rows.files(check.column, check.args.get("pick"))
    return [None if f is None else fits(p, size) for p, size, f in zip(found, sizes, files, strict=True)]


def _declared_sizes(rows: Rows, check: DataCheck, found: list[Picture | None]) -> list[tuple[int, int] | None]:
    if check.args.get("sized"):
        return list(zip(rows.values("width"), rows.values("height"), strict=True))
    # Without declared sizes all images of a partition are expected to have the commonest one.
    common = Counter(picture.size for picture in found if picture is not None).most_common(1)
    return [common[0][0] if common else None] * len(found)


def same_size_in(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Images are as large as the row of another table with the same id declares."""
    assert check.column is not None, "held by the kind's scope"
    (table,) = check.args["to"]
    other = rows.matched(around.rows(table, ["sample_id", "width", "height"]))
    sizes = zip(other.values("width"), other.values("height"), strict=True)
    pictures = rows.pictures(check.column, check.args.get("pick"))
    return [None if p is None or s[0] is None else p.size == s for p, s in zip(pictures, sizes, strict=True)]


def shows_something(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The standard deviation of an image's grey levels, 0 to 255, is at least `min`."""
    assert check.column is not None, "held by the kind's scope"
    pictures = rows.pictures(check.column, check.args.get("pick"))
    return [None if p is None else bool(p.pixels.std() >= check.args["min"]) for p in pictures]


def maps_agree(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Control, depth, normals and parts have a body exactly where the silhouette has one."""
    return [_same_body(*maps) for maps in zip(*(rows.pictures(name) for name in _MAPS), strict=True)]


def _same_body(*pictures: Picture | None) -> bool | None:
    if any(p is None for p in pictures) or len({p.size for p in pictures if p}) > 1:
        return None  # image_decodes says so
    *others, silhouette = (p.pixels for p in pictures if p)
    inside = silhouette > 0
    return all(np.array_equal(inside, other.reshape(*inside.shape, -1).any(-1)) for other in others)


def outline_follows_silhouette(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """`bbox` encloses the silhouette tightly and `body_pixels` counts its pixels."""
    found = zip(rows.pictures("silhouette"), rows.numbers("bbox"), rows.numbers("body_pixels"), strict=True)
    return [None if p is None else _encloses(p.pixels > 0, box, count) for p, box, count in found]


def _encloses(inside: np.ndarray, box: np.ndarray, count: float) -> bool:
    y, x = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    tight = (x[0], y[0], x[-1] + 1 - x[0], y[-1] + 1 - y[0]) if len(y) else (0, 0, 0, 0)
    return bool(np.array_equal(box, tight) and count == inside.sum())


def colours_follow_parts(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """Every pixel of the control map has a colour that its body part has on the canonical body.

    Left and right halves of that body differ in red, so a mirrored or mixed-up control map does not pass.
    """
    if not len(rows):
        return []
    low, high = _colours_of_parts(around.body())
    allowed = 1 - check.args.get("mostly_pixels", 1.0)
    verdicts: Verdicts = []
    for control, parts in zip(rows.pictures("control"), rows.pictures("parts"), strict=True):
        if control is None or parts is None or control.size != parts.size or control.pixels.ndim != 3:
            verdicts.append(None)
            continue
        inside = parts.pixels > 0
        label, colour = np.minimum(parts.pixels[inside], 55), control.pixels[inside].astype(int)
        wrong = np.any((colour < low[label]) | (colour > high[label]), axis=-1)
        verdicts.append(bool(wrong.mean() <= allowed) if len(wrong) else None)
    return verdicts


@lru_cache(maxsize=2)
def _colours_of_parts(body: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest control colour of each label of the parts map: (56, 3) each; label 0 is the background.

    A pixel takes its label from one corner of a triangle and its colour from all three.
    """
    from posedreamer_assets.render.control import canonical_colours

    colours = np.round(canonical_colours(body) * 255)
    corners = colours[body.faces]  # (f, 3 corners, 3 channels)
    low, high = np.full((56, 3), 256.0), np.full((56, 3), -1.0)
    for corner in range(3):
        label = body.dominant_joint[body.faces[:, corner]] + 1
        np.minimum.at(low, label, corners.min(1))
        np.maximum.at(high, label, corners.max(1))
    return low - _ROUNDING, high + _ROUNDING


def outline_in_image(rows: Rows, check: DataCheck, around: Around) -> Verdicts:
    """The image has stronger edges along its own sample's outline than along those of other samples.

    The outline is the silhouette's in the other table. It is compared with the outlines of up to 40 other samples of
    the partition, of which the share `better` may fit the image better: an image of another sample passes about that
    often. It is also compared with its own outline upside down, mirrored and both, of which none may fit much better: other
    samples seldom show how an image was turned. A generator that does not keep to the control map fails as well.
    """
    assert check.column is not None, "held by the kind's scope"
    (table,), pick = check.args["to"], check.args.get("pick")
    shares = rows.once(
        ("outline", check.column, pick or "", table),
        lambda: _better_outlines(rows, rows.pictures(check.column or "", pick), table, around),
    )
    limit = check.args.get("better", 0.05)
    return [None if share is None else bool(share <= limit) for share in shares]


def _better_outlines(rows: Rows, pictures: list[Picture | None], table: str, around: Around) -> list[float | None]:
    """For each image the share of other samples' outlines that fit it better than its own; None without a judgement.

    It is 1 where its own outline fits much better when it is turned. All outlines are given the same room.
    """
    silhouettes = rows.matched(around.rows(table, ["sample_id", "silhouette"])).pictures("silhouette")
    outlines = [np.zeros(0, int) if s is None else _outline(s.pixels > 0) for s in silhouettes]
    sizes = Counter(s.size for s, outline in zip(silhouettes, outlines, strict=True) if s is not None and len(outline))
    common = sizes.most_common(1)[0][0] if sizes else (0, 0)
    usable = [bool(s is not None and s.size == common and len(o)) for s, o in zip(silhouettes, outlines, strict=True)]
    known = np.flatnonzero(usable)
    others = (
        known[np.unique(np.linspace(0, len(known) - 1, min(_MOST, len(known))).astype(int))] if len(known) else known
    )
    if len(others) <= _FEWEST:
        return [None] * len(rows)
    pixels = np.concatenate([outlines[i] for i in others])
    lengths = np.array([len(outlines[i]) for i in others])
    starts = np.cumsum(lengths) - lengths
    shares: list[float | None] = []
    for index, picture in enumerate(pictures):
        if picture is None or not usable[index] or picture.size != common:
            shares.append(None)
            continue
        edges = _edges_nearby(picture.pixels).ravel()
        fits = np.add.reduceat(edges[pixels], starts) / lengths
        own, silhouette = edges[outlines[index]].mean(), silhouettes[index]
        assert silhouette is not None, "only usable ones come here"
        turned = max(edges[_outline(other)].mean() for other in _turned(silhouette.pixels > 0))
        shares.append(1.0 if turned > _TURNED * own else float(np.mean(fits[others != index] > own)))
    return shares


def _turned(inside: np.ndarray) -> list[np.ndarray]:
    """The silhouette upside down, mirrored, and both."""
    return [inside[::-1], inside[:, ::-1], inside[::-1, ::-1]]


def _outline(inside: np.ndarray) -> np.ndarray:
    """Sorted flat indices of pixels whose left or upper neighbour is on the other side; the frame is no outline."""
    edge = np.zeros(inside.shape, bool)
    edge[1:] |= inside[1:] != inside[:-1]
    edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    return np.flatnonzero(edge)


def _edges_nearby(pixels: np.ndarray) -> np.ndarray:
    """The strongest edge near each pixel, as far away as cloth stands off the body: (h, w)."""
    reach = max(1, round(max(pixels.shape[:2]) * _STANDS_OFF))
    return maximum_filter(_edges(pixels), 2 * reach + 1)


def _edges(pixels: np.ndarray) -> np.ndarray:
    """How much each pixel differs from its left and upper neighbours, over all channels: (h, w)."""
    edges = np.zeros(pixels.shape[:2], np.float32)
    for channel in np.moveaxis(pixels.reshape(*pixels.shape[:2], -1).astype(np.float32), -1, 0):
        edges[1:] += np.abs(channel[1:] - channel[:-1])
        edges[:, 1:] += np.abs(channel[:, 1:] - channel[:, :-1])
    return edges
