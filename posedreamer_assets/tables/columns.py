"""What the columns of the tables mean, with units and frames: for Dagster's schema pages and whoever documents a table.

A column of one name means the same in every table, but for those in `OF_TABLE`.
"""

import pyarrow as pa

MEANINGS: dict[str, str] = {
    # identity and bookkeeping
    "sample_id": "Names the sample in every table: partition key, slash, number.",
    "partition_key": "Pose batch: source, dash, number.",
    "row_digest": "Digest of the row's own content.",
    "input_digest": "Digest of all that the partition was made from.",
    # where a pose comes from
    "source": "Kind of source: procedural, bvh, amass or fits.",
    "family": "Procedural family, or name of the clip.",
    "provenance": "File and frame, or generator and version, that the pose comes from.",
    "licence": "Licence of the pose.",
    "seed": "Seed that the row was drawn with.",
    "split": "train, val or test, by hash of the pose's provenance.",
    # the body
    "betas": "SMPL-X shape, standard deviations.",
    "expression": "SMPL-X expression, standard deviations.",
    "global_orient": "Rotation of the root in the world, axis-angle, radians.",
    "body_pose": "Rotations of 21 body joints relative to their parents, axis-angle, radians.",
    "left_hand_pose": "Rotations of 15 joints of the left hand relative to the flat hand, axis-angle, radians.",
    "right_hand_pose": "Rotations of 15 joints of the right hand relative to the flat hand, axis-angle, radians.",
    "jaw_pose": "Rotation of the jaw, axis-angle, radians.",
    "leye_pose": "Rotation of the left eye, axis-angle, radians.",
    "reye_pose": "Rotation of the right eye, axis-angle, radians.",
    "transl": "SMPL-X translation in the world (y up), metres.",
    # the camera
    "cam_rotation": "World to camera, 3 x 3 in row-major order; the camera is OpenCV's (x right, y down, z forward).",
    "cam_translation": "World to camera, metres: x_cam = R x_world + t.",
    "focal_px": "Focal length, pixels.",
    "principal_px": "Principal point x, y, pixels; (0, 0) is the image's top left corner.",
    "width": "Width of the image, pixels.",
    "height": "Height of the image, pixels.",
    "cam_pitch_deg": "Pitch of the camera, degrees; 0 looks level, positive looks down.",
    "cam_roll_deg": "Roll of the camera, degrees.",
    "truncated": "Whether the camera cuts part of the body off on purpose.",
    # looks
    "caption": "Text that the image is generated from.",
    "appearance": "Skin tone, hair, garments and light, JSON.",
    "predicted_oks": "OKS that the difficulty model expects, 0 to 1.",
    # maps and labels
    "control": "Control image, PNG, RGB: place on the canonical body of each surface point.",
    "depth": "Depth, PNG, 16 bit, millimetres; 0 is background.",
    "normals": "Normals in the camera's frame, PNG, RGB: (n + 1) / 2.",
    "parts": "Body parts, PNG, 8 bit: SMPL-X joint + 1; 0 is background.",
    "silhouette": "Silhouette, PNG, 8 bit: 0 or 255.",
    "joints_2d": "55 SMPL-X joints, x, y, pixels.",
    "joints_visible": "Which of the 55 joints are in the image and not hidden.",
    "joints_cam_m": "55 SMPL-X joints in the camera's frame, metres.",
    "keypoints_2d": "COCO's 17 keypoints, x, y, pixels.",
    "keypoints_visible": "Which of the 17 keypoints are in the image and not hidden.",
    "keypoints_in_frame": "Which of the 17 keypoints are in the image.",
    "bbox": "Box of the silhouette: x, y, width, height, pixels.",
    "body_pixels": "Area of the silhouette, pixels.",
    # images
    "image": "The generated image, PNG or JPEG, RGB.",
    "round": "Curriculum round: base or hard.",
    "steps": "Denoising steps.",
    "guidance": "Guidance scale, without unit.",
    "generator": "Backend of the generator and digest of its weights.",
    "adapter": "Digest of the alignment adapter, or none.",
    # preference pairs
    "status": "pair; small_gap (candidates are too alike); weak_winner (the best one does not show the pose); "
    "no_alignment (there are no candidates).",
    "candidate_oks": "OKS of each candidate by the ranking detector, 0 to 1.",
    "candidate_seeds": "Seed of each candidate.",
    "candidate_strengths": "Strength of the control image in each candidate; 1 is that of every other image.",
    "candidate_images": "The candidates, PNG, RGB, in the order of candidate_oks.",
    "winner": "Number of the best candidate.",
    "loser": "Number of the worst candidate.",
    "winner_oks": "OKS of the best candidate, 0 to 1.",
    "loser_oks": "OKS of the worst candidate, 0 to 1.",
    "winner_image": "The best candidate, PNG, RGB.",
    "loser_image": "The worst candidate, PNG, RGB.",
    # scores and verdicts
    "oks": "OKS of the judging detector against the projected keypoints, 0 to 1.",
    "ranker_oks": "OKS of the ranking detector, 0 to 1.",
    "detected": "17 keypoints of the judging detector: x, y, pixels; confidence, 0 to 1.",
    "people": "People counted in the image.",
    "people_score": "Confidence that somebody is there, 0 to 1.",
    "head_error_deg": "Angle between the head's asked and detected direction, degrees; null where too little is seen.",
    "top_colour_error": "Distance of the top's colour from the one that the caption names, CIE 1976 delta E; null without one.",
    "keep": "Whether the filter keeps the image.",
    "reason": "The first test that failed, or kept.",
    "reasons": "All tests that failed.",
}
OF_TABLE: dict[tuple[str, str], str] = {
    ("rendered_scenes", "image"): "Render of the clothed body before a background, PNG or JPEG, RGB.",
    ("rendered_scenes", "split"): "train, or reference for what generated images are compared with.",
}


def meaning(table: str, column: str) -> str:
    """What a column of a table holds.

    Raises:
        KeyError: a column that is not described.
    """
    return OF_TABLE.get((table, column)) or MEANINGS[column]


def type_name(kind: pa.DataType) -> str:
    """A short name of an Arrow type: `float32[10]` for a vector, `list<int64>`, `binary`."""
    if pa.types.is_fixed_size_list(kind):
        return f"{type_name(kind.value_type)}[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_large_binary(kind) or pa.types.is_binary(kind):
        return "binary"
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
