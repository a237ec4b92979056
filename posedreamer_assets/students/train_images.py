"""Training a student that sees images: in this process, or in several that accelerate starts, from one folder of files.

    accelerate launch --num_processes 4 -m posedreamer_assets.students.train_images FOLDER

A folder holds pictures, their labels, `job.json` and, where the backbone has learnt before, `start.safetensors`; in the end
also `student.safetensors` and `result.json`, and meanwhile `state.pt`, from which a training that was killed goes on, and
`log.jsonl`. Which pictures a step sees, and how each is changed, follows from the seed and the number of the step alone. Each
process computes an equal part of the step's batch, so that how many there are changes nothing but rounding.
"""

import json
import sys
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from posedreamer_assets.body.model import load_body
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import PoseDreamerError, StudentError
from posedreamer_assets.progress import advance
from posedreamer_assets.students import losses
from posedreamer_assets.students.augment import Augmentation, sample_augmentation
from posedreamer_assets.students.person_pictures import read_pictures
from posedreamer_assets.students.skinning import TorchBody
from posedreamer_assets.students.spec import StudentSpec
from posedreamer_assets.students.train import CLIP, EVERY, LAST_RATE, Trained, halved, order_of
from posedreamer_assets.students.vit import ViTStudent
from posedreamer_assets.training.average import AveragedWeights
from posedreamer_assets.training.log import JsonLog
from posedreamer_assets.training.loop import Budget, Duty, Progress, TrainingDiverged, descend, run_loop, set_rates
from posedreamer_assets.training.repeatable import repeatable
from posedreamer_assets.training.resume import read_state, write_state
from posedreamer_assets.training.schedule import rate_factor

JOB, START, STATE, STUDENT, RESULT, LOG, FAILED = (
    "job.json",
    "start.safetensors",
    "state.pt",
    "student.safetensors",
    "result.json",
    "log.jsonl",
    "failed.txt",
)
_SAVE_MINUTES = 10.0
_AHEAD = 2  # batches that are cut while another is computed
_WEIGHT_DECAY = 1e-4
_EPSILON = 1e-6
"""Of Adam: keys' biases have no slope but that of rounding, which must not become steps."""


@dataclass(frozen=True)
class Job:
    """What a training depends on beside its pictures.

    Attributes:
        spec: how students are trained.
        seed: of weights, order and changes of images.
        body: file of the model that labels belong to; None is the free body.
    """

    spec: StudentSpec
    seed: int
    body: str | None = None

    def write(self, folder: Path) -> None:
        """Last of all that a folder is given: what has it, is complete."""
        (folder / JOB).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """What `write` wrote.

        Raises:
            StudentError: the folder has no job.
        """
        try:
            tree = json.loads((folder / JOB).read_text())
        except (OSError, ValueError) as error:
            raise StudentError(f"{folder}: no {JOB}, so no training to begin ({error})") from error
        return cls(StudentSpec(**tree["spec"]), tree["seed"], tree["body"])


def train_in(folder: Path, *, save_minutes: float = _SAVE_MINUTES) -> None:
    """Train the student of a folder and leave its weights there; the same in every process that takes part.

    Args:
        folder: see above.
        save_minutes: how often the state is written.

    Raises:
        StudentError: the loss is not finite, or the batch cannot be shared equally.
    """
    job = Job.read(folder)
    group = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
    if job.spec.batch_size % group.num_processes:
        raise StudentError(
            f"batch_size {job.spec.batch_size} cannot be shared equally by {group.num_processes} processes: make it a multiple"
        )
    with repeatable(group.device), torch.random.fork_rng(devices=[]):
        training = Training(job, folder, group)
        training.resume()
        training.run(save_minutes)
        if group.is_main_process:
            training.write()
    group.wait_for_everyone()


class Training:
    """One student on its way."""

    def __init__(self, job: Job, folder: Path, group: Accelerator) -> None:
        self.job, self.folder, self.group, spec = job, folder, group, job.spec
        self.pictures = read_pictures(folder, spec.image_size)
        torch.manual_seed(job.seed)
        self.student = ViTStudent(
            spec.arch, spec.image_size, train_backbone=spec.train_backbone, precision=spec.precision
        )
        if (folder / START).exists():
            self.student.backbone.load_state_dict(load_file(folder / START))
        self.student.to(group.device).train()
        learning = [p for p in self.student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            learning, lr=spec.learning_rate, weight_decay=_WEIGHT_DECAY, eps=_EPSILON, fused=True
        )
        self.shared: nn.Module = group.prepare_model(self.student)
        self.average = AveragedWeights(
            self.student, 1.0
        )  # over about a ninth of the steps so far, however many there are
        self.body = TorchBody(load_body(job.body), every=EVERY, device=group.device)
        self.order = order_of(len(self.pictures), spec, job.seed)
        self.progress, self.losses = Progress(), []
        self.of = digest([asdict(job), len(self.pictures)])

    def run(self, save_minutes: float) -> None:
        """The steps that are left.

        Raises:
            StudentError: the loss is not finite.
        """
        spec, main = self.job.spec, self.group.is_main_process
        batches = self._batches()

        def step(share: float) -> float:
            warmth = (self.progress.step + 1) / max(1, spec.steps // 20)
            set_rates([self.optimizer], rate_factor(share, 1.0, warmth, floor=LAST_RATE))
            loss = self._loss(*next(batches))
            value = float(self._mean(loss.detach()))
            if not np.isfinite(value):  # of all processes: none is left waiting for one that has stopped
                raise TrainingDiverged(f"training diverged: loss is {value}")
            descend(loss, self.shared, [self.optimizer], clip=CLIP)
            if main:
                self.average.update(self.progress.step)
            self.losses.append(value)
            return value

        duties = [Duty(self.save, minutes=save_minutes), Duty(lambda: advance(1), steps=1)] if main else []
        log = JsonLog(self.folder / LOG) if main else None
        try:
            run_loop(step, Budget(max_steps=spec.steps), self.progress, duties, log)
        except TrainingDiverged as error:
            raise StudentError(f"step {self.progress.step}: {error}; lower student.learning_rate") from error
        finally:
            batches.close()

    def _loss(self, images: Tensor, true: losses.LabelTensors) -> Tensor:
        height, width = self.job.spec.image_size
        found = self.shared(images, true.focal_px, width)
        return losses.weighted(losses.terms(found, true, self.body, width, height, self._mean))

    def _mean(self, value: Tensor) -> Tensor:
        """Over all processes."""
        return self.group.reduce(value, "mean")  # pyright: ignore[reportReturnType]

    def _batches(self) -> Generator[tuple[Tensor, losses.LabelTensors], None, None]:
        """This process's part of each step's batch; images of the next ones are cut meanwhile."""
        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            waiting: deque[list[Future[np.ndarray]]] = deque()
            steps = iter(range(self.progress.step, self.job.spec.steps))
            for number in range(self.progress.step, self.job.spec.steps):
                while len(waiting) <= _AHEAD and (ahead := next(steps, None)) is not None:
                    waiting.append([pool.submit(self.pictures.seen, *one) for one in self._part(ahead)])
                images = torch.from_numpy(np.stack([one.result() for one in waiting.popleft()]))
                numbers, augs = zip(*self._part(number), strict=True)
                labels = self.pictures.labels_seen(np.array(numbers), [*augs])
                yield images.to(self.group.device), losses.LabelTensors.of(labels, self.group.device)

    def _part(self, step: int) -> list[tuple[int, Augmentation]]:
        """Pictures of this process at a step, and what is done to each."""
        size, (height, width) = self.job.spec.batch_size, self.job.spec.image_size
        share = size // self.group.num_processes
        first = self.group.process_index * share
        found = []
        for place in range(first, first + share):
            rng = np.random.default_rng([self.job.seed, step * size + place])
            found.append((int(self.order[step][place]), sample_augmentation(rng, width, height)))
        return found

    def save(self) -> None:
        """What `resume` goes on from."""
        write_state(
            self.folder / STATE,
            of=self.of,
            step=self.progress.step,
            seconds=self.progress.seconds,
            losses=self.losses,
            student=self.student,
            average=self.average.state,
            optimizer=self.optimizer,
        )

    def resume(self) -> None:
        """Go on from the state of this very training, if there is one."""
        if not (self.folder / STATE).exists():
            return
        state = read_state(self.folder / STATE)
        if state["of"] != self.of:
            return
        self.student.load_state_dict(state["student"])
        self.average.state = {name: value.to(self.group.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(state["step"], state["seconds"])
        self.losses = list(state["losses"])
        if self.group.is_main_process:
            advance(self.progress.step)

    def write(self) -> None:
        """The weights, whole or not at all, and what is said of them; the state is of no more use."""
        partial = self.folder / f"{STUDENT}.part"
        save_file({name: value.cpu().contiguous() for name, value in self.average.state.items()}, partial)
        partial.replace(self.folder / STUDENT)
        (self.folder / RESULT).write_text(json.dumps({"losses": self.losses, "steps": self.progress.step}))
        (self.folder / STATE).unlink(missing_ok=True)


def trained_in(folder: Path) -> Trained:
    """The student that `train_in` left in a folder."""
    result, job = json.loads((folder / RESULT).read_text()), Job.read(folder)
    return Trained(halved(load_file(folder / STUDENT)), result["losses"], result["steps"] * job.spec.batch_size)


def write_start(folder: Path, state: dict[str, Tensor] | None) -> None:
    """Weights that a backbone starts from, for all processes; none for random ones."""
    if state is not None:
        save_file({name: value.contiguous() for name, value in state.items()}, folder / START)


def main(folder: Path) -> None:
    """One of the processes that accelerate starts; an error in words is left in the folder."""
    try:
        train_in(folder)
    except PoseDreamerError as error:
        (folder / FAILED).write_text(str(error))
        raise SystemExit(f"error: {error}") from None
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
