"""People of users' own test sets: what a file says of one, and the crop that a student sees with what is true of it there.

Where the camera is known, the crop is what a camera of the same place sees that looks at the box's middle: image, keypoints and
3D labels go through one rotation, so labels stay exact and the principal point is the crop's middle. Where it is not known, the
crop is cut out as it is and its focal length is assumed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, UnidentifiedImageError

from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.errors import ImageError, StudentError
from posedreamer_assets.students.augment import OUTSIDE
from posedreamer_assets.students.labels import BODY_JOINTS
from posedreamer_assets.tables.images import opened

PADDING = 1.2
"""Side of the crop over that of the person's box: renders fill 0.70 to 0.94 of the image, 0.82 in the middle."""
ASSUMED_FOCAL = 1.7
"""Focal length of photographs of which it is not known, in widths of the crop."""


@dataclass(frozen=True)
class Person:
    """What a file says of one person; what it does not say is None. Frames are of the image's own camera, OpenCV's axes.

    Attributes:
        picture: the image's file.
        name: of the person, unique in its file.
        group: frames that show one motion have one group.
        box: x, y, width, height, pixels; (0, 0) is the image's corner.
        intrinsics: of the whole image, pixels.
        keypoints: COCO's 17, pixels. labelled: which of them are.
        joints_m: 22 body joints, metres, from any origin; NaN where the file has none.
        rotations: root in the camera's frame and 21 body joints, of SMPL or SMPL-X.
        params: SMPL-X parameters of one body, camera frame.
        vertices_m: of a mesh of SMPL-X, metres.
        body: which body `params` are of: its file's SHA-256, or `smplx`, or nothing where they are not to be posed whole.
    """

    picture: Path
    name: str
    group: str
    box: Float[np.ndarray, "4"]
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    keypoints: Float[np.ndarray, "17 2"] | None = None
    labelled: Bool[np.ndarray, "17"] | None = None
    joints_m: Float[np.ndarray, "22 3"] | None = None
    rotations: Float[np.ndarray, "22 3 3"] | None = None
    params: BodyParams | None = None
    vertices_m: Float[np.ndarray, "v 3"] | None = None
    body: str = ""


@dataclass(frozen=True)
class Crop:
    """How a crop is taken from an image.

    Attributes:
        homography: pixels of the image to pixels of the crop.
        turn: camera of the image to camera of the crop.
        focal_px: of the crop, whose principal point is its middle.
    """

    homography: Float[np.ndarray, "3 3"]
    turn: Float[np.ndarray, "3 3"]
    focal_px: float

    def points(self, pixels: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, "k 2"]:
        """Pixels of the image in the crop."""
        moved = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ self.homography.T
        return moved[:, :2] / moved[:, 2:]

    def box(self, box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
        """The box about the corners of a box of the image: x, y, width, height."""
        x, y, w, h = box
        corners = self.points(np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]], float))
        return np.concatenate([corners.min(0), np.ptp(corners, axis=0)])


def crop_about(
    box: Float[np.ndarray, "4"],
    intrinsics: Float[np.ndarray, "3 3"] | None,
    width: int,
    height: int,
    padding: float = PADDING,
) -> Crop:
    """The crop of a size whose middle is the box's and which is `padding` times as large where the box is largest.

    Args:
        box: x, y, width, height, pixels of the image.
        intrinsics: of the image; None where the camera is not known.
        width, height: of the crop, pixels.
        padding: side of the crop over that of the box.
    """
    middle = np.array([box[0] + box[2] / 2, box[1] + box[3] / 2, 1.0])
    zoom = 1 / (padding * max(box[2] / width, box[3] / height))
    if intrinsics is None:
        place = np.array(
            [[zoom, 0, width / 2 - zoom * middle[0]], [0, zoom, height / 2 - zoom * middle[1]], [0, 0, 1.0]]
        )
        return Crop(place, np.eye(3), ASSUMED_FOCAL * width)
    ray = np.linalg.solve(intrinsics, middle)
    turn = _turn_to_axis(ray / np.linalg.norm(ray))
    # A pixel at the box's middle is as wide before as after, across the way that the camera turns.
    focal = zoom * np.sqrt(intrinsics[0, 0] * intrinsics[1, 1]) * np.linalg.norm(ray)
    own = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Crop(own @ turn @ np.linalg.inv(intrinsics), turn, float(focal))


def _turn_to_axis(ray: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that brings a unit vector of the forward half to (0, 0, 1)."""
    x, y, z = ray
    return np.array(
        [
            [1 - x * x / (1 + z), -x * y / (1 + z), -x],
            [-x * y / (1 + z), 1 - y * y / (1 + z), -y],
            [x, y, z],
        ]
    )


def picture_of(path: Path, crop: Crop, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
    """The crop of an image file; grey where it reaches beyond.

    Raises:
        StudentError: the file is missing, or no image.
    """
    try:
        with opened(path) as file:
            image = file.convert("RGB")
    except (OSError, UnidentifiedImageError, ImageError) as error:
        raise StudentError(f"{path}: cannot be read as an image: {error}") from error
    return warped(image, crop.homography, width, height)


def warped(
    image: Image.Image, homography: Float[np.ndarray, "3 3"], width: int, height: int
) -> UInt8[np.ndarray, "h w 3"]:
    """An image as a homography moves its pixels; grey where it reaches beyond.

    Args:
        image: RGB.
        homography: pixels of the image to pixels of what is returned.
        width, height: of what is returned.
    """
    # Shrunk by whole numbers first, because single pixels are looked up afterwards.
    zoom = np.sqrt(abs(np.linalg.det(homography[:2, :2])))
    times = max(1, int(1 / zoom))
    inverse = np.linalg.inv(homography @ np.diag([times, times, 1.0]))
    data = tuple((inverse / inverse[2, 2]).ravel()[:8])
    moved = image.reduce(times).transform(
        (width, height), Image.Transform.PERSPECTIVE, data, Image.Resampling.BILINEAR, fillcolor=OUTSIDE
    )
    return np.asarray(moved)


def turned(person: Person, crop: Crop) -> Person:
    """The person in the frame and the pixels of its crop; parameters stay as they are."""
    rotations = None
    if person.rotations is not None:
        rotations = person.rotations.copy()
        rotations[0] = crop.turn @ rotations[0]
    return Person(
        person.picture,
        person.name,
        person.group,
        crop.box(person.box),
        person.intrinsics,
        None if person.keypoints is None else crop.points(person.keypoints),
        person.labelled,
        None if person.joints_m is None else person.joints_m @ crop.turn.T,
        rotations,
        person.params,
        None if person.vertices_m is None else person.vertices_m @ crop.turn.T,
        person.body,
    )


def file_in(images: Path, name: str) -> Path:
    """An image of a list, which may name files with or without the folders that they lie in."""
    places = (images / name, images.parent / name, images / Path(name).name)
    return next((path for path in places if path.is_file()), images / name)


def needs_finite(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    """The values as float64.

    Raises:
        StudentError: some are not finite.
    """
    found = np.asarray(values, float)
    if not np.isfinite(found).all():
        raise StudentError(f"{path}: {name}: values that are not finite")
    return found


def no_joints() -> Float[np.ndarray, "22 3"]:
    """Of a file without any."""
    return np.full((BODY_JOINTS, 3), np.nan)
