"""Rendered training data for the pocket models: npz shards of pictures, control maps, captions and keypoints.

`python -m posedreamer_assets.pocket.scenes OUT --name gen --shards 24` adds the shards that are missing, so several
processes may fill one folder (`--first`, `--step`) and an interrupted one goes on.
"""

import argparse
from pathlib import Path

import numpy as np

from posedreamer_assets.body.model import load_body
from posedreamer_assets.cameras.sampling import FRAMING_STRIDE, sample_cameras
from posedreamer_assets.config import Profile, load_profile
from posedreamer_assets.poses.procedural import FAMILIES, procedural_poses
from posedreamer_assets.render.appearance import sample_appearance
from posedreamer_assets.render.captions import make_caption
from posedreamer_assets.render.control import render_control_maps
from posedreamer_assets.render.scene import render_scenes
from posedreamer_assets.seeds import sample_rng
from posedreamer_assets.tables.keys import partition_key, sample_id


def make_shard(profile: Profile, source: str, number: int, size: int, seed: int) -> dict[str, np.ndarray]:
    """Arrays of one shard: images, controls (n, h, w, 3) uint8; silhouettes (n, h, w) uint8; captions (n,);
    keypoints (n, 17, 2) pixels; visible and in_frame (n, 17) bool."""
    body = load_body(profile.body.model_path)
    ids = [sample_id(partition_key(source, number), i) for i in range(size)]
    params, families = procedural_poses(body, ids, seed, ages=profile.poses.ages)
    surface = body.forward(params).vertices[:, ::FRAMING_STRIDE]
    cameras, _ = sample_cameras(surface, ids, seed, profile.cameras, profile.image)
    looks = [
        sample_appearance(sample_rng(seed, i, "appearance"), FAMILIES[f].activity)
        for i, f in zip(ids, families, strict=True)
    ]
    maps = render_control_maps(body, params, cameras)
    return {
        "images": render_scenes(body, params, cameras, looks, ids, seed, profile.scenes),
        "controls": maps.control,
        "silhouettes": maps.silhouette,
        "captions": np.array([make_caption(look) for look in looks]),
        "keypoints": maps.keypoints_2d,
        "visible": maps.keypoints_visible,
        "in_frame": maps.keypoints_in_frame,
    }


def shard_path(out: Path, source: str, number: int) -> Path:
    """Where a shard lies."""
    return out / f"{partition_key(source, number)}.npz"


def build_shards(out: Path, profile: Profile, source: str, numbers: range, size: int = 512, seed: int = 20_000) -> None:
    """Write the shards that are not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        path = shard_path(out, source, number)
        if path.exists():
            continue
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **make_shard(profile, source, number, size, seed))  # type: ignore[arg-type]
        partial.rename(path)
        print(f"{path.name} written", flush=True)


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description="render training data for the pocket models")
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="gen", help="source name; other names give other samples")
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--profile", default="pocket")
    args = parser.parse_args()
    numbers = range(args.first, args.shards, args.step)
    build_shards(args.out, load_profile(args.profile), args.name, numbers, args.size)


if __name__ == "__main__":
    main()
