"""SMPL-X parameters of a batch of bodies."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_SHAPES: dict[str, tuple[int, ...]] = {
    "betas": (10,),
    "expression": (10,),
    "global_orient": (3,),
    "body_pose": (21, 3),
    "left_hand_pose": (15, 3),
    "right_hand_pose": (15, 3),
    "jaw_pose": (3,),
    "leye_pose": (3,),
    "reye_pose": (3,),
    "transl": (3,),
}


@dataclass(frozen=True)
class BodyParams:
    """SMPL-X parameters: rotations in axis-angle (radians), transl in metres, world frame, y up.

    Hands are full axis-angle relative to the flat hand (smplx's `use_pca=False, flat_hand_mean=True`).
    """

    betas: Float[np.ndarray, "n 10"]
    expression: Float[np.ndarray, "n 10"]
    global_orient: Float[np.ndarray, "n 3"]
    body_pose: Float[np.ndarray, "n 21 3"]
    left_hand_pose: Float[np.ndarray, "n 15 3"]
    right_hand_pose: Float[np.ndarray, "n 15 3"]
    jaw_pose: Float[np.ndarray, "n 3"]
    leye_pose: Float[np.ndarray, "n 3"]
    reye_pose: Float[np.ndarray, "n 3"]
    transl: Float[np.ndarray, "n 3"]

    @classmethod
    def zeros(cls, n: int) -> "BodyParams":
        """n mean bodies in the T-pose, facing +z."""
        return cls(**{name: np.zeros((n, *shape), np.float32) for name, shape in _SHAPES.items()})

    @classmethod
    def concat(cls, parts: Sequence["BodyParams"]) -> "BodyParams":
        """All bodies of the parts, in order."""
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in _SHAPES})

    @classmethod
    def from_flat(cls, columns: dict[str, np.ndarray]) -> "BodyParams":
        """From one (n, width) array for each column, as tables hold them."""
        return cls(
            **{k: np.ascontiguousarray(columns[k], np.float32).reshape(-1, *shape) for k, shape in _SHAPES.items()}
        )

    def to_flat(self) -> dict[str, np.ndarray]:
        """One (n, width) array for each column, as tables hold them."""
        return {name: getattr(self, name).reshape(len(self), -1) for name in _SHAPES}

    def __len__(self) -> int:
        return len(self.betas)

    def take(self, indices: np.ndarray | slice | Sequence[int]) -> "BodyParams":
        """The bodies at the given indices."""
        chosen = indices if isinstance(indices, slice) else np.asarray(indices)
        return BodyParams(**{name: getattr(self, name)[chosen] for name in _SHAPES})

    def replace(self, **arrays: np.ndarray) -> "BodyParams":
        """A copy with some arrays exchanged."""
        return dataclasses.replace(self, **arrays)

    def full_pose(self) -> Float[np.ndarray, "n 55 3"]:
        """All 55 rotations in joint order."""
        single = [self.jaw_pose, self.leye_pose, self.reye_pose]
        return np.concatenate(
            [
                self.global_orient[:, None],
                self.body_pose,
                *(p[:, None] for p in single),
                self.left_hand_pose,
                self.right_hand_pose,
            ],
            axis=1,
        )
