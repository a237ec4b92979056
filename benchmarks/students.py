"""Students a minute: many trained from one cache of features, against each one that computes its own.

    python benchmarks/students.py [--images 64] [--steps 60] [--students 18]

Images are noise and labels are upright bodies: the time of a step depends on neither. Measured in processor seconds of this
process, on one thread, in one run: computing the features of all copies once, and training students one after the other. With
the cache, features are computed once for all students; without it, once for each of them, which is what training one by one
would cost. A student that computed the features of every batch anew, as with a backbone that is trained, would cost more still:
that is the third line.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from posedreamer_assets.body.model import load_body
from posedreamer_assets.cores import one_thread
from posedreamer_assets.students.features import SIDE, Backbone
from posedreamer_assets.students.labels import BODY_JOINTS, Labels
from posedreamer_assets.students.recipes import StudentSpec
from posedreamer_assets.students.train import Samples, train


def upright(count: int) -> Labels:
    """Labels of bodies that stand before the camera."""
    rotations = np.tile(np.eye(3, dtype=np.float32), (count, BODY_JOINTS, 1, 1))
    rotations[:, 0] = np.diag([1, -1, -1])
    return Labels(
        rotations,
        np.zeros((count, 10), np.float32),
        np.tile(np.array([0, 0, 4], np.float32), (count, 1)),
        np.full(count, 200, np.float32),
        np.full((count, 2), SIDE / 2, np.float32),
    )


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of a piece of work, and what it returns."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="of a recipe")
    parser.add_argument("--of-study", type=int, default=960, help="images of a study that recipes draw from")
    parser.add_argument("--of-recipe", type=int, default=320, help="images of a recipe of that study")
    parser.add_argument(
        "--steps", type=int, default=60, help="that are measured; a student has those of the shipped studies"
    )
    parser.add_argument("--students", type=int, default=18, help="of a study")
    given = parser.parse_args()
    spec = StudentSpec()
    copies = given.images * spec.copies
    body, backbone = load_body(), Backbone(spec.init)
    pictures = np.random.default_rng(0).integers(0, 256, (copies, SIDE, SIDE, 3)).astype(np.uint8)
    with one_thread():
        backbone(pictures[:32])  # the first call sets things up
        of_features, features = seconds(lambda: backbone(pictures))
        samples = Samples(features, upright(copies), SIDE, SIDE)
        train(body, samples, StudentSpec(steps=3), 0)
        short = StudentSpec(steps=given.steps)
        of_steps, _ = seconds(lambda: train(body, samples, short, 0))
    a_copy, a_student = of_features / copies, of_steps / given.steps * spec.steps
    cached = a_student + given.of_study * spec.copies * a_copy / given.students
    alone = a_student + given.of_recipe * spec.copies * a_copy
    anew = a_student + spec.samples_seen * a_copy
    measured = f"features of a copy {1000 * a_copy:.1f} ms, a student of {spec.steps} steps {a_student:.1f} s"
    print(f"{measured} (processor time, one thread)")
    print("| students | seconds each | a minute | ratio |\n|---|---|---|---|")
    for name, each in (
        ("from the study's cache", cached),
        ("one by one, features of its own", alone),
        ("features anew in each step", anew),
    ):
        print(f"| {name} | {each:.1f} | {60 / each:.1f} | {each / cached:.2f} |")


if __name__ == "__main__":
    main()
