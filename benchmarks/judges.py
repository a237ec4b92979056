"""What detectors see of renders, shown whole images against crops by the label's box (`judge.crop`).

    python benchmarks/judges.py [--poses 192] [--size 512] [--onnx movenet.onnx]

Mean OKS over the same renders of poses that no shipped detector learnt from, both ways in one run, and the difference pose by
pose, each with a 95 % bootstrap interval over poses. The shipped judge learnt from whole images; ONNX files of others are
named by the user.
"""

import argparse
import json
import time

import numpy as np

from posedreamer_assets.body.model import load_body
from posedreamer_assets.cameras.sampling import FRAMING_STRIDE, sample_cameras
from posedreamer_assets.config import DetectorConfig, load_profile
from posedreamer_assets.metrics.intervals import bootstrap_mean
from posedreamer_assets.poses.procedural import FAMILIES, procedural_poses
from posedreamer_assets.render.appearance import sample_appearance
from posedreamer_assets.render.control import render_control_maps
from posedreamer_assets.render.scene import render_scenes
from posedreamer_assets.scoring.detectors import load_detector
from posedreamer_assets.scoring.oks import object_keypoint_similarity
from posedreamer_assets.seeds import sample_rng

SEED = 90_001  # no detector was trained on poses of it


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description="OKS of detectors on renders, whole images against crops")
    parser.add_argument("--poses", type=int, default=192)
    parser.add_argument("--size", type=int, default=512, help="side of the images, pixels")
    parser.add_argument("--fill", type=float, default=0.62, help="least share of the frame that a body fills")
    parser.add_argument("--onnx", action="append", default=[], help="a detector of keypoints to try as well")
    args = parser.parse_args()
    sizes = {"image.width": args.size, "image.height": args.size, "cameras.fill_min": args.fill}
    profile = load_profile("sdxl", sizes)
    body, ids = load_body(None), [f"judged-{i:04d}" for i in range(args.poses)]
    params, families = procedural_poses(body, ids, SEED, ages=profile.poses.ages)
    surface = body.forward(params).vertices[:, ::FRAMING_STRIDE]
    cameras, _ = sample_cameras(surface, ids, SEED, profile.cameras, profile.image)
    kinds = zip(ids, families, strict=True)
    looks = [sample_appearance(sample_rng(SEED, i, "appearance"), FAMILIES[family].activity) for i, family in kinds]
    maps = render_control_maps(body, params, cameras)
    images = render_scenes(body, params, cameras, looks, ids, SEED, profile.scenes)
    found = {}
    for kind, path in (("heatmap", "shipped:judge"), *(("onnx", path) for path in args.onnx)):
        oks = {}
        for crop in ("whole", "label"):
            detector = load_detector(DetectorConfig(kind, path, crop=crop))
            started = time.process_time()
            seen = detector.detect(images, maps.bbox)
            seconds = (time.process_time() - started) / len(images)
            oks[crop] = object_keypoint_similarity(
                seen[..., :2], maps.keypoints_2d, maps.keypoints_visible, maps.body_pixels
            ).astype(np.float64)
            found[detector.name] = {**bootstrap_mean(oks[crop]).as_dict(), "cpu_s_per_image": round(seconds, 4)}
        found[f"{detector.name} minus whole images"] = bootstrap_mean(oks["label"] - oks["whole"]).as_dict()
    print(json.dumps({"poses": args.poses, "size": args.size, "oks": found}, indent=2))


if __name__ == "__main__":
    main()
