"""Training on images: it learns, is repeatable, goes on after a kill, and is the same in one process and in two."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from posedreamer_assets.body.joints import PARENTS
from posedreamer_assets.body.model import load_body
from posedreamer_assets.errors import StudentError
from posedreamer_assets.progress import watching
from posedreamer_assets.students import launch, train_images
from posedreamer_assets.students.augment import Augmentation
from posedreamer_assets.students.labels import Labels
from posedreamer_assets.students.launch import command_of, train_in_processes
from posedreamer_assets.students.person_crops import body_boxes
from posedreamer_assets.students.person_pictures import read_pictures, write_pictures
from posedreamer_assets.students.predict import weights_to_bytes
from posedreamer_assets.students.skinning import TorchBody
from posedreamer_assets.students.spec import StudentSpec
from posedreamer_assets.students.train import Trained
from posedreamer_assets.students.train_images import STATE, STUDENT, Job, Training, train_in, trained_in
from posedreamer_assets.students.vit import predict_pictures, student_of
from posedreamer_assets.tables.images import encode_png
from posedreamer_assets_tests.students.test_crops import SIZE, pixels, precise
from posedreamer_assets_tests.students.test_geometry import SIDE

BODY = load_body()
SPEC = StudentSpec(
    arch="vit-tiny", init="random", train_backbone=True, image_size=SIZE, steps=6, batch_size=4, learning_rate=2e-3
)


def drawn(labels: Labels) -> list[bytes]:
    """Sticks between the joints of each label: what a student can read a pose from."""
    found = []
    for points in pixels(labels):
        image = Image.new("RGB", (SIDE, SIDE), (40, 60, 90))
        draw = ImageDraw.Draw(image)
        for joint in range(1, 22):
            draw.line([*points[joint], *points[PARENTS[joint]]], (230, 40 + 9 * joint, 250 - 10 * joint), 4)
        found.append(encode_png(np.asarray(image)))
    return found


def job(place: Path, spec: StudentSpec = SPEC, seed: int = 7, count: int = 8) -> Path:
    """A folder with pictures of people and a training of them."""
    labels = precise(count)
    labels.pelvis_cam_m[:, :2] *= 0.3
    boxes = body_boxes(TorchBody(BODY, every=84), labels, SIDE, SIDE)
    write_pictures(place, drawn(labels), boxes, labels, spec.image_size)
    Job(spec, seed).write(place)
    return place


def trained(place: Path, spec: StudentSpec = SPEC, seed: int = 7) -> Trained:
    train_in(job(place, spec, seed))
    return trained_in(place)


def same(one: Trained, other: Trained) -> bool:
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_a_student_learns_a_handful_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without changes of images, so that there is something to learn by heart."""
    monkeypatch.setattr(train_images, "sample_augmentation", lambda rng, width, height: Augmentation())
    spec = replace(SPEC, steps=250, batch_size=8)
    found = trained(tmp_path, spec)
    assert found.samples_seen == spec.samples_seen == 2000
    assert found.loss_last < 0.25 * found.loss_first
    pictures = read_pictures(tmp_path, SIZE)
    student = student_of(weights_to_bytes(found.weights), "vit-tiny", SIZE)
    predicted = predict_pictures(student, pictures)
    body = TorchBody(BODY)

    def joints(rotations: np.ndarray, betas: np.ndarray) -> np.ndarray:
        return body.posed_joints(torch.tensor(rotations).float(), torch.tensor(betas).float()).numpy()

    true = joints(pictures.labels.rotations, pictures.labels.betas)
    error = np.linalg.norm(joints(predicted.rotations, predicted.betas) - true, axis=-1).mean(1)
    others = np.linalg.norm(np.roll(true, 1, 0) - true, axis=-1).mean(1)
    assert error.mean() < 0.35 * others.mean(), "it tells people apart"


def test_equal_seeds_give_equal_weights_and_others_give_others(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = trained(tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before), "nobody else's numbers are used up"
    torch.manual_seed(6)
    assert same(first, trained(tmp_path / "b"))
    assert not same(first, trained(tmp_path / "c", seed=8))
    assert first.samples_seen == 24 and len(first.losses) == 6


class Kill:
    """Ends a training at its n-th step, as a kill does."""

    def __init__(self, at: int) -> None:
        self.left = at

    def advance(self, n: int, note: str = "") -> None:
        self.left -= n
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("train_backbone", [True, False])
def test_a_training_that_was_killed_goes_on_to_the_same_weights(tmp_path: Path, train_backbone: bool) -> None:
    spec = replace(SPEC, train_backbone=train_backbone)
    whole = trained(tmp_path / "whole", spec)
    folder = job(tmp_path / "killed", spec)
    with pytest.raises(KeyboardInterrupt), watching(Kill(3)):
        train_in(folder, save_minutes=0)
    assert (folder / STATE).exists() and not (folder / "student.safetensors").exists()
    shutil.copytree(folder, tmp_path / "other")
    Job(spec, 99).write(tmp_path / "other")
    train_in(folder)
    assert same(whole, trained_in(folder)) and trained_in(folder).losses == whole.losses
    assert not (folder / STATE).exists()
    train_in(tmp_path / "other")
    assert len(trained_in(tmp_path / "other").losses) == 6, "the state of another training is not gone on from"
    assert not same(whole, trained_in(tmp_path / "other"))


def test_a_frozen_backbone_stays_as_it_was_given(tmp_path: Path) -> None:
    folder = job(tmp_path, replace(SPEC, train_backbone=False))
    state = {name: torch.randn_like(v) for name, v in _student().backbone.state_dict().items()}
    train_images.write_start(folder, state)
    train_in(folder)
    weights = trained_in(folder).weights
    assert all(torch.equal(weights[f"backbone.{name}"], value.half()) for name, value in state.items())
    start = _student().decoder.state_dict()
    assert not torch.equal(weights["decoder.read.weight"], start["read.weight"].half())


def _student() -> "train_images.ViTStudent":
    torch.manual_seed(7)
    return train_images.ViTStudent("vit-tiny", SIZE)


def test_a_loss_that_is_not_finite_is_told_with_its_step(tmp_path: Path) -> None:
    folder = job(tmp_path)
    with np.load(folder / "labels.npz") as arrays:
        labels = dict(arrays)
    labels["betas"][:] = np.nan
    np.savez(folder / "labels.npz", **labels)  # type: ignore[arg-type]
    with pytest.raises(StudentError, match=r"step 0: training diverged: loss is nan; lower student\.learning_rate"):
        train_in(folder)
    with pytest.raises(StudentError, match=r"no job\.json"):
        train_in(tmp_path / "nothing")


def test_each_process_has_its_own_part_of_a_batch(tmp_path: Path) -> None:
    """Together they have the batch of one process, in its order, changed in the same way."""
    training = Training(Job.read(job(tmp_path)), tmp_path, train_images.Accelerator(cpu=True))
    whole = training._part(3)

    class Group:
        num_processes = 2
        process_index = 0

    parts = []
    for Group.process_index in (0, 1):
        training.group = Group  # type: ignore[assignment]
        parts += training._part(3)
    assert parts == whole and len(whole) == 4


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    """In float32: bfloat16 rounds sums over half a batch otherwise than over all of it, in the third digit."""
    plain = replace(SPEC, precision="float32")
    one, two = job(tmp_path / "one", plain), job(tmp_path / "two", plain)
    train_in(one)
    told = Told()
    with watching(told):
        train_in_processes(2, two, {"CUDA_VISIBLE_DEVICES": ""})
    assert told.units == SPEC.steps
    assert np.abs(np.array(trained_in(one).losses) - trained_in(two).losses).max() < 1e-5
    first, second = (load_file(place / STUDENT) for place in (one, two))
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5
    start = _student().state_dict()
    assert max(float((first[name] - start[name]).abs().max()) for name in first) > 1e-3, "it has learnt meanwhile"


class Told:
    """Counts progress."""

    units = 0

    def advance(self, n: int, note: str = "") -> None:
        self.units += n


@pytest.mark.slow
def test_what_a_process_says_of_its_end_is_told(tmp_path: Path) -> None:
    folder = job(tmp_path, replace(SPEC, batch_size=5))
    with pytest.raises(StudentError, match="batch_size 5 cannot be shared equally by 2 processes"):
        train_in_processes(2, folder, {"CUDA_VISIBLE_DEVICES": ""})


@pytest.mark.parametrize(("gpus", "processes"), [([], 0), (["2"], 0), (["0", "3"], 2)])
def test_several_gpus_have_a_process_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: list[str], processes: int
) -> None:
    job(tmp_path)
    started = []

    def start(count: int, folder: Path, environment: dict[str, str]) -> None:
        started.append((count, environment))
        train_in(folder)

    monkeypatch.setattr(launch, "train_in_processes", start)
    assert launch.train_on(gpus, tmp_path).samples_seen == 24
    assert started == ([(processes, {"CUDA_VISIBLE_DEVICES": "0,3"})] if processes else [])
    told, before = Told(), (tmp_path / STUDENT).stat().st_mtime_ns
    with watching(told):
        launch.train_on(gpus, tmp_path)
    assert told.units == 6 and (tmp_path / STUDENT).stat().st_mtime_ns == before, "what is trained is not trained again"


def test_the_command_says_all_that_a_file_of_the_user_could(tmp_path: Path) -> None:
    command = command_of(4, tmp_path)
    assert command[command.index("--num_processes") + 1] == "4"
    assert command[-3:] == ["-m", "posedreamer_assets.students.train_images", str(tmp_path)]
    for name in ("num_machines", "mixed_precision", "dynamo_backend", "gpu_ids", "main_process_port"):
        assert f"--{name}" in command
