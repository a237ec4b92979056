"""What a column is, and the groups of columns that several tables have; see `fields.py` for frames and pixels."""

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: the same name means the same in every table.
        type: Arrow's.
        meaning: what it holds, with unit and frame.
        required: no row lacks it.
    """

    name: str
    type: pa.DataType
    meaning: str
    required: bool = False

    @property
    def field(self) -> pa.Field:
        """For an Arrow schema."""
        return pa.field(self.name, self.type, nullable=not self.required)


def vector(n: int) -> pa.DataType:
    return pa.list_(pa.float32(), n)


def flags(n: int) -> pa.DataType:
    return pa.list_(pa.bool_(), n)


TEXT, INT, LONG, FLOAT, BOOL, FILE = (
    pa.string(), pa.int32(), pa.int64(), pa.float32(), pa.bool_(), pa.large_binary(),
)  # fmt: skip

IDENTITY = (
    Column("sample_id", TEXT, "Names the sample in every table: partition key, slash, number.", required=True),
    Column("partition_key", TEXT, "Pose batch: source, dash, number.", required=True),
)
OF_IMAGE = (*IDENTITY, Column("image_id", TEXT, "Names the image; the sample's own name where it is person 0."))
OF_PERSON = (*OF_IMAGE, Column("person", INT, "Number of the person in the image, from 0."))
BODY = (
    Column("betas", vector(10), "SMPL-X shape, standard deviations."),
    Column("expression", vector(10), "SMPL-X expression, standard deviations."),
    Column("global_orient", vector(3), "Rotation of the root in the world, axis-angle, radians."),
    Column("body_pose", vector(63), "Rotations of 21 body joints relative to their parents, axis-angle, radians."),
    Column(
        "left_hand_pose",
        vector(45),
        "Rotations of 15 joints of the left hand relative to the flat hand, axis-angle, radians.",
    ),
    Column(
        "right_hand_pose",
        vector(45),
        "Rotations of 15 joints of the right hand relative to the flat hand, axis-angle, radians.",
    ),
    Column("jaw_pose", vector(3), "Rotation of the jaw, axis-angle, radians."),
    Column("leye_pose", vector(3), "Rotation of the left eye, axis-angle, radians."),
    Column("reye_pose", vector(3), "Rotation of the right eye, axis-angle, radians."),
    Column("transl", vector(3), "SMPL-X translation in the world (y up), metres."),
)
BODY_COLUMNS = {column.name: column.type.list_size for column in BODY}
SIZE = (
    Column("width", INT, "Width of the image, pixels."),
    Column("height", INT, "Height of the image, pixels."),
)
CAMERA = (
    Column(
        "cam_rotation",
        vector(9),
        "World to camera, 3 x 3 in row-major order; the camera is OpenCV's (x right, y down, z forward).",
    ),
    Column("cam_translation", vector(3), "World to camera, metres: x_cam = R x_world + t."),
    Column("focal_px", FLOAT, "Focal length, pixels."),
    Column("principal_px", vector(2), "Principal point x, y, pixels; (0, 0) is the image's top left corner."),
    *SIZE,
    Column("cam_pitch_deg", FLOAT, "Pitch of the camera, degrees; 0 looks level, positive looks down."),
    Column("cam_roll_deg", FLOAT, "Roll of the camera, degrees."),
)
SPLIT = Column(
    "split",
    TEXT,
    "train or val, by hash of the clip or the procedural pose that it comes from; test images are made apart.",
)
ALIGNMENT_SPLIT = Column(
    "alignment_split",
    TEXT,
    "train, val or test of the generator's alignment, by hash of the pose's provenance; of no meaning for what is made with it.",
)
SEED = Column("seed", LONG, "Seed that the row was drawn with.")
LABELS = (
    Column("keypoints_2d", vector(17 * 2), "COCO's 17 keypoints, x, y, pixels."),
    Column("keypoints_visible", flags(17), "Which of the 17 keypoints are in the image and not hidden."),
    Column("joints_2d", vector(55 * 2), "55 SMPL-X joints, x, y, pixels."),
    Column("joints_visible", flags(55), "Which of the 55 joints are in the image and not hidden."),
    Column("joints_cam_m", vector(55 * 3), "55 SMPL-X joints in the camera's frame, metres."),
    Column("bbox", vector(4), "Box of the silhouette: x, y, width, height, pixels."),
)
IMAGE = Column("image", FILE, "The generated image, PNG or JPEG, RGB.")
CAPTION = Column("caption", TEXT, "Text that the image is generated from.")
RENDER_OKS = Column(
    "render_oks",
    FLOAT,
    "OKS of the judging detector on a render of the same pose, 0 to 1: how well it reads the pose; null without a render.",
)
OKS = Column("oks", FLOAT, "OKS of the judging detector against the projected keypoints, 0 to 1.")
