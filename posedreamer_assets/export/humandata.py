"""HumanData, the label file of MMHuman3D and SMPLer-X, and images beside it.

`smplx` is in the camera frame, translation included. A HumanData file keeps dictionaries in an npz, which NumPy can only
do by pickling: its own readers need `Options.pickles`. Without it the same arrays lie side by side under the names
`smplx/global_orient`, `meta/height` and so on, and load with `allow_pickle=False`.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from posedreamer_assets.export.columns import Columns, save_npz
from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, Shard

# The convention HUMAN_DATA has 190 points; its first 76 are SMPL-X's joints and landmarks in smplx's order.
_POINTS, _KNOWN = 190, 76
_GROUPS = ("smplx", "meta", "misc")


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`<shard>.npz` and the images."""
    columns = Columns()
    for samples in batches:
        columns.add(image_path=np.array(shard.put_images(samples)), **_labels(samples, shard))
    arrays: dict[str, Any] = columns.arrays()
    count = len(arrays["image_path"])
    mask = np.zeros(_POINTS, np.uint8)
    mask[:_KNOWN] = 1
    arrays |= {"keypoints2d_smplx_mask": mask, "keypoints3d_smplx_mask": mask}
    arrays |= {f"misc/{name}": value for name, value in _misc(shard).items()}
    arrays |= {"config": np.array("posedreamer"), "__data_len__": np.array(count)}
    arrays |= {"__keypoints_compressed__": np.array(False), "__key_strict__": np.array(False)}
    save_npz(shard, f"{shard.name}.npz", _nested(arrays) if shard.options.pickles else arrays)


def _labels(samples: Samples, shard: Shard) -> dict[str, np.ndarray]:
    n = len(samples)
    params = shard.subject.hands(samples.camera_params)
    names = ("global_orient", "body_pose", "betas", "transl", "left_hand_pose", "right_hand_pose")
    smplx = {name: getattr(params, name) for name in (*names, "expression", "leye_pose", "reye_pose", "jaw_pose")}
    keypoints2d, keypoints3d = np.zeros((n, _POINTS, 3), np.float32), np.zeros((n, _POINTS, 4), np.float32)
    keypoints2d[:, :_KNOWN, :2], keypoints2d[:, :_KNOWN, 2] = samples.joints_px, samples.in_front
    keypoints3d[:, :_KNOWN, :3], keypoints3d[:, :_KNOWN, 3] = samples.joints_cam, 1
    size, matrix = samples.size.astype(np.int64), samples.intrinsics.astype(np.float32)
    meta = {
        "height": size[:, 1],
        "width": size[:, 0],
        "focal_length": matrix[:, [0, 1], [0, 1]],
        "principal_point": matrix[:, :2, 2],
        "gender": np.full(n, "neutral"),
    }
    return {
        "image_id": np.array(samples.ids),
        "bbox_xywh": np.concatenate([samples.bbox, np.ones((n, 1))], axis=1).astype(np.float32),
        "keypoints2d_smplx": keypoints2d,
        "keypoints3d_smplx": keypoints3d,
        **{f"smplx/{name}": value for name, value in smplx.items()},
        **{f"meta/{name}": value for name, value in meta.items()},
    }


def _misc(shard: Shard) -> dict[str, np.ndarray]:
    return {
        "flat_hand_mean": np.array(shard.subject.mean_hands is None),
        "kps3d_root_aligned": np.array(False),
        "bbox_body_scale": np.array(1.0),
        "smplx_frame": np.array("camera"),
        "bbox_source": np.array("silhouette"),
    }


def _nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """The dictionaries of a HumanData file in place of the flat names."""
    nested: dict[str, Any] = {group: {} for group in _GROUPS}
    for name, value in arrays.items():
        group, slash, inner = name.partition("/")
        if not slash:
            nested[name] = value
        elif group == "misc":
            nested[group][inner] = value.item()
        else:
            nested[group][inner] = value.tolist() if inner in ("gender", "height", "width") else value
    return nested


HUMANDATA = Format("humandata", "HumanData npz (MMHuman3D, SMPLer-X)", 10_000, write, reads_pickles=True)
