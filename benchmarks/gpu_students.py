"""Steps a second and memory of students that see images, with random weights: neither needs trained ones, or a download.

    python benchmarks/gpu_students.py                  # on a GPU: ViT-S and ViT-L, 256 x 192, bfloat16, 48 images a step
    python benchmarks/gpu_students.py --plan           # anywhere: memory as it is expected, from a step of two images
    python benchmarks/gpu_students.py --tiny           # anywhere, in seconds: that the program works

Prints JSON. Of each setting: seconds of a step (the median of `--steps`, after two), images a second, seconds of a step whose
images were all cut before it (what the processor adds is the difference), the peak of memory on a GPU, and the plan:

    16 bytes a weight that learns (weight, gradient, two moments), 4 that does not, 4 for the average, and activations

where activations are the bytes that autograd keeps of a step, counted on this processor for two images and for three: what the
third one adds, times the batch, and what does not grow, such as the weights that were rounded to bfloat16.
`--frozen` trains the decoder alone. One process: with several, each has its part of the batch and all weights.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from posedreamer_assets.students import losses
from posedreamer_assets.students.archs import RANDOM
from posedreamer_assets.students.labels import Labels
from posedreamer_assets.students.person_pictures import roomy
from posedreamer_assets.students.spec import StudentSpec
from posedreamer_assets.students.train_images import START, Job, Training, write_start
from posedreamer_assets.students.vit import ViTStudent
from posedreamer_assets.training.loop import descend

GB = 1e9


def write_folder(folder: Path, spec: StudentSpec, count: int) -> None:
    """Pictures of noise with upright bodies, as a stage leaves pictures of people."""
    rng, whole = np.random.default_rng(0), roomy(spec.image_size)
    np.save(folder / "pictures.npy", rng.integers(0, 256, (count, *whole, 3), np.uint8))
    labels = Labels.unknown(np.full(count, 1.7 * whole[1]), np.tile([whole[1] / 2, whole[0] / 2], (count, 1)))
    upright = labels.rotations.copy()
    upright[:, 0] = np.diag([1, -1, -1])
    labels = replace(labels, rotations=upright, pelvis_cam_m=np.tile(np.array([0, 0, 4], np.float32), (count, 1)))
    np.savez(folder / "labels.npz", **{one.name: getattr(labels, one.name) for one in fields(labels)})
    Job(spec, 0).write(folder)


def kept_bytes(spec: StudentSpec, images: int) -> int:
    """Bytes that autograd keeps of a forward pass on this processor, weights left out."""
    student = ViTStudent(
        spec.arch, spec.image_size, train_backbone=spec.train_backbone, precision=spec.precision
    ).train()
    weights = {p.untyped_storage().data_ptr() for p in student.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive, so that no other storage takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        student(torch.zeros(images, *spec.image_size, 3, dtype=torch.uint8), torch.ones(images), spec.image_size[1])
    return sum(size for size, _ in kept.values())


def plan(spec: StudentSpec) -> dict[str, float]:
    """Gigabytes by part, see the module's docstring."""
    with torch.device("meta"):
        student = ViTStudent(spec.arch, spec.image_size, train_backbone=spec.train_backbone)
    sizes = [(p.numel(), p.requires_grad) for p in student.parameters()]
    weights = sum(size * (20 if learns else 8) for size, learns in sizes)
    two, three = kept_bytes(spec, 2), kept_bytes(spec, 3)  # a single image may take other ways through the kernels
    activations = (three - two) * spec.batch_size + 3 * two - 2 * three
    parts = {"weights": weights / GB, "activations": activations / GB}
    return {"million_weights": sum(size for size, _ in sizes) / 1e6, **parts, "sum": sum(parts.values())}


def measure(spec: StudentSpec, steps: int) -> dict[str, float]:
    """Seconds of steps, with images that are cut meanwhile and with images that were cut before."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_folder(folder, spec, 4 * spec.batch_size)
        if not spec.train_backbone:
            write_start(folder, ViTStudent(spec.arch, spec.image_size).backbone.state_dict())
        assert spec.train_backbone or (folder / START).exists()
        training = Training(
            Job(replace(spec, steps=2 * steps + 8), 0), folder, Accelerator(cpu=not torch.cuda.is_available())
        )
        batches = training._batches()
        on_gpu = training.group.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()

        def step(images: Tensor, true: losses.LabelTensors) -> None:
            descend(training._loss(images, true), training.shared, [training.optimizer])
            training.average.update(0)
            if on_gpu:
                torch.cuda.synchronize()

        def timed(ready: list[tuple[Tensor, losses.LabelTensors]]) -> float:
            seconds = []
            for number in range(steps + 2):
                start = time.perf_counter()
                step(*(ready[number % len(ready)] if ready else next(batches)))
                seconds.append(time.perf_counter() - start)
            return statistics.median(seconds[2:])

        whole, alone = timed([]), timed([next(batches), next(batches)])
        batches.close()
        peak = torch.cuda.max_memory_allocated() / GB if on_gpu else 0.0
        return {"step_s": whole, "images_s": spec.batch_size / whole, "step_alone_s": alone, "peak_gb": peak}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", nargs="+", default=["vit-s", "vit-l"])
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--frozen", action="store_true", help="train the decoder alone")
    parser.add_argument("--plan", action="store_true", help="no steps")
    parser.add_argument("--tiny", action="store_true", help="two layers, 64 x 48 pixels, two steps of four images")
    args = parser.parse_args()
    archs, size = (["vit-tiny"], (64, 48)) if args.tiny else (args.archs, (256, 192))
    steps, batch = (2, 4) if args.tiny else (args.steps, args.batch_size)
    found = []
    for arch in archs:
        spec = StudentSpec(
            arch=arch, init=RANDOM, train_backbone=not args.frozen, image_size=size, precision=args.precision
        )
        spec = replace(spec, batch_size=batch)
        row: dict[str, object] = {"arch": arch, "batch_size": batch, "precision": spec.precision, "frozen": args.frozen}
        row["plan_gb"] = plan(spec)
        if not args.plan:
            try:
                row |= measure(spec, steps)
            except torch.OutOfMemoryError:
                row["step_s"] = row["peak_gb"] = None  # does not fit
        found.append(row)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(json.dumps({"device": device, "torch": torch.__version__, "settings": found}, indent=1))


if __name__ == "__main__":
    main()
