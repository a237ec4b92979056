"""Readers of each format, written from its description and not from the exporter; bodies are posed by stock smplx.

Each yields, per sample, what is needed to draw the labelled body on its image: the image's name, vertices and joints in
the camera frame of that format, and the camera matrix.
"""

import io
import json
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posedreamer_assets.body.model import FREE_BODY_PATH


@dataclass(frozen=True)
class Seen:
    """A sample as a reader understands it."""

    image: str
    vertices_cam: np.ndarray
    joints_cam: np.ndarray
    matrix: np.ndarray
    extra: dict[str, Any]


class StockBody:
    """smplx with the free body: full hands, relative to the flat hand."""

    def __init__(self, folder: Path) -> None:
        import smplx

        (folder / "smplx").mkdir(parents=True, exist_ok=True)
        (folder / "smplx" / "SMPLX_NEUTRAL.npz").write_bytes(FREE_BODY_PATH.read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {"use_pca": False, "flat_hand_mean": True, "num_betas": 10, "num_expression_coeffs": 10}
            self._model = smplx.create(str(folder), "smplx", **options)

    def __call__(self, **params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            out = self._model(**{k: torch.tensor(v, dtype=torch.float32).reshape(1, -1) for k, v in params.items()})
        return out.vertices[0].numpy(), out.joints[0, :76].numpy()


_HUMANDATA_NAMES = (
    *("global_orient", "body_pose", "betas", "transl", "left_hand_pose", "right_hand_pose"),
    *("expression", "leye_pose", "reye_pose", "jaw_pose"),
)


def read_humandata(folder: Path, body: StockBody, pickled: bool) -> Iterator[Seen]:
    """MMHuman3D, docs/human_data.md: `smplx` is a dictionary of arrays; perspective cameras are in `meta`."""
    for path in sorted((folder / "preprocessed_datasets").glob("*.npz")):
        with np.load(path, allow_pickle=pickled) as data:
            arrays = {name: data[name] for name in data.files}
        assert not arrays["__keypoints_compressed__"]
        if pickled:
            smplx, meta = arrays["smplx"].item(), arrays["meta"].item()
            assert arrays["misc"].item()["flat_hand_mean"] is True
        else:
            smplx = {name: arrays[f"smplx/{name}"] for name in _HUMANDATA_NAMES}
            meta = {name: arrays[f"meta/{name}"] for name in ("height", "width", "focal_length", "principal_point")}
        assert smplx["body_pose"].shape[1:] == (21, 3)
        assert smplx["left_hand_pose"].shape[1:] == (15, 3)
        for i, name in enumerate(arrays["image_path"]):
            vertices, joints = body(**{key: smplx[key][i] for key in _HUMANDATA_NAMES})
            (fx, fy), (cx, cy) = meta["focal_length"][i], meta["principal_point"][i]
            extra = {
                "keypoints2d": arrays["keypoints2d"][i],
                "keypoints3d": arrays["keypoints3d"][i],
                "mask": arrays["keypoints2d_mask"],
                "bbox": arrays["bbox_xywh"][i],
                "size": (meta["width"][i], meta["height"][i]),
            }
            yield Seen(
                f"datasets/posedreamer/{name}", vertices, joints, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), extra
            )


def read_bedlam(folder: Path, body: StockBody) -> Iterator[Seen]:
    """BEDLAM's data_processing: pose is 55 joints in smplx's order, and the camera's translation is added at the end."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            for i, name in enumerate(data["imgname"]):
                posed = []
                for frame in ("cam", "world"):
                    pose = data[f"pose_{frame}"][i]
                    posed.append(
                        body(
                            global_orient=pose[:3],
                            body_pose=pose[3:66],
                            jaw_pose=pose[66:69],
                            leye_pose=pose[69:72],
                            reye_pose=pose[72:75],
                            left_hand_pose=pose[75:120],
                            right_hand_pose=pose[120:165],
                            betas=data["shape"][i],
                            transl=data[f"trans_{frame}"][i],
                        )
                    )
                (vertices, joints), (world, _) = posed
                extrinsics = data["cam_ext"][i]
                extra = {
                    "world_in_camera": world @ extrinsics[:3, :3].T + extrinsics[:3, 3],
                    "keypoints2d": data["gtkps"][i],
                    "center": data["center"][i],
                    "scale": data["scale"][i],
                }
                shift = extrinsics[:3, 3]
                yield Seen(f"images/{name}", vertices + shift, joints + shift, data["cam_int"][i], extra)


def read_people(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """4D-Humans' tars, the variant without pickle: `<key>.png|jpg` and `<key>.data.npz`, by key."""
    people = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            names = tar.getnames()
            for image, label in zip(names[::2], names[1::2], strict=True):
                key = label.removesuffix(".data.npz")
                assert image.rpartition(".")[0] == key
                file = tar.extractfile(label)
                assert file is not None
                with np.load(io.BytesIO(file.read()), allow_pickle=False) as data:
                    [_] = data["personid"]  # one person an image
                    people[key] = {name: data[name][0] if data[name].ndim else data[name] for name in data.files}
    return people


def read_hmr2(folder: Path, body: StockBody) -> Iterator[Seen]:
    """The SMPL-X body that each person of the tars has beside its SMPL one."""
    for key, person in read_people(folder).items():
        smplx = {k.removeprefix("smplx_"): v for k, v in person.items() if k.startswith("smplx_")}
        vertices, joints = body(**smplx)
        yield Seen(key, vertices, joints, person["cam_int"], person)


def read_folder(folder: Path, body: StockBody) -> Iterator[Seen]:
    """One JSON for each image; the body in the world frame, then moved by the camera."""
    for path in sorted((folder / "labels").rglob("*.json")):
        label = json.loads(path.read_text())
        [person] = label["people"]
        in_world, in_camera = dict(person["smplx_world"]), dict(person["smplx_world"]) | person["camera_frame"]
        vertices, joints = body(**{k: np.array(v) for k, v in in_camera.items()})
        world, _ = body(**{k: np.array(v) for k, v in in_world.items()})
        rotation = np.array(label["camera"]["cam_rotation"]).reshape(3, 3)
        extra = {"world_in_camera": world @ rotation.T + np.array(label["camera"]["cam_translation"])}
        yield Seen(label["image"], vertices, joints, np.array(label["intrinsics"]), extra)


def body_of_row(row: dict[str, Any], body: StockBody) -> Seen:
    """A row of the Parquet export, from its columns in the camera frame."""
    names = ("betas", "expression", "body_pose", "left_hand_pose", "right_hand_pose")
    params = {name: np.array(row[name]) for name in (*names, "jaw_pose", "leye_pose", "reye_pose")}
    vertices, joints = body(
        **params, global_orient=np.array(row["global_orient_cam"]), transl=np.array(row["transl_cam"])
    )
    focal, (cx, cy) = row["focal_px"], row["principal_px"]
    return Seen(row["sample_id"], vertices, joints, np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]]), {})
