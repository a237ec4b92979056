"""A differentiable body in torch: joints without vertices, and skinning of some vertices or of all.

Joints are linear in shape before they are posed (J_regressor applied to template and shape directions), so the chain needs no
vertex. With hands, jaw and eyes at rest their joints move with wrist and head, and their skinning weights are added to
those: 22 transforms in place of 55, and the same vertices.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posedreamer_assets.body.joints import PARENTS
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.students.labels import BODY_JOINTS

_CHUNK = 32  # bodies whose vertices are held at once


class TorchBody:
    """A body at rest but for the joints that are given.

    Args:
        body: in SMPL-X format.
        every: skins every so many vertices; 1 skins all.
        joints: 22, or 55 for hands, jaw and eyes as well.
        dtype: of all that is computed.
        device: where it is computed.
    """

    def __init__(
        self,
        body: BodyModel,
        every: int = 1,
        joints: int = BODY_JOINTS,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        def tensor(values: np.ndarray) -> Tensor:
            return torch.tensor(np.ascontiguousarray(values), dtype=dtype, device=device)

        chosen = np.arange(0, len(body.v_template), every)
        self.joints, self.count = joints, len(chosen)
        regressor = body.J_regressor.astype(np.float64)[:joints]
        self._rest = tensor(regressor @ body.v_template)
        self._rest_by_shape = tensor(np.einsum("jv,vck->jck", regressor, body.shapedirs))
        self._template, self._shape = tensor(body.v_template[chosen]), tensor(body.shapedirs[chosen])
        self._weights = tensor(_folded(body.weights, joints)[chosen])
        self._pose = None
        if body.posedirs is not None:
            of_joints = body.posedirs[: 9 * (joints - 1)].reshape(9 * (joints - 1), -1, 3)[:, chosen]
            self._pose = tensor(of_joints.reshape(len(of_joints), -1))
        self._levels = _levels(joints)

    def __call__(
        self, rotations: Float[Tensor, "n j 3 3"], betas: Float[Tensor, "n 10"]
    ) -> tuple[Float[Tensor, "n j 3"], Float[Tensor, "n v 3"]]:
        """Joints and vertices relative to the root joint, metres, in the frame of the root's rotation."""
        rest = self.rest(betas)
        turned, placed = self._chain(rotations, rest)
        shaped = self._template + torch.einsum("vck,nk->nvc", self._shape, betas)
        if self._pose is not None:
            feature = rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            shaped = shaped + (feature.flatten(1) @ self._pose).view(shaped.shape)
        offset = placed - (turned @ rest[..., None])[..., 0]
        blended = self._weights @ torch.cat([turned, offset[..., None]], -1).flatten(2)
        blended = blended.view(len(betas), self.count, 3, 4)
        vertices = (blended[..., :3] * shaped[:, :, None]).sum(-1) + blended[..., 3]
        return placed, vertices

    def posed_joints(self, rotations: Float[Tensor, "n j 3 3"], betas: Float[Tensor, "n 10"]) -> Float[Tensor, "n j 3"]:
        """The joints alone."""
        return self._chain(rotations, self.rest(betas))[1]

    def rest(self, betas: Float[Tensor, "n 10"]) -> Float[Tensor, "n j 3"]:
        """Joints before they are posed, metres, in the body's own frame."""
        return self._rest + torch.einsum("jck,nk->njc", self._rest_by_shape, betas)

    def _chain(
        self, rotations: Float[Tensor, "n j 3 3"], rest: Float[Tensor, "n j 3"]
    ) -> tuple[Float[Tensor, "n j 3 3"], Float[Tensor, "n j 3"]]:
        """Rotation and place of each joint, the root at zero; joints of one depth together."""
        found: dict[int, tuple[Tensor, Tensor]] = {0: (rotations[:, 0], torch.zeros_like(rest[:, 0]))}
        for joints, parents in self._levels:
            above = torch.stack([found[p][0] for p in parents], 1)
            at = torch.stack([found[p][1] for p in parents], 1)
            bones = rest[:, joints] - rest[:, parents]
            rotated = above @ rotations[:, joints]
            moved = at + (above @ bones[..., None])[..., 0]
            found |= {joint: (rotated[:, i], moved[:, i]) for i, joint in enumerate(joints)}
        order = range(self.joints)
        return torch.stack([found[j][0] for j in order], 1), torch.stack([found[j][1] for j in order], 1)


def all_vertices(
    body: TorchBody, rotations: Float[np.ndarray, "n j 3 3"], betas: Float[np.ndarray, "n 10"]
) -> tuple[Float[np.ndarray, "n j 3"], Float[np.ndarray, "n v 3"]]:
    """Joints and vertices relative to the root joint, metres, some bodies at a time."""
    joints, vertices = [], []
    with torch.no_grad():
        for start in range(0, len(betas), _CHUNK):
            part = slice(start, start + _CHUNK)
            j, v = body(torch.tensor(rotations[part]).float(), torch.tensor(betas[part]).float())
            joints.append(j.numpy())
            vertices.append(v.numpy())
    return np.concatenate(joints), np.concatenate(vertices)


def _folded(weights: np.ndarray, joints: int) -> Float[np.ndarray, "v j"]:
    """Weights of joints that are left out, given to the nearest joint above them."""
    folded = weights.astype(np.float64).copy()
    for joint in range(len(PARENTS) - 1, joints - 1, -1):
        folded[:, PARENTS[joint]] += folded[:, joint]
    return folded[:, :joints]


def _levels(joints: int) -> list[tuple[list[int], list[int]]]:
    """Joints and their parents by depth below the root."""
    depth = [0] * joints
    for joint in range(1, joints):
        depth[joint] = depth[PARENTS[joint]] + 1
    levels: Sequence[list[int]] = [[j for j in range(joints) if depth[j] == d] for d in range(1, max(depth) + 1)]
    return [(own, [PARENTS[j] for j in own]) for own in levels]
