"""HumanData, the label file of MMHuman3D and SMPLer-X, and images where MMHuman3D looks for them.

`smplx` is in the camera frame, translation included. A HumanData file keeps dictionaries in an npz, which NumPy can only
do by pickling, and no reader of the format takes another form: that is what is written. With `Options.pickles` off, the same
arrays lie side by side under the names `smplx/global_orient`, `meta/height` and so on; they load with `allow_pickle=False`,
and the readers named above find no labels in them.

Pixels have (0, 0) in the centre of the first pixel: both readers flip with w - 1 - x. Boxes count whole pixels (x, y: the
first; w, h: how many), are 1.2 times the silhouette's and end at the image's border, as SMPLer-X expects.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from posedreamer_assets.export.columns import Columns, save_npz
from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, LabelFiles, Options, Shard
from posedreamer_assets.export.subject import Subject

# The convention HUMAN_DATA has 190 points; its first 76 are SMPL-X's joints and landmarks in smplx's order.
_POINTS, _KNOWN = 190, 76
_GROUPS = ("smplx", "meta", "misc")
# MMHuman3D: <data_prefix>/preprocessed_datasets/<ann_file> and <data_prefix>/datasets/<dataset_name>/<image_path>.
LABELS, IMAGES = "preprocessed_datasets", "datasets/posedreamer"
BOX_PADDING = 1.2


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`preprocessed_datasets/<shard>.npz`, a row for each person, and the images below `datasets/posedreamer`."""
    columns = Columns()
    for samples in batches:
        shard.put_images(samples, IMAGES)
        columns.add(image_path=np.array(samples.image_names), **_labels(samples, shard))
    arrays: dict[str, Any] = columns.arrays()
    count = len(arrays["image_path"])
    mask = np.zeros(_POINTS, np.uint8)
    mask[:_KNOWN] = 1
    for kind in ("keypoints2d", "keypoints3d"):
        arrays |= {f"{kind}_mask": mask, f"{kind}_convention": np.array("human_data")}
    arrays |= {f"misc/{name}": value for name, value in _misc(shard).items()}
    # Releases of MMHuman3D differ in the name of the length.
    arrays |= {"config": np.array("posedreamer"), "__data_len__": np.array(count), "__temporal_len__": np.array(count)}
    arrays |= {"__keypoints_compressed__": np.array(False), "__key_strict__": np.array(False)}
    save_npz(shard, f"{LABELS}/{shard.name}.npz", _nested(arrays) if shard.options.pickles else arrays)


def _labels(samples: Samples, shard: Shard) -> dict[str, np.ndarray]:
    n = len(samples)
    params = shard.subject.hands(samples.camera_params)
    names = ("global_orient", "body_pose", "betas", "transl", "left_hand_pose", "right_hand_pose")
    smplx = {name: getattr(params, name) for name in (*names, "expression", "leye_pose", "reye_pose", "jaw_pose")}
    keypoints2d, keypoints3d = np.zeros((n, _POINTS, 3), np.float32), np.zeros((n, _POINTS, 4), np.float32)
    keypoints2d[:, :_KNOWN, :2], keypoints2d[:, :_KNOWN, 2] = samples.joints_index, samples.in_front
    keypoints3d[:, :_KNOWN, :3], keypoints3d[:, :_KNOWN, 3] = samples.joints_cam, 1
    size, matrix = samples.size.astype(np.int64), samples.intrinsics_index.astype(np.float32)
    meta = {
        "height": size[:, 1],
        "width": size[:, 0],
        "focal_length": matrix[:, [0, 1], [0, 1]],
        "principal_point": matrix[:, :2, 2],
        "gender": np.full(n, "neutral"),
    }
    return {
        "image_id": np.array(samples.image_ids),
        "sample_id": np.array(samples.ids),
        "bbox_xywh": np.concatenate([samples.padded_bbox(BOX_PADDING), np.ones((n, 1))], axis=1).astype(np.float32),
        "keypoints2d": keypoints2d,
        "keypoints3d": keypoints3d,
        **{f"smplx/{name}": value for name, value in smplx.items()},
        **{f"meta/{name}": value for name, value in meta.items()},
    }


def _misc(shard: Shard) -> dict[str, np.ndarray]:
    return {
        "flat_hand_mean": np.array(shard.subject.mean_hands is None),
        "kps3d_root_aligned": np.array(False),
        "bbox_body_scale": np.array(BOX_PADDING),
        "smplx_frame": np.array("camera"),
        "bbox_source": np.array("silhouette"),
        "pixels": np.array(HUMANDATA.pixels),
        **shard.subject.identity.arrays(),
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


def _notes(options: Options, subject: Subject) -> list[str]:
    read_by = "MMHuman3D's `HumanImageSMPLXDataset` and SMPLer-X's `HumanDataset`"
    if options.pickles:
        notes = [
            f"**These npz hold pickles**, because {read_by} read nothing else. NumPy runs what a pickle says: load files of "
            "whom you trust. `--no-pickle` writes plain arrays."
        ]
    else:
        notes = [
            f"**Plain arrays**, without pickles: {read_by} find no labels in them. Export without `--no-pickle` for them."
        ]
    if subject.mean_hands is None:
        return [*notes, "Hands are relative to the flat hand (`misc.flat_hand_mean` is true)."]
    return [*notes, "Hands are relative to the mean hand of the body's file (`misc.flat_hand_mean` is false)."]


HUMANDATA = Format(
    "humandata",
    "HumanData npz (MMHuman3D, SMPLer-X)",
    10_000,
    write,
    pixels="(0, 0) is the centre of the first pixel; boxes count whole pixels",
    labels=LabelFiles(
        f"{LABELS}/*.npz",
        about="HumanData, a row for each person: image_path, image_id, sample_id, bbox_xywh, keypoints2d, keypoints3d, smplx, "
        "meta, misc",
        images=IMAGES,
    ),
    reads_pickles=True,
    notes=_notes,
)
