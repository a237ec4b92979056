"""What a control LoRA is trained on and measured by: the rendered scenes of a home, and the judge. It is no stage: a generator is
there before a graph is made with it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import StorageError
from posedreamer_assets.metrics.intervals import Interval, bootstrap_mean
from posedreamer_assets.pipeline.control_images import control_column, control_images
from posedreamer_assets.pipeline.models import Models
from posedreamer_assets.pipeline.sample_scores import OKS_OF, oks_of
from posedreamer_assets.seeds import derive_seed
from posedreamer_assets.tables.rows import images

if TYPE_CHECKING:
    from posedreamer_assets.diffusion.control_training import ControlData
    from posedreamer_assets.diffusion.generator import Generator
    from posedreamer_assets.storage import LanceStore

HELD_OUT = "val"
MOST_PAINTED = 128  # held-out poses that fidelity is measured on


@dataclass(frozen=True)
class Scenes:
    """Rendered scenes of a home, with the control images of the same bodies.

    Attributes:
        ids: of the samples.
        data: for training; poses of the split `val` (by clip, or by procedural pose) are held out.
    """

    ids: list[str]
    data: "ControlData"


@dataclass(frozen=True)
class Fidelity:
    """How well painted images show the body of their control image, on held-out poses, by the judge.

    Attributes:
        oks: mean OKS.
        oks_black: of the same captions and seeds with a black control image.
        gain: paired difference.
        pictures: (n, 4 images side by side): control, without, with, render; uint8.
    """

    oks: Interval
    oks_black: Interval
    gain: Interval
    pictures: list[np.ndarray]

    def as_figures(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name).as_dict() for name in ("oks", "oks_black", "gain")}


def rendered_scenes(store: "LanceStore", profile: Profile) -> Scenes:
    """The rendered scenes of a store.

    Raises:
        StorageError: there are none.
    """
    from posedreamer_assets.diffusion.control_training import ControlData, Pixels

    found = store.read("rendered_scenes", columns=["sample_id", "caption"])
    if not found.num_rows:
        raise StorageError(f"{store.root}: no rendered scenes to learn from; `posedreamer run` makes some")
    ids = found.column("sample_id").to_pylist()
    poses = store.take("pose_library", ids, ["split"])
    column = control_column(profile.generator)

    def read(numbers: np.ndarray) -> Pixels:
        wanted = [ids[i] for i in numbers]
        maps = store.take("control_maps", wanted, ["sample_id", column])
        scenes = store.take("rendered_scenes", wanted, ["image"])
        return Pixels(images(scenes, "image"), control_images(profile.generator, maps))

    held_out = np.array(poses.column("split").to_pylist()) == HELD_OUT
    return Scenes(ids, ControlData(found.column("caption").to_pylist(), held_out, read))


def fidelity(scenes: Scenes, generator: "Generator", store: "LanceStore", profile: Profile) -> Fidelity:
    """Paint held-out poses with their control image and with a black one, and let the judge look."""
    numbers = np.flatnonzero(scenes.data.held_out)[:MOST_PAINTED]
    ids = [scenes.ids[i] for i in numbers]
    captions = [scenes.data.captions[i] for i in numbers]
    seeds = [derive_seed(profile.seed, name, "control training") for name in ids]
    pixels = scenes.data.read(numbers)
    maps = store.take("control_maps", ids, list(OKS_OF))
    judge = Models(profile).judge
    shown, black = (
        generator.generate(pixels.controls, captions, seeds, control_strength=strength) for strength in (1.0, 0.0)
    )
    oks, without = (oks_of(judge, painted, maps)[0].astype(float) for painted in (shown, black))
    seen = np.isfinite(oks) & np.isfinite(without)
    return Fidelity(
        bootstrap_mean(oks[seen]),
        bootstrap_mean(without[seen]),
        bootstrap_mean((oks - without)[seen]),
        [np.concatenate(row, axis=1) for row in zip(pixels.controls, black, shown, pixels.images, strict=True)],
    )
