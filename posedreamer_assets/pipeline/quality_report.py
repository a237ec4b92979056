"""How close the images come to the reference set, and to their poses.

Whatever the number of images, at most `quality.max_images` of each set are looked at, and a few hundred are held at once.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile, QualityConfig
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.pipeline.sample_scores import OKS_OF, oks_of
from posedreamer_assets.pipeline.stage import POSES, Inputs, Made, Reads, Stage
from posedreamer_assets.tables.keys import BASE
from posedreamer_assets.tables.rows import images, texts

if TYPE_CHECKING:
    from posedreamer_assets.metrics.features import FeatureSet
    from posedreamer_assets.metrics.other_networks import NetworkFeatures
    from posedreamer_assets.scoring.detectors import KeypointDetector

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_AT_ONCE = 256  # images that are held decoded
T = TypeVar("T")


@dataclass(frozen=True)
class _Pictures:
    """Images of a table, and the labels of their samples."""

    inputs: Inputs
    table: str
    ids: Sequence[str]

    def parts(self) -> Iterator[tuple[np.ndarray, pa.Table, list[str]]]:
        """Images (n, h, w, 3), control maps and captions, a part at a time."""
        for start in range(0, len(self.ids), _AT_ONCE):
            some = self.ids[start : start + _AT_ONCE]
            rows = self.inputs.take(self.table, some, ("image", "caption"))
            yield images(rows, "image"), self.inputs.take("control_maps", some), texts(rows, "caption")

    def measured(self, measure: Callable[[np.ndarray, pa.Table, list[str]], np.ndarray]) -> dict[str, Any]:
        """The mean of a measure of each image, with its interval; of no images there is none."""
        from posedreamer_assets.metrics.intervals import bootstrap_mean

        if not self.ids:
            return {"mean": None, "ci95": [None, None], "n": 0}
        values = np.concatenate([measure(*part) for part in self.parts()])
        return bootstrap_mean(values, self.inputs.profile.seed).as_dict()


def make(inputs: Inputs) -> Made:
    """Figures of the kept images of all rounds against the reference, and what detectors see in renders and images."""
    profile = inputs.profile
    found, points = _compared(inputs)
    found["reference_is"] = profile.quality.reference or "held-out rendered scenes"
    sets = {
        "renders": _Pictures(inputs, "rendered_scenes", _some(inputs, "renders", _ids(inputs, "rendered_scenes"))),
        "base_generations": _Pictures(inputs, "raw_generations", _some(inputs, "generations", _base_ids(inputs))),
    }
    for role in ("judge", "outside_judge"):
        detector = getattr(inputs.models, role)
        if detector is not None:
            found[role] = {"name": detector.name, **{name: _judged(detector, of) for name, of in sets.items()}}
    found["garment_colours"] = _garment_colours(sets)
    (inputs.place / "quality.json").write_text(json.dumps(found, indent=2, sort_keys=True))
    (inputs.place / "figures.json").write_text(json.dumps(points))
    return Made(figures=found)


def _compared(inputs: Inputs) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is told of both sets, and their points in planes by Inception and others; of sets that are too small that they are."""
    from posedreamer_assets.metrics.quality import compare, feature_plane, too_few

    cfg, kept, seed = inputs.profile.quality, _kept(inputs), inputs.profile.seed
    networks = _networks(cfg)
    generated, others = _features(_images_of(inputs, "raw_generations", kept), networks)
    reference, other_reference = _features(_reference(inputs), networks)
    counts = {"generated": len(generated or ()), "reference": len(reference or ())}
    why = too_few(counts["generated"], counts["reference"], cfg)
    if why or generated is None or reference is None:
        remedy = (
            "make more (poses.batches, poses.batch_size), or look into the report's rejections for why so few were kept"
        )
        note = f"There is no FID, KID, classifier score, precision or recall. {why}; {remedy}."
        return {**counts, "compared": False, "notes": [note]}, {"feature_plane": {}, "planes_by_network": {}}
    sets = {"inception": (generated.pool_2048, reference.pool_2048)}
    sets |= {name: (others[name], other_reference[name]) for name in others}
    planes = {
        name: dict(zip(counts, (np.round(p, 4).tolist() for p in feature_plane(*both)), strict=True))
        for name, both in sets.items()
    }
    found = compare(generated, reference, cfg, seed).to_dict()
    if others:
        from posedreamer_assets.metrics.other_networks import compare_by

        found["by_network"] = {name: compare_by(name, *sets[name], cfg, seed) for name in others}
    return found, {"feature_plane": planes.pop("inception"), "planes_by_network": planes}


def _networks(cfg: QualityConfig) -> "list[NetworkFeatures]":
    """The networks beside Inception; transformers is imported where there are some."""
    if not cfg.networks:
        return []
    from posedreamer_assets.metrics.other_networks import NetworkFeatures

    return [NetworkFeatures(network) for network in cfg.networks]


def _kept(inputs: Inputs) -> list[str]:
    import pyarrow.compute as pc

    rows = inputs.rows("filtered_dataset", ("keep",)).filter(pc.field("keep"))
    return _some(inputs, "generated", texts(rows, "sample_id"))


def _ids(inputs: Inputs, table: str) -> list[str]:
    return texts(inputs.rows(table, ("sample_id",)), "sample_id")


def _base_ids(inputs: Inputs) -> list[str]:
    import pyarrow.compute as pc

    rows = inputs.rows("filtered_dataset", ("round",))
    return texts(rows.filter(pc.field("round") == BASE), "sample_id")


def _some(inputs: Inputs, what: str, items: Sequence[T]) -> list[T]:
    """At most `quality.max_images` of the items, chosen by the seed alone."""
    from posedreamer_assets.metrics.quality import choose

    chosen = choose(len(items), inputs.profile.quality.max_images, inputs.profile.seed, what)
    return [items[i] for i in chosen]


def _images_of(inputs: Inputs, table: str, ids: Sequence[str]) -> Iterator[np.ndarray]:
    for start in range(0, len(ids), _AT_ONCE):
        yield images(inputs.take(table, ids[start : start + _AT_ONCE], ("image",)), "image")


def _reference(inputs: Inputs) -> Iterator[np.ndarray]:
    """The images that generated ones are compared with.

    Raises:
        MetricsError: the user's folder holds no images.
    """
    import pyarrow.compute as pc

    profile = inputs.profile
    if profile.quality.reference is None:
        rows = inputs.rows("rendered_scenes", ("split",)).filter(pc.field("split") == "reference")
        return _images_of(inputs, "rendered_scenes", _some(inputs, "reference", texts(rows, "sample_id")))
    folder = Path(profile.quality.reference).expanduser()
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)[: profile.quality.max_images]
    if not paths:
        raise MetricsError(f"quality.reference: no images in {folder}")
    return (load_photograph(path, profile.image.width, profile.image.height)[None] for path in paths)


def _features(
    parts: Iterator[np.ndarray], networks: "Sequence[NetworkFeatures]"
) -> "tuple[FeatureSet | None, dict[str, np.ndarray]]":
    """Of all images, each decoded once, and by the other networks' names; of no image None and nothing."""
    from posedreamer_assets.metrics.features import FeatureExtractor, FeatureSet

    extractor = FeatureExtractor()
    found: list[FeatureSet] = []
    others: dict[str, list[np.ndarray]] = {network.name: [] for network in networks}
    for part in parts:
        found.append(extractor(part))
        for network in networks:
            others[network.name].append(network(part))
    if not found:
        return None, {}
    return FeatureSet.concat(found), {name: np.concatenate(rows) for name, rows in others.items()}


def _judged(detector: "KeypointDetector", pictures: _Pictures) -> dict[str, Any]:
    return pictures.measured(lambda seen, maps, captions: oks_of(detector, seen, maps)[0])


def _garment_colours(sets: dict[str, _Pictures]) -> dict[str, Any]:
    """Share of garments whose colour is nearer to the one that the caption names than to any other."""
    from posedreamer_assets.render.captions import NAMED_COLOURS
    from posedreamer_assets.scoring.colours import garment_colour_hits

    def hits(pictures: _Pictures, garment: str) -> dict[str, Any]:
        return pictures.measured(
            lambda seen, maps, captions: garment_colour_hits(seen, images(maps, "parts"), captions, garment)
        )

    shares = {name: {garment: hits(of, garment) for garment in ("top", "bottom")} for name, of in sets.items()}
    return {**shares, "by_chance": round(1 / len(NAMED_COLOURS), 4)}


def load_photograph(path: Path, width: int, height: int) -> np.ndarray:
    """A photograph, cropped in the middle to the shape of the generated images and resized to their size: (h, w, 3)."""
    from posedreamer_assets.tables.images import opened

    with opened(path) as photo:
        rgb = photo.convert("RGB")
    scale = max(width / rgb.width, height / rgb.height)
    resized = rgb.resize((max(width, round(rgb.width * scale)), max(height, round(rgb.height * scale))))
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    return np.asarray(resized.crop((left, top, left + width, top + height)))


def units(profile: Profile) -> int:
    """Images that are looked at."""
    return 3 * min(profile.quality.max_images, profile.poses.batch_size * profile.poses.batches)


def stage(groups: tuple[str, ...]) -> Stage:
    """The report on the images of all rounds."""
    return Stage(
        "quality_report",
        "One set of figures for all kept images: FID (2048-d; also 64-d, so labelled), KID, a classifier score named after its "
        "network, precision and recall, with intervals; the same by DINOv2 and CLIP where `quality.networks` names them; the "
        "outside judge's OKS where one is given.",
        make,
        "2",
        settings=("quality", "judge", "outside_judge"),
        files=("reference", "quality_networks", "judge", "outside_judge"),
        reads=(
            Reads("rendered_scenes", ("image", "caption", "split"), POSES),
            Reads("control_maps", (*OKS_OF, "parts"), POSES),
            Reads("raw_generations", ("image", "caption"), groups),
            Reads("filtered_dataset", ("keep", "round"), groups),
        ),
        units=units,
        ui_group="dataset",
        kinds=frozenset(("torch",)),
        starts="cron",
    )
