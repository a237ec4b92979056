"""Pinhole cameras, OpenCV convention: x right, y down, z forward; x_cam = R x_world + t."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


def in_frame(points_px: Float[np.ndarray, "*k 2"], width: int, height: int) -> Bool[np.ndarray, "*k"]:
    """Which points lie in the image; NaN, as of points behind the camera, does not."""
    return np.all((points_px >= 0) & (points_px < np.array([width, height])), axis=-1)


@dataclass(frozen=True)
class Cameras:
    """One camera per sample; all share an image size. Pixel (0, 0) is the image's corner."""

    rotation: Float[np.ndarray, "n 3 3"]  # world to camera
    translation: Float[np.ndarray, "n 3"]  # metres
    focal_px: Float[np.ndarray, "n"]
    principal_px: Float[np.ndarray, "n 2"]
    width: int
    height: int
    pitch_deg: Float[np.ndarray, "n"]  # positive looks down
    roll_deg: Float[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.focal_px)

    def to_camera(self, points: Float[np.ndarray, "n k 3"]) -> Float[np.ndarray, "n k 3"]:
        """World points in the camera frame, metres."""
        # Coordinate by coordinate: several times as fast as many products of a matrix and a point.
        x, y, z = np.moveaxis(points, -1, 0)
        placed = np.empty(points.shape, np.result_type(points, self.rotation))
        for axis in range(3):
            row = self.rotation[:, axis, :, None]
            placed[..., axis] = row[:, 0] * x + row[:, 1] * y + row[:, 2] * z + self.translation[:, axis, None]
        return placed

    def project(self, points: Float[np.ndarray, "n k 3"]) -> Float[np.ndarray, "n k 2"]:
        """World points in pixels. Points behind the camera give NaN."""
        return self.project_camera(self.to_camera(points))

    def project_camera(self, points_cam: Float[np.ndarray, "n k 3"]) -> Float[np.ndarray, "n k 2"]:
        """Camera-frame points in pixels. Points behind the camera give NaN."""
        depth = np.where(points_cam[..., 2:] > 1e-6, points_cam[..., 2:], np.nan)
        return self.focal_px[:, None, None] * points_cam[..., :2] / depth + self.principal_px[:, None]

    def unproject(
        self, pixels: Float[np.ndarray, "n k 2"], depth_m: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n k 3"]:
        """World points that project to the pixels at the given camera-frame z."""
        ray = (pixels - self.principal_px[:, None]) / self.focal_px[:, None, None]
        points_cam = np.concatenate([ray, np.ones_like(ray[..., :1])], axis=-1) * depth_m[..., None]
        return np.einsum("nba,nkb->nka", self.rotation, points_cam - self.translation[:, None])

    def take(self, indices: np.ndarray | slice | Sequence[int]) -> "Cameras":
        """The cameras at the given indices."""
        chosen = indices if isinstance(indices, slice) else np.asarray(indices)
        return Cameras(
            self.rotation[chosen],
            self.translation[chosen],
            self.focal_px[chosen],
            self.principal_px[chosen],
            self.width,
            self.height,
            self.pitch_deg[chosen],
            self.roll_deg[chosen],
        )

    @classmethod
    def concat(cls, parts: Sequence["Cameras"]) -> "Cameras":
        """All cameras of the parts, which must share an image size."""
        if len({(p.width, p.height) for p in parts}) != 1:
            raise ValueError("cameras of different image sizes cannot be joined")
        names = ("rotation", "translation", "focal_px", "principal_px", "pitch_deg", "roll_deg")
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        return cls(width=parts[0].width, height=parts[0].height, **joined)

    def to_flat(self) -> dict[str, np.ndarray]:
        """Columns as tables hold them, see records.CAMERA."""
        n = len(self)
        return {
            "cam_rotation": self.rotation.reshape(n, 9),
            "cam_translation": self.translation,
            "focal_px": self.focal_px,
            "principal_px": self.principal_px,
            "width": np.full(n, self.width, np.int32),
            "height": np.full(n, self.height, np.int32),
            "cam_pitch_deg": self.pitch_deg,
            "cam_roll_deg": self.roll_deg,
        }

    @classmethod
    def from_flat(cls, columns: dict[str, np.ndarray]) -> "Cameras":
        """From columns as tables hold them."""
        f32 = {k: np.ascontiguousarray(v, np.float32) for k, v in columns.items()}
        return cls(
            f32["cam_rotation"].reshape(-1, 3, 3),
            f32["cam_translation"].reshape(-1, 3),
            f32["focal_px"],
            f32["principal_px"].reshape(-1, 2),
            int(columns["width"][0]),
            int(columns["height"][0]),
            f32["cam_pitch_deg"],
            f32["cam_roll_deg"],
        )
