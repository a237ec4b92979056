"""SMPL-X to SMPL parameters, where the user has the files that this takes.

The SMPL-X project publishes a matrix that carries vertices of the one mesh to the other ("model correspondences",
`smplx2smpl_deftrafo_setup`). SMPL's pose, shape and translation are then fitted to the carried vertices, all bodies of a
batch at once: Levenberg-Marquardt from the SMPL-X pose, whose first 22 joints are SMPL's too. A few steps bring a body
to the best that SMPL can do, where gradient descent takes thousands.

Files are npz or safetensors; the published ones are pickles, and docs/exports.md says how to turn them into npz.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ArrayFileError, BodyModelError
from posedreamer_assets.plain_arrays import open_npz

_JOINTS, _BETAS, _SHARED_JOINTS = 24, 10, 22
# Vertices that residuals are taken at: far more than the 85 unknowns need; all are looked at in the end.
_FITTED_VERTICES = 700
_FIRST_DAMPING, _LEAST_DAMPING = 1e-3, 1e-8
_STEPS = 15
_CONVERGED_M = 1e-5
# Keeps shapes that the vertices do not decide near the mean.
_SHAPE_PRIOR_M = 1e-5


@dataclass(frozen=True)
class SmplParams:
    """SMPL parameters of a batch, in the frame of the SMPL-X parameters that they were fitted to."""

    global_orient: Float[np.ndarray, "n 3"]
    body_pose: Float[np.ndarray, "n 23 3"]
    betas: Float[np.ndarray, "n 10"]
    transl: Float[np.ndarray, "n 3"]
    error_m: Float[np.ndarray, "n"]  # mean distance of SMPL's vertices from the carried ones


@dataclass(frozen=True, eq=False)
class SmplModel:
    """A body in SMPL format."""

    v_template: Float[np.ndarray, "v 3"]
    shapedirs: Float[np.ndarray, "v 3 10"]
    posedirs: Float[np.ndarray, "v 3 207"]
    J_regressor: Float[np.ndarray, "24 v"]
    weights: Float[np.ndarray, "v 24"]
    parents: tuple[int, ...]
    faces: Int[np.ndarray, "f 3"]

    @classmethod
    def load(cls, path: str | Path) -> "SmplModel":
        """From an npz or safetensors file.

        Raises:
            BodyModelError: the file is missing or not SMPL's.
        """
        arrays = _read_arrays(Path(path))
        template = _shaped(arrays, "v_template", (None, 3), path)
        v = len(template)
        parents = _shaped(arrays, "kintree_table", (2, _JOINTS), path)[0].astype(np.int64)
        if any(not 0 <= parent < joint for joint, parent in enumerate(parents.tolist()) if joint):
            raise BodyModelError(f"{path}: kintree_table does not list parents before their children")
        directions = _shaped(arrays, "shapedirs", (v, 3, None), path)
        if directions.shape[2] < _BETAS:
            raise BodyModelError(f"{path}: shapedirs has {directions.shape[2]} components, expected {_BETAS} or more")
        return cls(
            v_template=template.astype(np.float64),
            shapedirs=directions[..., :_BETAS].astype(np.float64),
            posedirs=_shaped(arrays, "posedirs", (v, 3, 9 * (_JOINTS - 1)), path).astype(np.float64),
            J_regressor=_shaped(arrays, "J_regressor", (_JOINTS, v), path).astype(np.float64),
            weights=_shaped(arrays, "weights", (v, _JOINTS), path).astype(np.float64),
            parents=(-1, *parents[1:].tolist()),
            faces=_shaped(arrays, "f", (None, 3), path).astype(np.int64),
        )


class _PosedVertices:
    """SMPL's vertices of some ids, as torch computes them for one body; mapped over a batch by its users."""

    def __init__(self, model: SmplModel, ids: np.ndarray, device: str) -> None:
        def tensor(values: np.ndarray) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        self._template, self._shape = tensor(model.v_template[ids]), tensor(model.shapedirs[ids])
        self._correctives = tensor(model.posedirs[ids])
        self._weights = tensor(model.weights[ids])
        self._joints = tensor(model.J_regressor @ model.v_template)
        self._joint_shape = tensor(np.einsum("jv,vck->jck", model.J_regressor, model.shapedirs))
        self._parents = model.parents

    def __call__(
        self, rotations: Float[Tensor, "24 3 3"], betas: Float[Tensor, "10"], transl: Float[Tensor, "3"]
    ) -> Float[Tensor, "v 3"]:
        feature = (rotations[1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)).reshape(-1)
        shaped = self._template + self._shape @ betas + self._correctives @ feature
        joints = self._joints + self._joint_shape @ betas
        turned, position = [rotations[0]], [joints[0]]
        for joint, parent in enumerate(self._parents[1:], start=1):
            turned.append(turned[parent] @ rotations[joint])
            position.append(position[parent] + turned[parent] @ (joints[joint] - joints[parent]))
        world = torch.stack(turned)
        offset = torch.stack(position) - torch.einsum("jab,jb->ja", world, joints)
        blended = torch.einsum("vj,jab->vab", self._weights, world)
        return torch.einsum("vab,vb->va", blended, shaped) + self._weights @ offset + transl


class SmplConverter:
    """Converts SMPL-X parameters to SMPL's.

    Args:
        body: the SMPL-X body that the parameters belong to.
        smpl: the SMPL body to fit.
        transfer: carries SMPL-X's vertices to SMPL's: (SMPL vertices, SMPL-X vertices), or with as many columns again
            for vertex normals, which are not used.
        device: of torch.

    Raises:
        BodyModelError: the three do not fit each other.
    """

    def __init__(self, body: BodyModel, smpl: SmplModel, transfer: sparse.csr_matrix, device: str = "cpu") -> None:
        v, shape = len(body.v_template), tuple(transfer.shape or ())
        if shape not in ((len(smpl.v_template), v), (len(smpl.v_template), 2 * v)):
            raise BodyModelError(
                f"the transfer matrix is {shape}, expected ({len(smpl.v_template)}, {v} or {2 * v}): it must "
                "lead from the SMPL-X body that made the labels to the SMPL body"
            )
        self._body, self._smpl = body, smpl
        self._transfer: Any = sparse.csr_matrix(transfer[:, :v])
        self._device = device
        every = max(1, len(smpl.v_template) // _FITTED_VERTICES)
        self._ids = np.arange(0, len(smpl.v_template), every)
        self._some = _PosedVertices(smpl, self._ids, device)
        self._all = _PosedVertices(smpl, np.arange(len(smpl.v_template)), device)

    @classmethod
    def load(
        cls, body: BodyModel, smpl_path: str | Path, transfer_path: str | Path, device: str = "cpu"
    ) -> "SmplConverter":
        """From files.

        Raises:
            BodyModelError: a file is missing or not what it should be.
        """
        return cls(body, SmplModel.load(smpl_path), load_transfer(transfer_path), device)

    @cached_property
    def digest(self) -> str:
        """Of what the conversion depends on."""
        return digest([self._smpl, self._transfer.data, self._transfer.indices, self._transfer.indptr])

    def convert(self, params: BodyParams) -> SmplParams:
        """Fit SMPL to a batch of SMPL-X bodies; use some hundred bodies at a time."""
        carried = np.stack([self._transfer @ vertices.astype(np.float64) for vertices in self._vertices(params)])
        target = torch.tensor(carried, device=self._device)
        rotations, betas, transl = self._start(params, target)
        rotations, betas, transl = self._refine(rotations, betas, transl, target[:, self._ids])
        with torch.no_grad():
            reached = torch.vmap(self._all, chunk_size=16)(rotations, betas, transl)
        error = (reached - target).norm(dim=2).mean(dim=1)
        pose = matrix_to_axis_angle(rotations.cpu().numpy())
        return SmplParams(pose[:, 0], pose[:, 1:], betas.cpu().numpy(), transl.cpu().numpy(), error.cpu().numpy())

    def vertices(self, params: SmplParams) -> Float[np.ndarray, "n v 3"]:
        """SMPL's vertices, metres."""
        pose = np.concatenate([params.global_orient[:, None], params.body_pose], axis=1)
        arguments = (axis_angle_to_matrix(pose), params.betas, params.transl)
        with torch.no_grad():
            posed = torch.vmap(self._all, chunk_size=16)(*(torch.tensor(a, device=self._device) for a in arguments))
        return posed.cpu().numpy()

    def _vertices(self, params: BodyParams) -> Float[np.ndarray, "n v 3"]:
        return self._body.forward(params).vertices

    def _start(self, params: BodyParams, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """SMPL-X's rotations, the mean shape, and the translation that brings the middles together."""
        n = len(params)
        pose = np.zeros((n, _JOINTS, 3))
        pose[:, 0], pose[:, 1:_SHARED_JOINTS] = params.global_orient, params.body_pose
        rotations = torch.tensor(axis_angle_to_matrix(pose), device=self._device)
        betas = torch.zeros((n, _BETAS), dtype=torch.float64, device=self._device)
        zero = torch.zeros((n, 3), dtype=torch.float64, device=self._device)
        with torch.no_grad():
            posed = torch.vmap(self._some)(rotations, betas, zero)
        return rotations, betas, (target[:, self._ids] - posed).mean(dim=1)

    def _refine(
        self, rotations: Tensor, betas: Tensor, transl: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Levenberg-Marquardt on each body of the batch, until it has converged: its neighbours do not matter to it.

        A step that would make a body worse is not taken; the next one is shorter.
        """
        n = len(rotations)
        damping = torch.full((n,), _FIRST_DAMPING, dtype=torch.float64, device=self._device)
        cost = self._cost(rotations, betas, transl, target)
        left = torch.arange(n, device=self._device)
        for _ in range(_STEPS):
            now, aim = (rotations[left], betas[left], transl[left]), target[left]
            step = self._step(*now, aim, damping[left])
            moved = (_turned(now[0], step[:, :72]), now[1] + step[:, 72:82], now[2] + step[:, 82:])
            tried = self._cost(*moved, aim)
            better = tried < cost[left]
            gain = cost[left].sqrt() - tried.sqrt()
            taken = left[better]
            rotations[taken], betas[taken], transl[taken] = (values[better] for values in moved)
            cost[taken] = tried[better]
            damping[left] = torch.where(better, damping[left] / 10, damping[left] * 10).clamp(_LEAST_DAMPING, 1e3)
            left = left[~(better & (gain < _CONVERGED_M))]
            if not len(left):
                break
        return rotations, betas, transl

    def _cost(self, rotations: Tensor, betas: Tensor, transl: Tensor, target: Tensor) -> Float[Tensor, "n"]:
        """Mean squared distance and the shape prior, square metres."""
        with torch.no_grad():
            posed = torch.vmap(self._some)(rotations, betas, transl)
        return (posed - target).square().sum(dim=2).mean(dim=1) + (_SHAPE_PRIOR_M * betas).square().sum(dim=1)

    def _step(
        self, rotations: Tensor, betas: Tensor, transl: Tensor, target: Tensor, damping: Tensor
    ) -> Float[Tensor, "n 85"]:
        def residual(change: Tensor, turned: Tensor, shape: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
            # To first order, which is all that the derivative at zero sees.
            skew = _cross_matrices(change[:72].reshape(_JOINTS, 3))
            posed = self._some(turned + skew @ turned, shape + change[72:82], place + change[82:])
            return posed.reshape(-1), posed.reshape(-1)

        zero = torch.zeros((len(betas), 85), dtype=torch.float64, device=self._device)
        slopes = torch.vmap(torch.func.jacfwd(residual, has_aux=True), chunk_size=8)
        jacobian, posed = slopes(zero, rotations, betas, transl)
        count = target.shape[1]
        normal = jacobian.mT @ jacobian / count
        slope = (jacobian.mT @ (target.flatten(1) - posed)[..., None])[..., 0] / count
        prior = torch.zeros(85, dtype=torch.float64, device=self._device)
        prior[72:82] = _SHAPE_PRIOR_M**2
        slope[:, 72:82] -= _SHAPE_PRIOR_M**2 * betas
        diagonal = normal.diagonal(dim1=1, dim2=2)
        normal = normal + torch.diag_embed(prior + damping[:, None] * (diagonal + 1e-9))
        return torch.linalg.solve(normal, slope)


def load_transfer(path: str | Path) -> sparse.csr_matrix:
    """A transfer matrix: the array `mtx`, or the arrays of a CSR matrix as `scipy.sparse.save_npz` writes them.

    Raises:
        BodyModelError: the file is missing, a pickle, or holds neither.
    """
    arrays = _read_arrays(Path(path))
    if "mtx" in arrays and arrays["mtx"].ndim == 2:
        return sparse.csr_matrix(arrays["mtx"].astype(np.float64))
    if {"data", "indices", "indptr", "shape"} <= set(arrays):
        parts = (arrays["data"].astype(np.float64), arrays["indices"], arrays["indptr"])
        try:
            return sparse.csr_matrix(parts, shape=tuple(int(size) for size in arrays["shape"]))
        except ValueError as error:
            raise BodyModelError(f"{path}: not a CSR matrix ({error})") from error
    raise BodyModelError(
        f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; expected a matrix 'mtx', or 'data', 'indices', "
        "'indptr' and 'shape' of a CSR matrix"
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise BodyModelError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise BodyModelError(f"{path}: not a readable safetensors file ({error})") from error
    if path.suffix != ".npz":
        raise BodyModelError(f"{path}: expected npz or safetensors; pickles are not loaded, see docs/exports.md")
    try:
        with open_npz(path) as data:
            return dict(data)
    except (ArrayFileError, OSError) as error:
        raise BodyModelError(f"{path}: not a readable npz of plain arrays ({error}), see docs/exports.md") from error


def _shaped(arrays: dict[str, Any], key: str, shape: tuple[int | None, ...], path: object) -> np.ndarray:
    if key not in arrays:
        raise BodyModelError(f"{path}: no array {key!r}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    found = arrays[key].shape
    if len(found) != len(shape) or any(s not in (None, f) for s, f in zip(shape, found, strict=True)):
        expected = tuple("any" if s is None else s for s in shape)
        raise BodyModelError(f"{path}: {key} is {found}, expected {expected} (SMPL, not SMPL-X)")
    return arrays[key]


def _turned(rotations: Float[Tensor, "n 24 3 3"], change: Float[Tensor, "n 72"]) -> Float[Tensor, "n 24 3 3"]:
    """Rotations after small turns, axis-angle in radians."""
    return torch.matrix_exp(_cross_matrices(change.reshape(-1, _JOINTS, 3))) @ rotations


def _cross_matrices(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*vectors.shape[:-1], 3, 3)
