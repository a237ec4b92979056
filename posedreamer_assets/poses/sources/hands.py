"""Hands given by a model's hand components, and hands given relative to its mean hand."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posedreamer_assets.errors import ArrayFileError, BodyModelError
from posedreamer_assets.plain_arrays import open_npz

_KEYS = ("hands_componentsl", "hands_componentsr", "hands_meanl", "hands_meanr")


@dataclass(frozen=True, eq=False)
class HandSpace:
    """The hand components of an SMPL-X or SMPL-H file, left then right.

    Attributes:
        components: rows are components, columns the axis-angle vectors of 15 joints.
        means: the mean hands, which components are added to.
    """

    components: Float[np.ndarray, "2 45 45"]
    means: Float[np.ndarray, "2 45"]

    @classmethod
    def load(cls, model_path: str | None) -> "HandSpace | None":
        """Those of a body's file; None for the free body and for files without or with placeholder components.

        Raises:
            BodyModelError: the file cannot be read.
        """
        if model_path is None:
            return None
        try:
            with open_npz(Path(model_path)) as data:
                if any(key not in data for key in _KEYS):
                    return None
                left, right, mean_left, mean_right = (np.asarray(data[key], np.float64) for key in _KEYS)
        except (OSError, ValueError, ArrayFileError) as error:
            raise BodyModelError(f"{model_path}: hand components cannot be read: {error}") from error
        if left.shape != (45, 45) or right.shape != (45, 45) or mean_left.shape != (45,) or mean_right.shape != (45,):
            raise BodyModelError(f"{model_path}: hand components of shape {left.shape}, expected (45, 45)")
        if np.array_equal(left, np.eye(45)):  # the free body has no captured hands
            return None
        return cls(np.stack([left, right]), np.stack([mean_left, mean_right]))

    def pose(self, side: int, weights: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n 45"]:
        """Axis-angle vectors relative to the flat hand, from the first k components; side 0 is left."""
        return weights @ self.components[side, : weights.shape[1]] + self.means[side]
