"""SMPL-X model files and the batched forward pass (Pavlakos et al., CVPR 2019; Loper et al., 2015).

Linear blend skinning is written here because the reference implementation's licence forbids commercial use;
the tests compare the two to 1e-5 m.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from posedreamer_assets.body.joints import LANDMARK_VERTICES, PARENTS
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix
from posedreamer_assets.errors import ArrayFileError, BodyModelError
from posedreamer_assets.plain_arrays import PlainNpz, open_npz

FREE_BODY_PATH = Path(__file__).parent / "data" / "SMPLX_NEUTRAL.npz"
_SHAPE_SPACE = 300  # components of shape before those of expression in a full SMPL-X file
_COMPONENTS = 10
# Vertices that are skinned together; a multiple of the tiles of BLAS, so that every row is computed in the same way.
_RUN = 480


@dataclass(frozen=True)
class BodyOutput:
    """World frame, metres. Joints: the 55 of SMPL-X, then the 21 landmark vertices."""

    vertices: Float[np.ndarray, "n v 3"]
    joints: Float[np.ndarray, "n 76 3"]


@dataclass(frozen=True, eq=False)
class BodyModel:
    """A body in SMPL-X format: template, shape and pose blend shapes, joint regressor, skinning weights.

    Compared and hashed by identity, so that what is derived from a body can be cached beside it.
    """

    name: str
    v_template: Float[np.ndarray, "v 3"]
    shapedirs: Float[np.ndarray, "v 3 10"]
    exprdirs: Float[np.ndarray, "v 3 10"]
    posedirs: Float[np.ndarray, "486 v3"] | None  # None when all zero
    J_regressor: Float[np.ndarray, "55 v"]
    weights: Float[np.ndarray, "v 55"]
    faces: Int[np.ndarray, "f 3"]

    @cached_property
    def dominant_joint(self) -> Int[np.ndarray, "v"]:
        """For each vertex the joint with the largest skinning weight."""
        return self.weights.argmax(axis=1)

    @cached_property
    def _directions(self) -> Float[np.ndarray, "20 v3"]:
        joined = np.concatenate([self.shapedirs, self.exprdirs], axis=2)
        return np.ascontiguousarray(joined.reshape(-1, joined.shape[2]).T)

    @cached_property
    def _skinning(self) -> list[tuple[int, Int[np.ndarray, "k"], Float[np.ndarray, "r k"]]]:
        """Runs of neighbouring vertices: first vertex, joints that move any of them, and their weights.

        Neighbours follow few of the 55 joints. Every run has the same number of rows (zeros after the last vertex).
        """
        runs = []
        for start in range(0, len(self.weights), _RUN):
            part = self.weights[start : start + _RUN]
            joints = np.flatnonzero(part.any(axis=0))
            weights = np.zeros((_RUN, len(joints)), np.float32)
            weights[: len(part)] = part[:, joints]
            runs.append((start, joints, weights))
        return runs

    def forward(self, params: BodyParams) -> BodyOutput:
        """Pose and shape a batch of bodies.

        Large matrix products are done for one body at a time, because products of other sizes round differently: so a
        body's vertices are the same to the last bit whatever batch it is in, and so is everything drawn from them.
        """
        n, v = len(params), len(self.v_template)
        coefficients = np.concatenate([params.betas, params.expression], axis=1)
        rotations = axis_angle_to_matrix(params.full_pose())
        shaped, rest_joints = np.empty((n, v, 3), np.float32), np.empty((n, 55, 3), np.float32)
        change = np.empty((1, 3 * v), np.float32)
        for i in range(n):
            np.matmul(coefficients[i : i + 1], self._directions, out=change)
            np.add(self.v_template, change.reshape(v, 3), out=shaped[i])
            rest_joints[i] = self.J_regressor @ shaped[i]
            if self.posedirs is not None:
                feature = (rotations[i : i + 1, 1:] - np.eye(3, dtype=np.float32)).reshape(1, -1)
                shaped[i] += (feature @ self.posedirs).reshape(v, 3)
        world_rotation, world_position = chain_transforms(rotations, rest_joints)
        offset = world_position - np.einsum("njab,njb->nja", world_rotation, rest_joints)
        transforms = np.concatenate([world_rotation, offset[..., None]], axis=-1).reshape(n, 55, 12)
        vertices = shaped
        self._skin(vertices, transforms, params.transl)
        joints = (world_position + params.transl[:, None]).astype(np.float32)
        landmarks = vertices[:, list(LANDMARK_VERTICES.values())]
        return BodyOutput(vertices, np.concatenate([joints, landmarks], axis=1))

    def joints(self, params: BodyParams) -> Float[np.ndarray, "n 76 3"]:
        """Only the 76 joints of each body."""
        return self.forward(params).joints

    def _skin(
        self,
        points: Float[np.ndarray, "n v 3"],
        transforms: Float[np.ndarray, "n 55 12"],
        transl: Float[np.ndarray, "n 3"],
    ) -> None:
        """Move each body's points, in place, by the weighted means of its joints' transforms (rows of 3 x 4 matrices).

        Coordinate by coordinate, which NumPy does several times as fast as many small products; in arrays that are made
        once, because fresh memory costs as much as the arithmetic.
        """
        v = points.shape[1]
        blended = np.empty((len(self._skinning) * _RUN, 12), np.float32)
        columns = np.empty((3, 4, v), np.float32)
        at, moved, term = (np.empty((3, v), np.float32) for _ in range(3))
        for i in range(len(points)):
            for start, joints, weights in self._skinning:
                np.matmul(weights, transforms[i, joints], out=blended[start : start + _RUN])
            columns.reshape(12, v)[:] = blended[:v].T
            at[:] = points[i].T
            np.multiply(columns[:, 0], at[0], out=moved)
            for axis in (1, 2):
                np.multiply(columns[:, axis], at[axis], out=term)
                moved += term
            moved += columns[:, 3]
            moved += transl[i, :, None]
            for axis in range(3):
                points[i, :, axis] = moved[axis]


def rest_joints(body: BodyModel, params: BodyParams) -> Float[np.ndarray, "n 55 3"]:
    """Joints of each shaped body in the T-pose at the model's origin, metres: linear in shape, so no vertex is needed."""
    directions = np.concatenate([body.shapedirs, body.exprdirs], axis=2)
    joint_directions = np.einsum("jv,vck->jck", body.J_regressor, directions, optimize=True)
    coefficients = np.concatenate([params.betas, params.expression], axis=1)
    rest = body.J_regressor @ body.v_template + np.einsum("jck,nk->njc", joint_directions, coefficients)
    return rest.astype(np.float32)


def chain_transforms(
    rotations: Float[np.ndarray, "n 55 3 3"], rest_joints: Float[np.ndarray, "n 55 3"]
) -> tuple[Float[np.ndarray, "n 55 3 3"], Float[np.ndarray, "n 55 3"]]:
    """World rotation and position of every joint, root first."""
    world_rotation = np.empty_like(rotations)
    position = np.empty_like(rest_joints)
    world_rotation[:, 0], position[:, 0] = rotations[:, 0], rest_joints[:, 0]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        world_rotation[:, joint] = world_rotation[:, parent] @ rotations[:, joint]
        bone = rest_joints[:, joint] - rest_joints[:, parent]
        position[:, joint] = position[:, parent] + np.einsum("nab,nb->na", world_rotation[:, parent], bone)
    return world_rotation, position


@lru_cache(maxsize=2)
def load_body(model_path: str | None = None) -> BodyModel:
    """Load an SMPL-X npz; None loads the free body that ships with the project.

    Raises:
        BodyModelError: the file is missing, truncated, not an npz, or an array has the wrong shape or bad values.
    """
    path = Path(model_path) if model_path else FREE_BODY_PATH
    if not path.is_file():
        raise BodyModelError(f"{path}: no such SMPL-X model file; expected an npz such as SMPLX_NEUTRAL.npz")
    try:
        with open_npz(path) as data:
            return _from_arrays(data, path)
    except (ArrayFileError, OSError, ValueError) as error:
        raise BodyModelError(f"{path}: not a readable SMPL-X npz ({error})") from error


def _array(data: PlainNpz, key: str, path: Path) -> np.ndarray:
    if key not in data:
        raise BodyModelError(f"{path}: no array {key!r}; it holds {', '.join(sorted(data)) or 'nothing'}")
    array = data[key]
    if array.dtype.kind not in "fiub":
        raise BodyModelError(f"{path}: {key} has dtype {array.dtype}, expected numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BodyModelError(f"{path}: {key} has values that are not finite")
    return array


def _from_arrays(data: PlainNpz, path: Path) -> BodyModel:
    template = _array(data, "v_template", path).astype(np.float32)
    if template.ndim != 2 or template.shape[1] != 3 or len(template) <= max(LANDMARK_VERTICES.values()):
        raise BodyModelError(f"{path}: v_template is {template.shape}, expected (vertices, 3) of an SMPL-X mesh")
    v = len(template)
    directions = _array(data, "shapedirs", path)
    if directions.ndim != 3 or directions.shape[:2] != (v, 3) or directions.shape[2] < 2 * _COMPONENTS:
        raise BodyModelError(f"{path}: shapedirs is {directions.shape}, expected ({v}, 3, 20 or more)")
    expression_start = _SHAPE_SPACE if directions.shape[2] >= _SHAPE_SPACE + _COMPONENTS else _COMPONENTS
    posedirs = _array(data, "posedirs", path)
    expected = {"posedirs": (v, 3, 486), "J_regressor": (55, v), "weights": (v, 55)}
    arrays = {"posedirs": posedirs, **{k: _array(data, k, path) for k in ("J_regressor", "weights")}}
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise BodyModelError(f"{path}: {key} is {arrays[key].shape}, expected {shape} (SMPL-X, not SMPL or SMPL-H)")
    faces = _array(data, "f", path).astype(np.int64)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.min() < 0 or faces.max() >= v:
        raise BodyModelError(f"{path}: f is {faces.shape}, expected triangles over {v} vertices")
    parents = _array(data, "kintree_table", path)[0].astype(np.int64)
    if len(parents) != 55 or tuple(parents[1:]) != PARENTS[1:]:
        raise BodyModelError(f"{path}: kintree_table is not SMPL-X's joint tree")
    return BodyModel(
        name=path.stem,
        v_template=template,
        shapedirs=np.ascontiguousarray(directions[..., :_COMPONENTS], np.float32),
        exprdirs=np.ascontiguousarray(directions[..., expression_start : expression_start + _COMPONENTS], np.float32),
        posedirs=posedirs.reshape(v * 3, 486).T.astype(np.float32) if posedirs.any() else None,
        J_regressor=arrays["J_regressor"].astype(np.float32),
        weights=arrays["weights"].astype(np.float32),
        faces=faces,
    )
