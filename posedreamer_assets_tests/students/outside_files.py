"""Small files of test sets with known truth: people whose keypoints are coloured dots in their images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams

SIZE = (400, 300)
MATRIX = np.array([[520.0, 0, 190], [0, 500.0, 160], [0, 0, 1]])


def params_of(seed: int, depth: float = 4.0) -> BodyParams:
    """A body that stands upright before the camera, to one side."""
    rng = np.random.default_rng(seed)
    body = BodyParams.zeros(1)
    return body.replace(
        global_orient=np.array([[np.pi, 0.05, 0.02 * seed]], np.float32),
        body_pose=rng.normal(0, 0.15, (1, 21, 3)).astype(np.float32),
        betas=rng.normal(0, 0.5, (1, 10)).astype(np.float32),
        transl=np.array([[0.7 - 0.3 * seed, 0.1, depth]], np.float32),
    )


def pixels_of(points: np.ndarray) -> np.ndarray:
    flat = points @ MATRIX.T
    return flat[..., :2] / flat[..., 2:]


def draw(path: Path, pixels: np.ndarray, colours: list[tuple[int, int, int]], radius: float = 5) -> None:
    image = Image.new("RGB", SIZE, (30, 30, 30))
    pen = ImageDraw.Draw(image)
    for (x, y), colour in zip(pixels, colours, strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def box_of(pixels: np.ndarray) -> list[float]:
    low, size = pixels.min(0), np.ptp(pixels, axis=0)
    return [*low.tolist(), *size.tolist()]


def coco_set(folder: Path, count: int = 3) -> Path:
    """COCO keypoints of bodies; the last annotation is a crowd."""
    from posedreamer_assets.body.joints import COCO17_FROM_SMPLX

    body, images, annotations = load_body(None), [], []
    for i in range(count):
        joints = body.joints(params_of(i))[0]
        pixels = pixels_of(joints[COCO17_FROM_SMPLX])
        colours = [(255, 255, 255)] * 17
        draw(folder / "images" / f"{i}.png", pixels, colours)
        flat = np.concatenate([pixels - 0.5, np.full((17, 1), 2)], 1).ravel().tolist()
        images.append({"id": 10 + i, "file_name": f"{i}.png", "width": SIZE[0], "height": SIZE[1]})
        annotations.append({"id": i, "image_id": 10 + i, "keypoints": flat, "bbox": box_of(pixels_of(joints))})
    annotations.append({**annotations[0], "id": 99, "iscrowd": 1})
    page = {"images": images, "annotations": annotations}
    (folder / "people.json").write_text(json.dumps(page))
    return folder / "people.json"


def humandata_set(folder: Path, sha256: str, count: int = 2, **changed: Any) -> Path:
    """HumanData of plain arrays whose parameters are of the body of that file."""
    body = load_body(None)
    bodies = BodyParams.concat([params_of(i) for i in range(count)])
    joints = body.joints(bodies)
    points = np.zeros((count, 190, 4))
    points[:, :76, :3], points[:, :76, 3] = joints, 1
    mask = (np.arange(190) < 76).astype(np.uint8)
    for i in range(count):
        draw(folder / "images" / f"{i}.png", pixels_of(joints[i, :22]), [(255, 255, 255)] * 22)
    arrays: dict[str, Any] = {
        "image_path": np.array([f"{i}.png" for i in range(count)]),
        "bbox_xywh": np.array([[*box_of(pixels_of(one[:22])), 1] for one in joints]),
        "keypoints3d": points,
        "keypoints3d_mask": mask,
        "meta/focal_length": np.tile([MATRIX[0, 0], MATRIX[1, 1]], (count, 1)),
        "meta/principal_point": np.tile(MATRIX[:2, 2] - 0.5, (count, 1)),
        "misc/flat_hand_mean": np.array(True),
        "misc/body_sha256": np.array(sha256),
        **{f"smplx/{name}": values for name, values in bodies.to_flat().items()},
    }
    arrays |= changed
    path = folder / "humandata.npz"
    np.savez(path, **arrays)
    return path
