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
from posedreamer_assets.cores import one_core
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
    def _shape_space(self) -> tuple[Float[np.ndarray, "3 w"], Float[np.ndarray, "20 w3"]]:
        """Template and directions of shape and expression, coordinate by coordinate: as wide as all runs of vertices."""
        return _planar(self.v_template), _planar(np.concatenate([self.shapedirs, self.exprdirs], axis=2)).reshape(
            20, -1
        )

    @cached_property
    def _pose_space(self) -> Float[np.ndarray, "486 w3"] | None:
        """Pose blend shapes in the same layout."""
        if self.posedirs is None:
            return None
        return _planar(self.posedirs.T.reshape(-1, 3, len(self.posedirs))).reshape(len(self.posedirs), -1)

    @cached_property
    def _joint_space(self) -> tuple[Float[np.ndarray, "165"], Float[np.ndarray, "20 165"]]:
        """Joints of the T-pose, linear in shape and expression as the vertices are that they are regressed from."""
        directions = np.concatenate([self.shapedirs, self.exprdirs], axis=2)
        template = self.J_regressor.astype(np.float64) @ self.v_template
        moved = np.tensordot(self.J_regressor.astype(np.float64), directions, axes=1)
        return template.reshape(-1).astype(np.float32), moved.reshape(165, -1).T.astype(np.float32)

    @cached_property
    def _skinning(self) -> list[tuple[slice, Int[np.ndarray, "k"], Float[np.ndarray, "k r"]]]:
        """Runs of neighbouring vertices, the joints that move any of them, and their weights.

        Neighbours follow few of the 55 joints. Every run has the same number of vertices (zeros after the last one).
        """
        runs = []
        for start in range(0, len(self.weights), _RUN):
            part = self.weights[start : start + _RUN]
            joints = np.flatnonzero(part.any(axis=0))
            weights = np.zeros((len(joints), _RUN), np.float32)
            weights[:, : len(part)] = part[:, joints].T
            runs.append((slice(start, start + _RUN), joints, weights))
        return runs

    def forward(self, params: BodyParams) -> BodyOutput:
        """Pose and shape a batch of bodies.

        One body at a time on one core, because matrix products of other sizes, or shared by cores, may round differently:
        so a body's vertices are the same to the last bit whatever batch it is in, and so is everything drawn from them.
        Coordinate by coordinate, which is what processors add and multiply fastest, and in arrays that are made once,
        because fresh memory costs as much as the arithmetic.
        """
        with one_core():
            return self._forward(params)

    def _forward(self, params: BodyParams) -> BodyOutput:
        n, v = len(params), len(self.v_template)
        rotations = axis_angle_to_matrix(params.full_pose())
        rest = rest_joints(self, params)
        world_rotation, world_position = chain_transforms(rotations, rest)
        offset = world_position - np.einsum("njab,njb->nja", world_rotation, rest)
        transforms = np.concatenate([world_rotation, offset[..., None]], axis=-1).reshape(n, 55, 12)
        coefficients = np.concatenate([params.betas, params.expression], axis=1)
        bent = (rotations[:, 1:] - np.eye(3, dtype=np.float32)).reshape(n, 486)
        template, directions = self._shape_space
        vertices = np.empty((n, v, 3), np.float32)
        shaped, moved, term = (np.empty_like(template) for _ in range(3))
        blended = np.empty((12, template.shape[1]), np.float32)
        for i in range(n):
            np.matmul(coefficients[i : i + 1], directions, out=shaped.reshape(1, -1))
            shaped += template
            if self._pose_space is not None:
                shaped += np.matmul(bent[i : i + 1], self._pose_space, out=moved.reshape(1, -1)).reshape(shaped.shape)
            of_joint = np.ascontiguousarray(transforms[i].T)
            for run, joints, weights in self._skinning:
                np.matmul(of_joint[:, joints], weights, out=blended[:, run])
            _transform(blended.reshape(3, 4, -1), shaped, moved, term)
            moved += params.transl[i, :, None]
            vertices[i] = moved[:, :v].T
        joints = (world_position + params.transl[:, None]).astype(np.float32)
        landmarks = vertices[:, list(LANDMARK_VERTICES.values())]
        return BodyOutput(vertices, np.concatenate([joints, landmarks], axis=1))

    def joints(self, params: BodyParams) -> Float[np.ndarray, "n 76 3"]:
        """Only the 76 joints of each body."""
        return self.forward(params).joints


def _planar(of_vertices: Float[np.ndarray, "v 3 *k"]) -> Float[np.ndarray, "*k 3 w"]:
    """Numbers of vertices with the vertex last, and zeros after the last one, up to a whole number of runs."""
    wide = -(-len(of_vertices) // _RUN) * _RUN
    last = np.moveaxis(of_vertices, (0, 1), (-1, -2))
    planar = np.zeros((*last.shape[:-1], wide), np.float32)
    planar[..., : len(of_vertices)] = last
    return planar


def _transform(
    transforms: Float[np.ndarray, "3 4 w"],
    points: Float[np.ndarray, "3 w"],
    out: Float[np.ndarray, "3 w"],
    term: Float[np.ndarray, "3 w"],
) -> None:
    """Every point by its own 3 x 4 matrix, into `out`; `term` is memory to compute in."""
    np.multiply(transforms[:, 0], points[0], out=out)
    for axis in (1, 2):
        np.multiply(transforms[:, axis], points[axis], out=term)
        out += term
    out += transforms[:, 3]


def rest_joints(body: BodyModel, params: BodyParams) -> Float[np.ndarray, "n 55 3"]:
    """Joints of each shaped body in the T-pose at the model's origin, metres: linear in shape, so no vertex is needed."""
    template, directions = body._joint_space
    coefficients = np.concatenate([params.betas, params.expression], axis=1).astype(np.float32)
    moved = [template + coefficients[i] @ directions for i in range(len(params))]
    return np.reshape(moved, (len(params), 55, 3)).astype(np.float32)


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
