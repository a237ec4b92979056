"""Pose sources: BVH mocap, clips and fits of SMPL-like bodies, and label files, read into SMPL-X parameters."""

from posedreamer_assets.poses.sources.frames import PoseFrames, Sketch
from posedreamer_assets.poses.sources.hands import HandSpace
from posedreamer_assets.poses.sources.read import (
    READERS,
    SUFFIXES,
    is_pose_file,
    read_clips,
    read_folder,
    read_pose_file,
    scan_folder,
)
from posedreamer_assets.poses.sources.reader import Reader, ReadOptions
from posedreamer_assets.poses.sources.unread import how_to_convert, unread_formats, unread_lines

__all__ = [
    "HandSpace",
    "PoseFrames",
    "READERS",
    "ReadOptions",
    "Reader",
    "SUFFIXES",
    "Sketch",
    "how_to_convert",
    "is_pose_file",
    "read_clips",
    "read_folder",
    "read_pose_file",
    "scan_folder",
    "unread_formats",
    "unread_lines",
]
