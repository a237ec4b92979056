"""A few small pictures of a partition, for where its figures are shown."""

import numpy as np
import pyarrow as pa

from posedreamer_assets.body.joints import COCO17_FROM_SMPLX
from posedreamer_assets.body.model import BodyModel
from posedreamer_assets.render.drawing import draw_keypoints
from posedreamer_assets.tables.images import decode_all
from posedreamer_assets.tables.rows import bodies, cameras, points

MOST = 12
_SIDE = 192  # pixels of a stick figure's larger side
_PAPER = 244  # grey


def stick_figures(poses: pa.Table, body: BodyModel, most: int = MOST) -> np.ndarray:
    """The first poses as their cameras see them, COCO's skeleton on paper: (n, h, w, 3)."""
    some = poses.slice(0, most)
    views = cameras(some)
    seen = views.project(body.joints(bodies(some))[:, COCO17_FROM_SMPLX])
    scale = _SIDE / max(views.height, views.width)
    paper = np.full((round(views.height * scale), round(views.width * scale), 3), _PAPER, np.uint8)
    return np.stack([draw_keypoints(paper, figure * scale, factor=1) for figure in seen])


def detections(scores: pa.Table, generations: pa.Table, most: int = MOST) -> np.ndarray:
    """The first images with what the judge saw in them; rows of one partition in one order: (n, h, w, 3)."""
    pictures = decode_all(generations.column("image").slice(0, most).to_pylist())
    found = points(scores.slice(0, most), "detected", 3)
    return np.stack([draw_keypoints(image, person) for image, person in zip(pictures, found, strict=True)])
