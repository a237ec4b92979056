"""Pose sources: BVH mocap, AMASS-style npz and per-image fits, read into SMPL-X parameters."""

from posedreamer_assets.body.sources.folder import PoseFolder, read_folder, read_pose_file, scan_folder
from posedreamer_assets.body.sources.protocol import PoseFrames, PoseSource

__all__ = ["PoseFolder", "PoseFrames", "PoseSource", "read_folder", "read_pose_file", "scan_folder"]
