"""WebDataset tars as HMR2.0 (4D-Humans) trains from: per sample an image and its person.

The format wants SMPL. With a converter (`Subject.to_smpl`) each sample has SMPL parameters fitted to its SMPL-X body in
the camera frame; without one `has_body_pose` and `has_betas` are 0 and training uses the keypoints alone, because
SMPL-X's numbers are not SMPL's. SMPL-X's own parameters are there either way, under names that its readers ignore.

Its readers take `.data.pyd`, a pickled list of dictionaries: `Options.pickles`. Without it `.data.npz` holds the same
arrays, which `webdataset` decodes without pickle.
"""

import io
import tarfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from posedreamer_assets.export.pickles import dumps
from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, Shard

if TYPE_CHECKING:
    from posedreamer_assets.body.transfer import SmplParams

# OpenPose's 25 points among SMPL-X's joints and landmarks, as HMR2 takes them from SMPL's own joints.
_BODY_25 = np.array([55, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65])
# Then 19 points of other conventions that the table does not hold; HMR2 takes 3D points relative to the pelvis there.
_POINTS, _PELVIS = 44, 39
_BOX_UNIT, _BOX_PADDING = 200.0, 2.0


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`<shard>.tar`; equal samples give equal bytes."""
    with shard.file(f"{shard.name}.tar") as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for samples in batches:
            people = _people(samples, shard)
            for i, (name, image) in enumerate(zip(samples.image_names, samples.images, strict=True)):
                person = {key: np.asarray(values[i]) for key, values in people.items()}
                _add(tar, name, image)
                _add(tar, *_label(samples.ids[i], person, shard.options.pickles))


def _label(sample_id: str, person: dict[str, np.ndarray], pickles: bool) -> tuple[str, bytes]:
    if pickles:
        return f"{sample_id}.data.pyd", dumps([person | {"personid": 0, "extra_info": {}}])
    buffer = io.BytesIO()
    arrays: Any = person
    np.savez(buffer, **arrays)
    return f"{sample_id}.data.npz", buffer.getvalue()


def _people(samples: Samples, shard: Shard) -> dict[str, np.ndarray]:
    n = len(samples)
    params = samples.camera_params
    smpl = None if shard.subject.to_smpl is None else shard.subject.to_smpl.convert(params)
    box = samples.bbox
    keypoints2d, keypoints3d = np.zeros((n, _POINTS, 3), np.float32), np.zeros((n, _POINTS, 4), np.float32)
    keypoints2d[:, :25, :2] = samples.joints_px[:, _BODY_25]
    keypoints2d[:, :25, 2] = samples.in_frame[:, _BODY_25]
    # No confidence: 3D points are compared under definitions of joints that differ from SMPL-X's by centimetres.
    keypoints3d[:, :25, :3] = samples.joints_cam[:, _BODY_25]
    keypoints3d[:, _PELVIS, :3] = samples.joints_cam[:, 0]
    return {
        "keypoints_2d": keypoints2d,
        "keypoints_3d": keypoints3d,
        "center": (box[:, :2] + box[:, 2:] / 2).astype(np.float32),
        "scale": (box[:, 2:] * _BOX_PADDING / _BOX_UNIT).astype(np.float32),
        **_smpl(smpl, n),
        **{f"smplx_{name}": value for name, value in params.to_flat().items()},
        "cam_int": samples.intrinsics.astype(np.float32),
        "image_size": samples.size.astype(np.float32),
    }


def _smpl(smpl: "SmplParams | None", n: int) -> dict[str, np.ndarray]:
    known = np.full(n, smpl is not None, np.float32)
    if smpl is None:
        pose, betas, transl, error = np.zeros((n, 72)), np.zeros((n, 10)), np.zeros((n, 3)), np.full(n, np.nan)
    else:
        pose = np.concatenate([smpl.global_orient, smpl.body_pose.reshape(n, 69)], axis=1)
        betas, transl, error = smpl.betas, smpl.transl, smpl.error_m
    return {
        "body_pose": pose.astype(np.float32),
        "betas": betas.astype(np.float32),
        "has_body_pose": known,
        "has_betas": known,
        "smpl_transl": transl.astype(np.float32),
        "smpl_fit_error_m": error.astype(np.float32),
    }


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


HMR2 = Format("hmr2", "WebDataset tars (HMR2.0, 4D-Humans)", 1_000, write, reads_pickles=True)
