"""A few small pictures of a partition, for where its figures are shown."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from posedreamer_assets.tables.rows import bodies, cameras

if TYPE_CHECKING:
    from posedreamer_assets.body.model import BodyModel

MOST = 12
_SIDE = 192  # pixels of a stick figure's larger side
_PAPER = 244  # grey


def stick_figures(poses: pa.Table, body: "BodyModel", most: int = MOST) -> np.ndarray:
    """The first poses as their cameras see them, COCO's skeleton on paper: (n, h, w, 3)."""
    from posedreamer_assets.body.joints import COCO17_FROM_SMPLX
    from posedreamer_assets.render.drawing import draw_keypoints

    some = poses.slice(0, most)
    views = cameras(some)
    seen = views.project(body.joints(bodies(some))[:, COCO17_FROM_SMPLX])
    scale = _SIDE / max(views.height, views.width)
    paper = np.full((round(views.height * scale), round(views.width * scale), 3), _PAPER, np.uint8)
    return np.stack([draw_keypoints(paper, figure * scale, factor=1) for figure in seen])


def detections(images: np.ndarray, detected: np.ndarray, most: int = MOST) -> np.ndarray:
    """The first images (n, h, w, 3) with the keypoints (n, 17, 3) that were seen in them."""
    from posedreamer_assets.render.drawing import draw_keypoints

    return np.stack([draw_keypoints(*seen) for seen in zip(images[:most], detected[:most], strict=True)])


def with_keypoints(image: np.ndarray, keypoints: np.ndarray | None) -> np.ndarray:
    """An image (h, w, 3) with its keypoints (17, 2), no larger than `_SIDE`."""
    from PIL import Image

    from posedreamer_assets.render.drawing import draw_keypoints

    if keypoints is not None:
        image = draw_keypoints(image, keypoints, np.all(np.isfinite(keypoints), axis=1), factor=1)
    shown = Image.fromarray(image)
    shown.thumbnail((_SIDE, _SIDE))
    return np.asarray(shown)
