"""The body that labels belong to, and what it takes to say them in the terms of other bodies."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.model import FREE_BODY_PATH, BodyModel, load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ExportError

if TYPE_CHECKING:
    from posedreamer_assets.body.transfer import SmplConverter


@dataclass(frozen=True, eq=False)
class Subject:
    """What an export knows of bodies.

    Attributes:
        body: that made the labels.
        mean_hands: left and right mean hand of its file, axis-angle; None keeps hands relative to the flat hand.
        to_smpl: converts to SMPL parameters, where the user has the files for it.
    """

    body: BodyModel
    mean_hands: Float[np.ndarray, "2 15 3"] | None = None
    to_smpl: "SmplConverter | None" = None

    @classmethod
    def load(
        cls, model_path: str | None, mean_hands: bool = False, to_smpl: "SmplConverter | None" = None
    ) -> "Subject":
        """From the body's file; None takes the free body.

        Raises:
            BodyModelError: the file cannot be used.
            ExportError: mean hands are asked for and the file has none.
        """
        return cls(load_body(model_path), load_mean_hands(model_path) if mean_hands else None, to_smpl)

    @property
    def digest(self) -> str:
        """Of what changes labels beside the rows."""
        return digest([self.mean_hands, self.to_smpl.digest if self.to_smpl else None])

    def hands(self, params: BodyParams) -> BodyParams:
        """Parameters with hands as formats are to have them: smplx adds the mean hand to axis-angle vectors again."""
        if self.mean_hands is None:
            return params
        left, right = self.mean_hands
        return params.replace(
            left_hand_pose=params.left_hand_pose - left, right_hand_pose=params.right_hand_pose - right
        )


def load_mean_hands(model_path: str | None) -> Float[np.ndarray, "2 15 3"]:
    """The mean hands in an SMPL-X npz, which smplx adds unless it is told `flat_hand_mean=True`.

    Raises:
        ExportError: the file has none.
    """
    path = Path(model_path) if model_path else FREE_BODY_PATH
    with np.load(path, allow_pickle=False) as data:
        if missing := {"hands_meanl", "hands_meanr"} - set(data.files):
            raise ExportError(f"{path}: no array {min(missing)!r}, which hands relative to the mean hand need")
        return np.stack([data[key].astype(np.float32).reshape(15, 3) for key in ("hands_meanl", "hands_meanr")])
