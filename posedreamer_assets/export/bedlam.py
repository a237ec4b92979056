"""Label files as BEDLAM's data_processing writes them, and images beside them.

`pose_cam` and `trans_cam` have the camera's rotation folded in, not its translation: a reader adds `cam_ext[:3, 3]`.
Plain arrays; nothing is pickled. Has no expression of its own: `expression` is an extra array that its readers ignore, as
are the arrays `body_*`, which name the body.

Pixels are the table's: the reader cuts between pixels, scales areas, and projects about width / 2, so (0, 0) is a corner.
"""

from collections.abc import Iterable

import numpy as np

from posedreamer_assets.export.columns import Columns, save_npz
from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, LabelFiles, Shard

_BODY_JOINTS = 22
_KEYPOINTS = 127  # smplx's output: 55 joints, 21 landmark vertices, 51 points of the face
_BOX_PADDING = 1.2
_BOX_UNIT = 200.0


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`<shard>.npz` and the images."""
    columns = Columns()
    for samples in batches:
        shard.put_images(samples)
        columns.add(imgname=np.array(samples.image_names), **_labels(samples, shard))
    save_npz(shard, f"{shard.name}.npz", columns.arrays() | shard.subject.identity.arrays())


def _labels(samples: Samples, shard: Shard) -> dict[str, np.ndarray]:
    n = len(samples)
    pose = shard.subject.hands(samples.params).full_pose().astype(np.float64).reshape(n, 165)
    extrinsics = np.tile(np.eye(4), (n, 1, 1))
    extrinsics[:, :3, :3], extrinsics[:, :3, 3] = samples.rotation, samples.translation
    center, scale = _box(samples)
    return {
        "center": center,
        "scale": scale,
        "pose_cam": np.concatenate([samples.camera_orient, pose[:, 3:]], axis=1),
        "pose_world": pose,
        "shape": samples.params.betas.astype(np.float64),
        "trans_cam": samples.turned_transl,
        "trans_world": samples.params.transl.astype(np.float64),
        "gtkps": _keypoints(samples),
        "cam_int": samples.intrinsics,
        "cam_ext": extrinsics,
        "gender": np.full(n, "neutral"),
        "sub": np.array(samples.rows.column("partition_key").to_pylist(), dtype=str),
        "motion_info": np.array(samples.rows.column("provenance").to_pylist(), dtype=str),
        "expression": samples.params.expression.astype(np.float64),
    }


def _keypoints(samples: Samples) -> np.ndarray:
    """(n, 127, 3): pixels and 1; zeros for the face's points, which the table does not hold, and behind the camera."""
    keypoints = np.zeros((len(samples), _KEYPOINTS, 3))
    keypoints[:, :76, :2] = samples.joints_px
    keypoints[:, :76, 2] = samples.in_front
    return keypoints


def _box(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Centre, and side / 200, of a square about the body joints in the image, a fifth larger than they need."""
    centers, scales = np.zeros((len(samples), 2)), np.zeros(len(samples))
    for i in range(len(samples)):
        seen = samples.joints_px[i, :_BODY_JOINTS][samples.in_frame[i, :_BODY_JOINTS]]
        if not len(seen):  # only hands or face are in the image
            x, y, w, h = samples.bbox[i]
            seen = np.array([[x, y], [x + w, y + h]])
        low, high = seen.min(axis=0), seen.max(axis=0)
        centers[i], scales[i] = (low + high) / 2, (high - low).max() / _BOX_UNIT * _BOX_PADDING
    return centers, scales


_LABELS = LabelFiles(
    "*.npz",
    about="npz of plain arrays, a row for each person: imgname, center, scale, pose_cam, pose_world, shape, trans_cam, "
    "trans_world, gtkps, cam_int, cam_ext, gender, sub, motion_info, expression, body_*",
)
BEDLAM = Format("bedlam", "BEDLAM-style npz", 10_000, write, pixels="(0, 0) is the corner of the image", labels=_LABELS)
