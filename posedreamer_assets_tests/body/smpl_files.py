"""An SMPL-format body made from the free body, so that the way from SMPL-X to SMPL can be tested without licensed files.

It has the free body's mesh, or every k-th vertex of it, SMPL's 24 joints, and fingers, jaw and eyes that do not move of
their own: an SMPL-X body with flat hands and a still face is exactly one of its bodies.
"""

from pathlib import Path

import numpy as np
from scipy import sparse

from posedreamer_assets.body.joints import PARENTS
from posedreamer_assets.body.model import BodyModel

_HANDS = {22: 28, 23: 43}  # SMPL's hands lie where SMPL-X's middle fingers begin


def write_smpl(path: Path, body: BodyModel, every: int = 1) -> np.ndarray:
    """Write the body; returns the ids of its vertices on the SMPL-X mesh."""
    ids = np.arange(0, len(body.v_template), every)
    sources = [*range(22), *_HANDS.values()]
    weights = np.zeros((len(ids), 24))
    for joint in range(55):
        weights[:, _smpl_joint(joint)] += body.weights[ids, joint]
    # Joints depend on all vertices; the least-squares regressor over the kept ones gives the same joints.
    basis = np.concatenate([body.v_template[..., None], body.shapedirs], axis=2)
    joints = np.einsum("jv,vck->jck", body.J_regressor[sources], basis).reshape(24, -1)
    space = np.concatenate([basis[ids].reshape(len(ids), -1), np.ones((len(ids), 1))], axis=1)
    wanted = np.concatenate([joints, np.ones((24, 1))], axis=1)
    regressor = np.linalg.lstsq(space.T, wanted.T, rcond=None)[0].T
    parents = [0, *PARENTS[1:22], 20, 21]
    np.savez(
        path,
        v_template=body.v_template[ids],
        shapedirs=body.shapedirs[ids],
        posedirs=np.zeros((len(ids), 3, 207)),
        J_regressor=regressor,
        weights=weights,
        kintree_table=np.stack([parents, np.arange(24)]),
        f=body.faces if every == 1 else np.zeros((1, 3), np.int64),
    )
    return ids


def write_transfer(path: Path, ids: np.ndarray, vertices: int) -> None:
    """The matrix that picks these vertices, with columns for normals as the published one has."""
    matrix = sparse.csr_matrix((np.ones(len(ids)), (np.arange(len(ids)), ids)), shape=(len(ids), 2 * vertices))
    sparse.save_npz(path, matrix)


def _smpl_joint(joint: int) -> int:
    if joint < 22:
        return joint
    return 15 if joint < 25 else (22 if joint < 40 else 23)
