"""Pose sources: BVH mocap, AMASS-style npz and per-image fits, read into SMPL-X parameters."""

from posedreamer_assets.poses.sources.frames import PoseFrames, PoseSource
from posedreamer_assets.poses.sources.read import PoseFolder, read_folder, read_pose_file, scan_folder

__all__ = ["PoseFolder", "PoseFrames", "PoseSource", "read_folder", "read_pose_file", "scan_folder"]
