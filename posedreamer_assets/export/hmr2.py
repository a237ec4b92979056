"""WebDataset tars as HMR2.0 (4D-Humans) trains from: per image the picture and a list of its people.

The format wants SMPL. With a converter (`Subject.to_smpl`) each sample has SMPL parameters fitted to its SMPL-X body in
the camera frame. Without one there are keypoints alone, because SMPL-X's numbers are not SMPL's, and `has_body_pose` and
`has_betas` are 0. 4D-Humans' own configuration (`DATASETS.BETAS_REG: True`) does not respect `has_betas`: it puts betas of
zero in their place and trains on them, and no mark in a file keeps it from that. So such tars are written on request alone
(`Options.keypoints_only`). SMPL-X's own parameters are there either way, under names that its readers ignore.

Its readers take `.data.pyd`, a pickled list of dictionaries. With `Options.pickles` off, `.data.npz` holds the same arrays,
people first, which `webdataset` decodes without pickle and 4D-Humans does not look for.

Pixels have (0, 0) in the centre of the first pixel: the readers flip with w - 1 - x.
"""

import io
import tarfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.pickles import dumps
from posedreamer_assets.export.samples import HALF_PIXEL, Samples
from posedreamer_assets.export.shards import Format, LabelFiles, Options, Shard
from posedreamer_assets.export.subject import Subject
from posedreamer_assets.tables.rows import array

if TYPE_CHECKING:
    from posedreamer_assets.body.transfer import SmplParams

# OpenPose's 25 points among SMPL-X's joints and landmarks, as HMR2 takes them from SMPL's own joints.
_BODY_25 = np.array([55, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65])
# Then 19 points of other conventions that the table does not hold; HMR2 takes 3D points relative to the pelvis there.
_POINTS, _PELVIS = 44, 39
# `scale`: width and height of the box that the reader crops to, in units of 200 pixels; it widens them to 3 : 4 and takes a
# square of the longer side. Its own data sets have boxes 1.2 times the person's.
BOX_UNIT, BOX_PADDING = 200.0, 1.2


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`<shard>.tar`; equal samples give equal bytes."""
    with shard.file(f"{shard.name}.tar") as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for samples in batches:
            arrays = _people(samples, shard)
            for image, rows in samples.people.items():
                _add(tar, samples.picture_names[image], samples.pictures[image])
                people = {key: values[rows] for key, values in arrays.items()} | shard.subject.identity.arrays()
                _add(tar, *_label(image, people, len(rows), shard.options.pickles))


def _label(image: str, people: dict[str, np.ndarray], count: int, pickles: bool) -> tuple[str, bytes]:
    if pickles:
        listed = [{key: np.asarray(v[i]) if v.ndim else v.item() for key, v in people.items()} for i in range(count)]
        return f"{image}.data.pyd", dumps([{**p, "personid": int(p["personid"]), "extra_info": {}} for p in listed])
    buffer = io.BytesIO()
    arrays: Any = people
    np.savez(buffer, **arrays)
    return f"{image}.data.npz", buffer.getvalue()


def _people(samples: Samples, shard: Shard) -> dict[str, np.ndarray]:
    n = len(samples)
    params = samples.camera_params
    smpl = None if shard.subject.to_smpl is None else shard.subject.to_smpl.convert(params)
    box = samples.bbox
    keypoints2d, keypoints3d = np.zeros((n, _POINTS, 3), np.float32), np.zeros((n, _POINTS, 4), np.float32)
    keypoints2d[:, :25, :2] = samples.joints_index[:, _BODY_25]
    keypoints2d[:, :25, 2] = samples.in_frame[:, _BODY_25]
    # No confidence: 3D points are compared under definitions of joints that differ from SMPL-X's by centimetres.
    keypoints3d[:, :25, :3] = samples.joints_cam[:, _BODY_25]
    keypoints3d[:, _PELVIS, :3] = samples.joints_cam[:, 0]
    return {
        "personid": array(samples.rows, "person").astype(np.int64),
        "keypoints_2d": keypoints2d,
        "keypoints_3d": keypoints3d,
        "center": (box[:, :2] + box[:, 2:] / 2 - HALF_PIXEL).astype(np.float32),
        "scale": (box[:, 2:] * BOX_PADDING / BOX_UNIT).astype(np.float32),
        **_smpl(smpl, n),
        **{f"smplx_{name}": value for name, value in params.to_flat().items()},
        "cam_int": samples.intrinsics_index.astype(np.float32),
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


def _check(options: Options, subject: Subject) -> None:
    """Raises ExportError where there would be no SMPL body and nobody asked for that."""
    if subject.to_smpl is None and not options.keypoints_only:
        raise ExportError(
            "hmr2: there is no SMPL body without --smpl and --smpl-transfer. 4D-Humans as it is published "
            "(DATASETS.BETAS_REG: True) would train on a mean shape in the place of the missing one. Give the files, or "
            "write keypoints alone with --keypoints-only, and train with DATASETS.BETAS_REG: False"
        )


def _notes(options: Options, subject: Subject) -> list[str]:
    notes = []
    if subject.to_smpl is None:
        notes.append(
            "**Keypoints alone**: there is no SMPL body in these tars, `has_body_pose` and `has_betas` are 0. Train with "
            "`DATASETS.BETAS_REG: False`; with `True`, which 4D-Humans' experiments have, a mean shape is trained as truth."
        )
    if options.pickles:
        notes.append(
            "**`.data.pyd` are pickles**, because 4D-Humans reads nothing else. Python runs what a pickle says: load files of "
            "whom you trust. `--no-pickle` writes `.data.npz` instead."
        )
    else:
        notes.append(
            "**`.data.npz` instead of `.data.pyd`**: 4D-Humans' loader needs a line changed, see docs/exports.md."
        )
    return notes


HMR2 = Format(
    "hmr2",
    "WebDataset tars (HMR2.0, 4D-Humans)",
    1_000,
    write,
    pixels="(0, 0) is the centre of the first pixel",
    labels=LabelFiles(
        "*.data.{suffix}",
        about="a list of people for each image: keypoints_2d, keypoints_3d, center, scale, body_pose, betas, has_body_pose, "
        "has_betas, smplx_*, cam_int, body_*",
    ),
    reads_pickles=True,
    check=_check,
    notes=_notes,
)
