"""Quality figures of all images of a run, and what the outside judge says of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics.intervals import bootstrap_mean
from posedreamer_assets.metrics.quality import quality_report
from posedreamer_assets.pipeline.models import detector_of
from posedreamer_assets.pipeline.sample_scores import oks_of
from posedreamer_assets.render.captions import NAMED_COLOURS
from posedreamer_assets.scoring.colours import garment_colour_hits
from posedreamer_assets.scoring.detectors import KeypointDetector
from posedreamer_assets.tables.rows import images, texts

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def measure(
    profile: Profile, *, scenes: pa.Table, maps: pa.Table, generations: pa.Table, base: pa.Table, hard: pa.Table
) -> Callable[[Path], dict[str, Any]]:
    """Figures of the kept images of both rounds against the reference; the result writes them and returns them."""
    kept = pa.concat_tables([t.filter(pc.field("keep")).select(["image"]) for t in (base, hard)])
    figures: dict[str, Any]
    figures, plane = quality_report(
        images(kept, "image"), reference_images(profile, scenes), profile.quality, profile.seed
    )
    figures["reference_is"] = profile.quality.reference or "held-out rendered scenes"
    for role, detector in (("judge", profile.judge), ("outside_judge", profile.outside_judge)):
        if detector is not None:
            judge = detector_of(detector, profile.image)
            figures[role] = {
                "name": judge.name,
                "renders": _judged(judge, scenes, maps, profile.seed),
                "base_generations": _judged(judge, generations, maps, profile.seed),
            }

    figures["garment_colours"] = {
        "renders": _colour_hits(scenes, maps, profile.seed),
        "base_generations": _colour_hits(generations, maps, profile.seed),
        "by_chance": round(1 / len(NAMED_COLOURS), 4),
    }

    def write(folder: Path) -> dict[str, Any]:
        (folder / "quality.json").write_text(json.dumps(figures, indent=2, sort_keys=True))
        points = {name: np.round(values, 4).tolist() for name, values in plane.items()}
        (folder / "figures.json").write_text(json.dumps({"feature_plane": points}))
        return figures

    return write


def _judged(judge: KeypointDetector, pictures: pa.Table, maps: pa.Table, seed: int) -> dict[str, Any]:
    oks, _ = oks_of(judge, images(pictures, "image"), _maps_of(pictures, maps))
    return bootstrap_mean(oks, seed).as_dict()


def _colour_hits(pictures: pa.Table, maps: pa.Table, seed: int) -> dict[str, Any]:
    """Share of garments whose colour is nearer to the one that the caption names than to any other."""
    parts, captions = images(_maps_of(pictures, maps), "parts"), texts(pictures, "caption")
    return {
        garment: bootstrap_mean(
            garment_colour_hits(images(pictures, "image"), parts, captions, garment), seed
        ).as_dict()
        for garment in ("top", "bottom")
    }


def _maps_of(pictures: pa.Table, maps: pa.Table) -> pa.Table:
    place = {sample: i for i, sample in enumerate(texts(maps, "sample_id"))}
    return maps.take(pa.array([place[i] for i in texts(pictures, "sample_id")]))


def reference_images(profile: Profile, scenes: pa.Table) -> np.ndarray:
    """The images that generated ones are compared with: (m, h, w, 3).

    Raises:
        MetricsError: the user's folder holds no images.
    """
    if profile.quality.reference is None:
        return images(scenes.filter(pc.field("split") == "reference"), "image")
    folder = Path(profile.quality.reference).expanduser()
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)[: profile.quality.max_images]
    if not paths:
        raise MetricsError(f"quality.reference: no images in {folder}")
    return np.stack([_load(path, profile.image.width, profile.image.height) for path in paths])


def _load(path: Path, width: int, height: int) -> np.ndarray:
    """A photograph, cropped in the middle to the shape of the generated images and resized to their size."""
    with Image.open(path) as photo:
        rgb = photo.convert("RGB")
    scale = max(width / rgb.width, height / rgb.height)
    resized = rgb.resize((max(width, round(rgb.width * scale)), max(height, round(rgb.height * scale))))
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    return np.asarray(resized.crop((left, top, left + width, top + height)))
