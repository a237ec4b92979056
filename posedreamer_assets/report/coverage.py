"""What there is of poses, bodies, cameras and looks, and what of it the filter kept: plain arrays for plots."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.metrics.caption_diversity import diversity
from posedreamer_assets.tables.rows import CAMERA_COLUMNS, array, cameras, texts

COLUMNS = ("sample_id", "family", "appearance", "caption", "betas", "global_orient", "transl", *CAMERA_COLUMNS)
"""Of table `pose_library`."""
LOOKS = {"skin": "Skin tone", "hair_style": "Hair", "top_colour": "Colour of the top", "bottom_colour": "Of the bottom"}


@dataclass(frozen=True)
class Coverage:
    """Poses of all rounds, or some of them; `kept` says which of their images the filter kept.

    Attributes:
        kept: bool (n,).
        names: by what is counted ("family", "skin", ...), one name per pose.
        values: by what is measured, (n,): see `measured`.
    """

    kept: np.ndarray
    names: dict[str, list[str]]
    values: dict[str, np.ndarray]

    def counts(self, what: str, most: int = 24) -> tuple[dict[str, int], dict[str, int]]:
        """Numbers of poses and of kept images by name, most frequent first."""
        asked = Counter(self.names[what])
        kept = Counter(name for name, keep in zip(self.names[what], self.kept, strict=True) if keep)
        order = sorted(asked, key=lambda name: (-asked[name], name))[:most]
        return {name: asked[name] for name in order}, {name: kept[name] for name in order}

    def groups(self, what: str) -> dict[str, np.ndarray]:
        """Values of all poses and of the kept ones."""
        return {"asked for": self.values[what], "kept": self.values[what][self.kept]}


def coverage(poses: pa.Table, kept: Sequence[str]) -> Coverage:
    """Coverage of poses (`COLUMNS`), given the ids of the kept samples."""
    chosen = set(kept)
    looks = [json.loads(text) for text in texts(poses, "appearance")]
    names = {"family": texts(poses, "family"), **{part: [str(look[part]) for look in looks] for part in LOOKS}}
    return Coverage(np.array([i in chosen for i in texts(poses, "sample_id")]), names, measured(poses))


def measured(poses: pa.Table) -> dict[str, np.ndarray]:
    """By name, one value per pose: `facing` (degrees between the body's front and the camera, 0 faces it, 180 turns its
    back), `upright` (degrees between the spine and the vertical), `pitch` and `roll` of the camera (degrees), `focal`
    (image heights), `distance` (metres from camera to pelvis), `shape 1` and `shape 2` (the first two betas).
    """
    views, betas = cameras(poses), array(poses, "betas")
    root = axis_angle_to_matrix(array(poses, "global_orient"))
    front = np.einsum("nij,nj->ni", views.rotation, root[:, :, 2])
    return {
        "facing": np.degrees(np.arctan2(np.abs(front[:, 0]), -front[:, 2])),
        "upright": np.degrees(np.arccos(root[:, 1, 1].clip(-1, 1))),
        "pitch": np.asarray(views.pitch_deg),
        "roll": np.asarray(views.roll_deg),
        "focal": np.asarray(views.focal_px) / views.height,
        "distance": np.linalg.norm(views.to_camera(array(poses, "transl")[:, None])[:, 0], axis=1),
        "shape 1": betas[:, 0],
        "shape 2": betas[:, 1],
    }


def kept_ids(filtered: pa.Table) -> list[str]:
    """Sample ids that the filter kept."""
    keep = array(filtered, "keep").astype(bool)
    return [i for i, kept in zip(texts(filtered, "sample_id"), keep, strict=True) if kept]


def captions_in_words(captions: Sequence[str]) -> str:
    """How varied the captions are, in a sentence; empty of none."""
    if not captions:
        return ""
    found = diversity(captions)
    shares = ", ".join(f"{found[f'caption_distinct_{n}']:.3f}" for n in (1, 2, 3))
    return (
        f"{len(captions)} captions: {found['captions_unlike_share']:.0%} unlike, distinct 1-, 2- and 3-grams {shares} of all, "
        f"words of {found['caption_word_entropy_bits']:.2f} bits of entropy. Shares fall as captions grow in number."
    )
