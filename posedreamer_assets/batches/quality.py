"""Quality figures of all images of a run, and what the outside judge says of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from posedreamer_assets.batches.intervals import bootstrap_mean
from posedreamer_assets.batches.models import detector_of
from posedreamer_assets.batches.scores import oks_of
from posedreamer_assets.config import Profile
from posedreamer_assets.errors import MetricsError
from posedreamer_assets.metrics.quality import quality_report
from posedreamer_assets.rows import images, texts
from posedreamer_assets.scoring.detectors import KeypointDetector

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def measure(
    profile: Profile, *, scenes: pa.Table, maps: pa.Table, generations: pa.Table, base: pa.Table, hard: pa.Table
) -> Callable[[Path], dict[str, Any]]:
    """Figures of the kept images of both rounds against the reference; the result writes them and returns them."""
    kept = pa.concat_tables([t.filter(pc.field("keep")).select(["image"]) for t in (base, hard)])
    figures: dict[str, Any] = quality_report(
        images(kept, "image"), reference_images(profile, scenes), profile.quality, profile.seed
    )
    figures["reference_is"] = profile.quality.reference or "held-out rendered scenes"
    if profile.outside_judge is not None:
        judge = detector_of(profile.outside_judge, profile.image)
        figures["outside_judge"] = {
            "name": judge.name,
            "renders": _judged(judge, scenes, maps, profile.seed),
            "base_generations": _judged(judge, generations, maps, profile.seed),
        }

    def write(folder: Path) -> dict[str, Any]:
        (folder / "quality.json").write_text(json.dumps(figures, indent=2, sort_keys=True))
        return figures

    return write


def _judged(judge: KeypointDetector, pictures: pa.Table, maps: pa.Table, seed: int) -> dict[str, Any]:
    wanted = texts(pictures, "sample_id")
    place = {sample: i for i, sample in enumerate(texts(maps, "sample_id"))}
    oks, _ = oks_of(judge, images(pictures, "image"), maps.take(pa.array([place[i] for i in wanted])))
    return bootstrap_mean(oks, seed).as_dict()


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
