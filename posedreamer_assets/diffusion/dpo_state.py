"""What a Flow-DPO training that was killed goes on from."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from posedreamer_assets.diffusion.adapters import adapter_file
from posedreamer_assets.digests import digest, file_digest
from posedreamer_assets.training.resume import read_state, write_state

if TYPE_CHECKING:
    from posedreamer_assets.diffusion.dpo import DpoTrainer

MEMORY_ALONE = ("micro_pairs", "gradient_checkpointing", "latent_cache", "save_every")
"""Settings with which a training that was killed, for want of memory perhaps, may go on differently."""


@dataclass
class Course:
    """How a training has gone so far: the adapter that is best, the entries of steps and validations."""

    best: dict[str, Tensor]
    validations: list[dict[str, float]]
    steps: list[dict[str, float]] = field(default_factory=list)
    step: int = 0


class SavedTraining:
    """The state of one training in `folder/state.pt`; that of another training, by settings or pairs, is not taken up."""

    def __init__(self, trainer: "DpoTrainer", folder: Path, seed: int, start: Path | None) -> None:
        self.trainer, self.file = trainer, folder / "state.pt"
        pairs, cfg = trainer.encoder.pairs, dataclasses.asdict(trainer.cfg)
        cfg = {name: value for name, value in cfg.items() if name not in MEMORY_ALONE}
        numbers = [pairs.poses, pairs.winners, pairs.losers, pairs.validation]
        begun = None if start is None else file_digest(adapter_file(start))
        self.of = digest([cfg, seed, begun, trainer.generator.digest, pairs.captions, numbers])

    def write(self, course: Course) -> None:
        """Write everything that `read` needs, whole or not at all."""
        trainer = self.trainer
        write_state(
            self.file,
            of=self.of,
            course=dataclasses.asdict(course),
            adapter=[p.detach() for p in trainer.parameters],
            optimizer=trainer.optimizer,
            noise=trainer.noise.get_state(),
        )

    def read(self) -> Course | None:
        """Bring the trainer to where it was; None where there is no state of this training."""
        if not self.file.exists():
            return None
        state, trainer = read_state(self.file), self.trainer
        if state["of"] != self.of:
            return None
        with torch.no_grad():
            for parameter, kept in zip(trainer.parameters, state["adapter"], strict=True):
                parameter.copy_(kept)
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.noise.set_state(state["noise"])
        course = Course(**state["course"])
        trainer.skip(course.step)
        return course
