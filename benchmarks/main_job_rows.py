"""The rows of `benchmarks/main_job.py`: each function measures one thing and returns a `Measured`."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from posedreamer_assets.cli.commands import main; main()"]
PRECISION = ("--set", "generator.dtype=float32")
SMALLEST = (
    *("--batches", "1", "--align-batches", "1", "--poses-per-batch", "12"),
    *("--set", "alignment.min_gap=0.0", "--set", "alignment.min_winner=0.0", "--set", "alignment.val_share=0.4"),
    *("--set", "alignment.test_share=0.35", "--set", "curriculum.pool_size=24"),
    *("--set", "curriculum.rounds=[{size: 6}]", "--set", "quality.bootstrap=5"),
)


@dataclass(frozen=True)
class Measured:
    """What a row shows: `text` as measured, `ratio` where there is a baseline, `met` where an aim can be compared with."""

    text: str
    ratio: str = ""
    met: bool | None = None
    figures: dict[str, float] = field(default_factory=dict)


class NotMeasuredError(Exception):
    """Why a row has no figure."""


@dataclass(frozen=True)
class Options:
    """`home`: one that a default run has finished; None means none. `long`: whether minutes to an hour may be spent."""

    home: Path | None
    long: bool


def whole_run(options: Options) -> Measured:
    """The default run in a home of its own, from imports to the report."""
    if not options.long:
        raise NotMeasuredError("takes a quarter to half an hour: --long")
    with tempfile.TemporaryDirectory() as folder:
        cpu_s, wall_s = _posedreamer("run", "--home", folder, *PRECISION)
    met, figures = cpu_s <= 900 and wall_s <= 480, {"cpu_s": cpu_s, "wall_s": wall_s}
    return Measured(f"{cpu_s:.0f} CPU s, {wall_s / 60:.1f} min", met=met, figures=figures)


def set_up(options: Options) -> Measured:
    """`make setup` in a copy of what git tracks, with an empty cache: downloads included."""
    if not options.long:
        raise NotMeasuredError("downloads gigabytes: --long")
    with tempfile.TemporaryDirectory() as name:
        clone, started = Path(name) / "clone", time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        environment = {**os.environ, "PIP_CACHE_DIR": f"{name}/cache"}
        subprocess.run(
            ["make", "setup", f"PYTHON={sys.executable}"],
            cwd=clone,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wall_s = time.perf_counter() - started
        size_mb = (
            sum(f.stat().st_size for f in (clone / ".venv").rglob("*") if f.is_file() and not f.is_symlink()) / 1e6
        )
    return Measured(
        f"{wall_s / 60:.1f} min, {size_mb:.0f} MB", met=wall_s <= 120, figures={"wall_s": wall_s, "mb": size_mb}
    )


def first_picture(options: Options) -> Measured:
    """Wall clock from the start of a default run to the line with the path of the first pictures."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [*COMMAND, "run", "--home", folder, *PRECISION]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
            assert child.stderr is not None
            found = next((line for line in child.stderr if line.startswith("first pictures:")), None)
            wall_s = time.perf_counter() - started
            os.killpg(child.pid, signal.SIGKILL)
            child.stderr.read()
    if found is None:
        raise NotMeasuredError("the run showed none")
    cpu_s = _children_s()
    return Measured(f"{wall_s:.0f} s, {cpu_s:.0f} CPU s", met=wall_s <= 90, figures={"wall_s": wall_s, "cpu_s": cpu_s})


def commands(options: Options) -> Measured:
    """A second run with nothing changed, `status`, `doctor` and `--help`."""
    with tempfile.TemporaryDirectory() as folder:
        home = str(options.home or folder)
        chosen = () if options.home else (*PRECISION, *SMALLEST)  # a home of the user stays with its own settings
        if options.home is None:
            _posedreamer("run", "--home", home, *chosen)
        actions = (
            ("run", "--home", home, *chosen),
            ("status", "--home", home),
            ("doctor", "--home", home),
            ("--help",),
        )
        seconds = [min(_posedreamer(*action)[0] for _ in range(2)) for action in actions]
    where = "" if options.home else " (12 poses)"
    return Measured(
        " / ".join(f"{s:.2f}" for s in seconds) + f" CPU s{where}",
        met=all(s <= aim for s, aim in zip(seconds, (3, 2, 4, 0.5), strict=True)),
        figures=dict(zip(("run", "status", "doctor", "help"), seconds, strict=True)),
    )


def importing(options: Options) -> Measured:
    """The definitions against `import dagster`, each in a process of its own, in turn, the least of six.

    Bytecode is kept for both, as it is where the package is installed.
    """
    timed = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"
    times: dict[str, list[float]] = {"posedreamer_assets.definitions": [], "dagster": []}
    with tempfile.TemporaryDirectory() as bytecode:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = bytecode
        for _ in range(6):
            for module, found in times.items():
                command = [sys.executable, "-c", timed.format(module)]
                found.append(float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout))
    ours, dagster = (min(found) for found in times.values())
    return Measured(
        f"{ours:.2f} CPU s", f"{ours / dagster:.2f} x", ours / dagster <= 1.3, {"ours": ours, "dagster": dagster}
    )


def control_maps(options: Options) -> Measured:
    """RGB at 512 pixels against the reference structure, and all five maps against RGB."""
    import render

    found = render.measure(512, 32, 8)
    faster, five = found["reference, RGB alone"] / found["RGB alone"], found["five maps"] / found["RGB alone"]
    text = f"RGB {1e3 * found['RGB alone']:.1f} ms, five {1e3 * found['five maps']:.1f} ms"
    return Measured(text, f"{faster:.0f} x; {five:.2f} x", faster >= 15 and five <= 1.5, found)


def scenes(options: Options) -> Measured:
    """One body's scene, at 128 and at 512 pixels."""
    import render

    small, large = (render.measure(size, 32, 0)["scene"] for size in (128, 512))
    return Measured(
        f"{small:.4f} s, {large:.4f} s", met=small <= 0.02 and large <= 0.1, figures={"128": small, "512": large}
    )


def poses(options: Options) -> Measured:
    """A row of the pose library, camera, caption and look included."""
    from orchestration_overhead import Loop

    from posedreamer_assets.config import load_profile
    from posedreamer_assets.pipeline import graph_of
    from posedreamer_assets.pipeline.models import Models
    from posedreamer_assets.pipeline.stage import Inputs

    profile = load_profile("pocket")
    stage, models, loop = graph_of(profile)["pose_library"], Models(profile), Loop(profile, Path())
    stage.make(Inputs(stage, profile, loop, models, "procedural-0001"))  # loads
    work = Inputs(stage, profile, loop, models, "procedural-0000")
    seconds = _least(lambda: stage.make(work), 3) / profile.poses.batch_size
    return Measured(f"{seconds:.4f} s", met=seconds <= 0.006, figures={"s": seconds})


def forward(options: Options) -> Measured:
    """SMPL-X forwards against stock smplx."""
    import body

    found = body.compare(64)
    text = f"{found['ours']:.2f} ms against {found['smplx']:.2f}; {found['apart_m']:.1e} m apart"
    return Measured(text, f"{found['ratio']:.1f} x", found["ratio"] >= 12 and found["apart_m"] <= 1e-5, found)


def image(options: Options) -> Measured:
    """An image of the pocket generator, one core, at the profile's steps."""
    import generator
    import torch

    from posedreamer_assets.config import load_profile

    torch.set_num_threads(1)
    steps = load_profile("pocket").generator.steps
    found: dict[str, Any] = generator.measure(8, [steps])
    seconds, speed = found[f"image, {steps} steps, s"], found["matrix products, Gflop/s"]
    return Measured(
        f"{seconds:.3f} s, {steps} steps ({speed:.0f} Gflop/s)", met=seconds <= 0.15, figures={"s": seconds}
    )


def alignment_step(options: Options) -> Measured:
    """A step of Flow-DPO against the reference structure; the losses are compared, too."""
    import dpo
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = dpo.compare(16, 2, Path(folder))
    whole, halves = found["ratio"], found["ratio of half images"]
    seconds = [found[f"here, {kind} images, CPU s a step"] for kind in ("whole", "half")]
    text = f"{seconds[0]:.1f} s whole, {seconds[1]:.1f} s half images"
    return Measured(text, f"{whole:.1f} x whole, {halves:.1f} x half", whole >= 3, {"whole": whole, "half": halves})


def fid(options: Options) -> Measured:
    """FID of 5,000 + 5,000 images' features here and by torch-fidelity's own lines, which need torchvision to be imported.

    The network is left out: it is the same one. Features are those of no image, with the spectrum of real ones.
    """
    from posedreamer_assets.metrics import distances

    rng = np.random.default_rng(0)
    spectrum = np.arange(1, 2049) ** -0.6
    first, second = ((rng.normal(shift, 1, (5000, 2048)) * spectrum).astype(np.float32) for shift in (0.0, 0.1))
    ours, theirs = (
        _timed(call) for call in (lambda: distances.fid(first, second), lambda: _torch_fidelity(first, second))
    )
    apart = abs(ours[1] - theirs[1])
    ratio = theirs[0] / ours[0]
    text = f"{ours[0]:.1f} s against {theirs[0]:.1f}, features given; {apart:.1e} apart"
    return Measured(text, f"{ratio:.1f} x", ratio >= 1.5 and apart <= 1e-3, {"ours": ours[0], "theirs": theirs[0]})


def _torch_fidelity(first: np.ndarray, second: np.ndarray) -> float:
    """`fid_features_to_statistics` and `fid_statistics_to_metric` of torch-fidelity 0.4.0 (Apache-2.0), on arrays."""
    mu1, mu2 = first.mean(axis=0), second.mean(axis=0)
    sigma1, sigma2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    diff = mu1 - mu2
    tr_covmean = np.sum(np.sqrt(np.linalg.eigvals(sigma1.dot(sigma2)).astype("complex128")).real)
    return float(diff.dot(diff) + np.trace(sigma1) + np.trace(sigma2) - 2 * tr_covmean)


def oks(options: Options) -> Measured:
    """OKS of 2,000 people, one in each image, against COCOeval.computeOks; building COCO's indices does not count."""
    from posedreamer_assets.scoring.oks import object_keypoint_similarity

    rng, n = np.random.default_rng(0), 2000
    truth = rng.uniform(0, 128, (n, 17, 2)).astype(np.float32)
    detected = truth + rng.normal(0, 4, truth.shape).astype(np.float32)
    visible, area = rng.random((n, 17)) < 0.7, rng.uniform(300, 4000, n).astype(np.float32)
    judge = _coco(detected, truth, visible, area)
    theirs_s = _least(lambda: [judge.computeOks(i, 1) for i in range(1, n + 1)], 3)
    ours_s = _least(lambda: object_keypoint_similarity(detected, truth, visible, area), 9)
    expected = [float(np.asarray(judge.computeOks(i, 1))[0, 0]) for i in range(1, n + 1)]
    apart = float(np.abs(object_keypoint_similarity(detected, truth, visible, area) - expected).max())
    text = f"{1e6 * ours_s / n:.2f} us a person against {1e6 * theirs_s / n:.1f}; {apart:.0e} apart"
    return Measured(
        text,
        f"{theirs_s / ours_s:.0f} x",
        theirs_s / ours_s >= 10 and apart <= 1e-6,
        {"ours": ours_s, "theirs": theirs_s},
    )


def _coco(detected: np.ndarray, truth: np.ndarray, visible: np.ndarray, area: np.ndarray) -> Any:
    from contextlib import redirect_stdout

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def held(keypoints: np.ndarray, flags: np.ndarray, **more: Any) -> Any:
        data: Any = COCO()
        flat = np.concatenate([keypoints, flags[..., None]], 2).reshape(len(keypoints), -1).tolist()
        people = [
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 1, 1], "area": float(a), "keypoints": k,
             "num_keypoints": int(v.sum()), **more}
            for i, (k, a, v) in enumerate(zip(flat, area, visible, strict=True), start=1)
        ]  # fmt: skip
        images = [{"id": i} for i in range(1, len(people) + 1)]
        data.dataset = {"images": images, "categories": [{"id": 1, "name": "person"}], "annotations": people}
        data.createIndex()
        return data

    with redirect_stdout(None):
        judge: Any = COCOeval(
            held(truth, 2.0 * visible), held(detected, np.ones(visible.shape), score=1.0), "keypoints"
        )
        judge._prepare()
    return judge


def orchestration(options: Options) -> Measured:
    """The graph against the stages' own `make` in a loop, checks and storage included; of the whole graph where time allows."""
    import orchestration_overhead as overhead

    if options.long:
        found = overhead.measure_whole({"generator.dtype": "float32"}, 1, overhead.WARM_UP)
        wall, cpu = found["overhead_wall"], found["overhead_cpu"]
        return Measured(
            f"{100 * wall:+.1f} % wall, {100 * cpu:+.1f} % CPU", met=wall <= 0.1, figures={"wall": wall, "cpu": cpu}
        )
    part = overhead.measure(96, 2)
    added = part["added_cpu_s_per_partition"]
    share = added / 1000.0  # of a partition of 1,000 images of one second
    text = f"{added:.3f} CPU s a partition of 96; {100 * share:.2f} % of 1,000 images of 1 s; whole graph: --long"
    return Measured(text, met=share <= 0.02, figures=part)


def growth(options: Options) -> Measured:
    """How much slower opening, reading and replacing are with the last number of partitions than with ten."""
    import growth as tables

    partitions = 2000 if options.long else 500
    measured = tables.grow(partitions, 10, 8, 20)[0]
    last = measured[max(measured)]
    ratios = [more / few for more, few in zip(last["with"], last["ten"], strict=True)]
    text = ", ".join(f"{name} {ratio:.1f} x" for name, ratio in zip(tables.FIGURES, ratios, strict=True))
    return Measured(
        f"{text} at {max(measured)} partitions", f"{max(ratios):.1f} x", max(ratios) <= 2, {"largest": max(ratios)}
    )


def _posedreamer(*arguments: str) -> tuple[float, float]:
    """CPU and wall-clock seconds of a command; its output is kept from the terminal.

    Raises:
        NotMeasuredError: it failed.
    """
    before, started = _children_s(), time.perf_counter()
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise NotMeasuredError(
            f"`posedreamer {arguments[0]}` failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        )
    return _children_s() - before, time.perf_counter() - started


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _timed(call: Callable[[], float]) -> tuple[float, float]:
    started = time.process_time()
    value = call()
    return time.process_time() - started, value


def _least(call: Callable[[], object], times: int) -> float:
    """Least CPU seconds of several calls."""
    found = []
    for _ in range(times):
        started = time.process_time()
        call()
        found.append(time.process_time() - started)
    return min(found)
