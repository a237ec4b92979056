"""Tables of scenes with many people, and of people over photographs; see `fields.py` for frames and pixels."""

from dataclasses import replace

import pyarrow as pa

from posedreamer_assets.tables.columns import (
    BODY,
    BOOL,
    CAMERA,
    FILE,
    FLOAT,
    IDENTITY,
    IMAGE,
    INT,
    LABELS,
    OF_IMAGE,
    OF_PERSON,
    SEED,
    SIZE,
    SPLIT,
    TEXT,
    Column,
    flags,
    vector,
)

MPII = (
    Column("mpii_2d", vector(16 * 2), "MPII's 16 joints, x, y, pixels."),
    Column("mpii_labelled", flags(16), "Which of MPII's 16 joints are known."),
    Column("mpii_visible", flags(16), "Which of MPII's 16 joints are in the image and not hidden."),
    Column("head_size_px", FLOAT, "Diagonal of the head's box, pixels; null where it cannot be told."),
)
PHOTO_ID = Column("photo_id", TEXT, "The photograph that the image was made from; null in scenes without one.")
STATUS = Column("status", TEXT, "stylised, or why the image is as it was: mask_too_small, no_style_region.")

SCENE_TABLES: dict[str, tuple[Column, ...]] = {
    "scene_layouts": (
        *OF_PERSON,
        PHOTO_ID,
        Column("people_drawn", INT, "People that were drawn for the image."),
        Column("people_placed", INT, "People of them for whom there was room."),
        Column("tries", INT, "Places that were tried for all people of the image."),
        Column("family", TEXT, "Procedural family of the pose."),
        *BODY,
        *CAMERA,
        Column("appearance", TEXT, "Skin tone, hair, garments and place, JSON."),
        Column(
            "light",
            vector(5),
            "Direction of the light in the world, its strength and that of the light around, without unit.",
        ),
        replace(SEED, meaning="Seed of the person's cloth and shades."),
    ),
    "scene_images": (
        *OF_IMAGE,
        PHOTO_ID,
        Column("variant", INT, "Number of the mixture of the photograph; null in scenes without one."),
        replace(IMAGE, meaning="People before a background or over a photograph, PNG, RGB."),
        Column("instances", FILE, "Who is where, PNG, 8 bit: person + 1 of synthetic people; 0 is everything else."),
        Column("parts", FILE, "Body parts of synthetic people, PNG, 8 bit: SMPL-X joint + 1; 0 is everything else."),
        Column("depth", FILE, "Depth of synthetic people, PNG, 16 bit, millimetres; 0 is everything else."),
        *SIZE,
        Column("persons", pa.list_(INT), "Persons of the synthetic people."),
        Column("amodal_pixels", pa.list_(INT), "Pixels that would show each of them if it were alone, in that order."),
        SEED,
    ),
    "scene_people": (
        *OF_PERSON,
        PHOTO_ID,
        Column("origin", TEXT, "synthetic, or photo for people who were annotated in the photograph."),
        Column("photo_person", TEXT, "The row of photo_people of a person of the photograph; null for synthetic ones."),
        *SIZE,
        *LABELS,
        *MPII,
        Column("mpii_in_frame", flags(16), "Which of MPII's 16 joints are in the image."),
        Column(
            "occluded_by",
            pa.list_(INT, 16),
            "Number of who hides each of MPII's joints: 0 nobody, person + 1 of a synthetic person, -1 the person itself.",
        ),
        Column("objpos", vector(2), "Mean of the labelled joints of MPII, pixels."),
        Column(
            "bbox_amodal",
            vector(4),
            "Box of the whole body, hidden parts and those out of the image included, pixels.",
        ),
        Column("pixels_visible", INT, "Pixels that show the person; null where they are not known."),
        Column(
            "pixels_amodal", INT, "Pixels that would show the person if it were alone; null where they are not known."
        ),
        Column("visible_ratio", FLOAT, "Share of MPII's known joints in the image that are visible, 0 to 1."),
        Column("cropped", BOOL, "Whether the body reaches out of the image."),
        Column(
            "min_distance_px", FLOAT, "Distance of objpos to that of the nearest other person, pixels; null when alone."
        ),
        Column("cam_pitch_deg", FLOAT, "Pitch of the camera, degrees; 0 looks level, positive looks down."),
    ),
    "annotated_photos": (
        *OF_IMAGE,
        Column(
            "kind",
            TEXT,
            "stand_in: rendered in place of a photograph; coco, mpii: how photographs are annotated.",
        ),
        Column("name", TEXT, "File, relative to the folder of photographs, or what the stand-in was drawn from."),
        replace(IMAGE, meaning="The photograph as its file has it, PNG or JPEG."),
        *SIZE,
        Column("ignore_mask", FILE, "People who are not annotated, PNG, 8 bit: 0 or 255."),
        Column("annotations", TEXT, "Annotated people, JSON: keypoints, boxes and masks as run lengths."),
        replace(SPLIT, meaning="train, val or test, by hash of the photograph's content."),
        Column("licence", TEXT, "Licence of the photograph.", required=True),
    ),
    "backgrounds": (
        *IDENTITY,
        Column("path", TEXT, "File, relative to the folder of backgrounds.", required=True),
        Column("digest", TEXT, "Digest of the file's bytes; null where they cannot be read."),
        Column("width", INT, "Width of the image, pixels; null where it cannot be read."),
        Column("height", INT, "Height of the image, pixels; null where it cannot be read."),
        Column("people", INT, "People that the counter found; null where the image was refused before."),
        Column("people_score", FLOAT, "Confidence of the counter that there is anybody, 0 to 1; null likewise."),
        Column("keep", BOOL, "Whether scenes may have it as their background."),
        Column("reason", TEXT, "kept, or why not: unreadable, too_small, has_people."),
    ),
    "photo_people": (
        *OF_PERSON,
        *SIZE,
        Column("keypoints_2d", vector(17 * 2), "COCO's 17 keypoints, x, y, pixels; 0 where not labelled."),
        Column("keypoints_labelled", flags(17), "Which of the 17 keypoints are labelled."),
        Column("keypoints_visible", flags(17), "Which of the 17 keypoints are in the image and not hidden."),
        *MPII,
        Column("bbox", vector(4), "Box of the person as annotated: x, y, width, height, pixels."),
        Column(
            "person_mask", TEXT, "What the person covers, COCO's run lengths, JSON; null where it is not annotated."
        ),
        Column(
            "judged_group",
            INT,
            "Number of the group of people that the person is judged with, from 0; -1 in none; null where whole photographs are "
            "judged.",
        ),
    ),
    "styled_images": (
        *OF_IMAGE,
        PHOTO_ID,
        replace(IMAGE, meaning="The image with its synthetic people made like those of the photograph, PNG, RGB."),
        *SIZE,
        STATUS,
        Column(
            "style_source",
            TEXT,
            "What colours were learnt from: annotation (masks of people), or whole (the photograph).",
        ),
        Column("colour_shift", FLOAT, "Mean distance that colours of synthetic people moved, RGB in 0 to 1."),
        Column("detail_gain", FLOAT, "Mean factor of the strength of fine detail, without unit; 1 by a network."),
    ),
}
"""By name."""
