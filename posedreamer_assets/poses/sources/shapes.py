"""What a file says of the person beside the pose: shape, sex and terms of use."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.errors import PoseFileError
from posedreamer_assets.poses.sources.npz import Arrays
from posedreamer_assets.poses.sources.parts import usable

OWN_BODY_KEY, OWN_BODY = "body_model", "posedreamer-free"
"""A file with this word under this name has the shapes of the free body that the project ships."""

_BETAS_KEYS = ("betas", "shape", "smplx_shape", "beta")
_LICENCE_KEYS = ("licence", "license")


def file_betas(arrays: Arrays, model: str, body: BodyModel, notes: list[str]) -> Float[np.ndarray, "10"]:
    """One shape for all frames of a clip: the median of those given, zero where they cannot be used, with a note.

    Raises:
        PoseFileError: `shape` or `dtype`.
    """
    key = usable(arrays, notes, *_BETAS_KEYS)
    if key is None:
        notes.append("no betas: the mean shape is used")
        return np.zeros(10)
    given = arrays.numbers(key)
    if given.ndim == 3 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim == 2 and len(given):
        given = np.median(given, axis=0)
    if given.ndim != 1:
        raise PoseFileError(arrays.path, "shape", f"{key}: shape {given.shape}, expected (10..300,)")
    betas = np.zeros(10)
    betas[: min(10, given.size)] = given[:10]
    return usable_betas(betas[None], arrays, model, body, notes)[0]


def usable_betas(
    betas: Float[np.ndarray, "n 10"], arrays: Arrays, model: str, body: BodyModel, notes: list[str]
) -> Float[np.ndarray, "n 10"]:
    """The betas where they are of the body's own shape space, else zeros, with a note.

    Args:
        betas: as given.
        arrays: of the file, which may tell sex and body.
        model: smplx, smplh or smpl; empty where the file does not tell.
        body: that the poses are for.
        notes: gets a line where betas are dropped.
    """
    if not betas.any():
        return betas
    of_free = arrays.word(OWN_BODY_KEY) == OWN_BODY
    if of_free and is_free_body(body):
        return betas
    gender = arrays.word("gender")
    if of_free:
        whose = "the free body"
    elif model != "smplx":
        whose = model or "a model that the file does not name"
    elif gender in ("male", "female"):
        whose = f"the {gender} model"
    elif is_free_body(body):
        whose = "SMPL-X, which the free body does not share"
    else:
        return betas
    notes.append(f"betas are of the shape space of {whose}: the mean shape is used")
    return np.zeros_like(betas)


@lru_cache(maxsize=8)
def is_free_body(body: BodyModel) -> bool:
    """Whether a body is the one that the project ships."""
    free = load_body()
    return body is free or np.array_equal(body.shapedirs, free.shapedirs)


def own_licence(arrays: Arrays) -> str | None:
    """The terms that an npz states in words, or None."""
    held = [key for key in _LICENCE_KEYS if key in arrays and not arrays.is_pickled(key)]
    key = next((key for key in held if arrays.raw(key).dtype.kind in "SU"), None)
    return (arrays.text(key) or [None])[0] if key else None
