"""YOLO pose labels (Ultralytics): a text file for each image, a line for each person, numbers between 0 and 1.

A line is the class, the box's centre and size, and x, y, v of COCO's 17 keypoints; v is 2 for seen, 1 for hidden, 0 (with
x = y = 0) for outside of the image. Everything is a share of the image's width or height from its corner: the reader flips
with 1 - x. `data.yaml` names the folders of the splits, and which keypoints change sides in a mirror.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from posedreamer_assets.body.joints import COCO17, COCO17_FROM_SMPLX
from posedreamer_assets.export.samples import Samples
from posedreamer_assets.export.shards import Format, LabelFiles, Shard
from posedreamer_assets.export.subject import Subject

DESCRIPTION = "data.yaml"


def write(batches: Iterable[Samples], shard: Shard) -> None:
    """`images/<split>/<image id>.png` or `.jpg`, and `labels/<split>/<image id>.txt`."""
    for samples in batches:
        shard.put_images(samples, f"images/{shard.split}")
        for image, people in samples.people.items():
            lines = "".join(f"{_line(samples, i)}\n" for i in people)
            shard.put(f"labels/{shard.split}/{image}.txt", lines.encode())


def _line(samples: Samples, i: int) -> str:
    size = samples.size[i]
    low = np.clip(samples.bbox[i, :2] / size, 0.0, 1.0)
    high = np.clip((samples.bbox[i, :2] + samples.bbox[i, 2:]) / size, 0.0, 1.0)
    words = ["0", *(f"{v:.6f}" for v in (*((low + high) / 2), *(high - low)))]
    for point in COCO17_FROM_SMPLX:
        if samples.in_frame[i, point]:
            x, y = samples.joints_px[i, point] / size
            words += [f"{x:.6f}", f"{y:.6f}", "2" if samples.visible[i, point] else "1"]
        else:
            words += ["0", "0", "0"]
    return " ".join(words)


def texts(splits: Sequence[str], subject: Subject) -> dict[str, str]:
    """`data.yaml`. Readers want a `train` and a `val`: a split that is not here is stood in for by one that is."""
    body = subject.identity
    told = f"{body.name}, {body.vertices} vertices, sha256 {body.sha256}, licence {body.licence}"
    lines = [
        f"# Body of the labels: {' '.join(told.split())}",
        *(f"{wanted}: images/{_stand_in(wanted, splits)}" for wanted in ("train", "val")),
        *(f"{split}: images/{split}" for split in splits if split not in ("train", "val")),
        *(f"# no rows are of split {wanted}" for wanted in ("train", "val") if wanted not in splits),
        f"kpt_shape: [{len(COCO17)}, 3]",
        f"flip_idx: {[COCO17.index(_mirrored(name)) for name in COCO17]}",
        "names:",
        "  0: person",
    ]
    return {DESCRIPTION: "\n".join(lines) + "\n"}


def _stand_in(wanted: str, splits: Sequence[str]) -> str:
    order = [wanted, *(("val", "test", "train") if wanted == "val" else ("train", "val", "test")), *splits]
    return next(split for split in order if split in splits)


def _mirrored(name: str) -> str:
    side, _, rest = name.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


YOLO = Format(
    "yolo",
    "YOLO pose labels",
    1_000,
    write,
    pixels="shares of width and height; (0, 0) is the corner of the image",
    labels=LabelFiles(
        "labels/**/*.txt",
        "text/plain",
        about="class, box and 17 keypoints with visibility; see data.yaml",
        per_image=True,
    ),
    texts=texts,
)
