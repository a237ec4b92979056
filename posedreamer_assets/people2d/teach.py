"""The teacher network: from the hardest real crop of a window of steps, which group of synthetic people comes next.

The equations are in `curriculum/teacher.py`; here are the network, its steps, and what a window remembers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from posedreamer_assets.config import TeacherConfig
from posedreamer_assets.curriculum.teacher import Update, choose, update
from posedreamer_assets.errors import StudentError
from posedreamer_assets.people2d.checkpoint import SavedArm, optimizer_tensors, restore_optimizer, under
from posedreamer_assets.people2d.network import load_vgg19, vgg_layers
from posedreamer_assets.scoring.networks import normalise

_VGG: tuple[int | str, ...] = (64, 64, "P", 128, 128, "P", 256, 256, 256, 256, "P", 512, 512)
_HEAD: tuple[int | str, ...] = (256, 128, "P", 64, 64, "P")
_DENSE = 512
_CELLS = 4  # a side of what the dense layers see, whatever the crop's size
_CHOOSING = 2  # stream of random numbers


class TeacherNet(nn.Module):
    """VGG19's first ten layers, four more convolutions, and three dense layers, all `narrow` times as narrow."""

    def __init__(self, groups: int, narrow: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *vgg_layers(tuple(w if isinstance(w, str) else w // narrow for w in (*_VGG, *_HEAD)))
        )
        dense = _DENSE // narrow
        self.dense = nn.Sequential(
            nn.AdaptiveAvgPool2d(_CELLS),
            nn.Flatten(),
            nn.Linear(64 // narrow * _CELLS**2, dense),
            nn.ReLU(),
            nn.Linear(dense, dense),
            nn.ReLU(),
            nn.Linear(dense, groups),
        )

    def forward(self, images: Float[Tensor, "n 3 s s"], usable: Bool[Tensor, "k"]) -> Float[Tensor, "n k"]:
        """Log probabilities of groups; minus infinity for those that may not be chosen."""
        logits = self.dense(self.layers(normalise(images)))
        return logits.masked_fill(~usable, -torch.inf).log_softmax(-1)


class Teacher:
    """Chooses a group for each window of steps, and learns from how hard the student found it.

    Args:
        cfg: of it.
        groups: of each synthetic person.
        seed: of choices and weights.
        vgg19: file of VGG19's weights for its first layers, where `cfg.narrow` is 1.

    Raises:
        StudentError: fewer than two groups with people enough, or a group that does not exist.
    """

    def __init__(self, cfg: TeacherConfig, groups: Int[np.ndarray, "n"], seed: int, vgg19: str | None = None) -> None:
        self.cfg, self.members, self.seed = cfg, groups, seed
        if len(groups) and not (groups.min() >= 0 and groups.max() < cfg.groups):
            raise StudentError(
                f"groups of people from {groups.min()} to {groups.max()}: expected 0 to {cfg.groups - 1}"
            )
        self.sizes = np.bincount(groups, minlength=cfg.groups)
        self.usable = self.sizes >= cfg.min_samples
        if self.usable.sum() < 2:
            raise StudentError(
                f"groups of {self.sizes.tolist()} people: a teacher needs two with teacher.min_samples ({cfg.min_samples})"
            )
        self.network = TeacherNet(cfg.groups, cfg.narrow)
        if vgg19 is not None and cfg.narrow == 1:
            load_vgg19(self.network.layers, vgg19)
        self.optimizer = torch.optim.Adam(self.network.parameters(), cfg.learning_rate)
        self.log: list[Update] = []
        self.groups: list[int] = []
        self.history: list[float] = []
        self.probabilities = self.usable / self.usable.sum()
        self.chosen: tuple[int, bool] | None = None
        self.image: UInt8[np.ndarray, "s s 3"] | None = None  # that the probabilities came from
        self.hardest: UInt8[np.ndarray, "s s 3"] | None = None  # real crop of this window
        self.hardest_loss = -np.inf
        self.window_losses: list[float] = []

    def rows(self, first: UInt8[np.ndarray, "s s 3"] | None) -> Int[np.ndarray, "m"]:
        """The synthetic people that the next step draws from.

        Args:
            first: a real crop of that step, which the first window's choice is made from: nothing was hard before.
        """
        if self.chosen is None:
            self._choose(self.hardest if self.hardest is not None else first)
        assert self.chosen is not None
        return np.flatnonzero(self.members == self.chosen[0])

    def saw(self, images: UInt8[np.ndarray, "m s s 3"], losses: Float[np.ndarray, "m"], synthetic_loss: float) -> None:
        """A step is over: real crops, their losses, and the mean loss of synthetic ones. After a window: learn."""
        if len(losses) and losses.max() > self.hardest_loss:
            self.hardest, self.hardest_loss = images[int(losses.argmax())], float(losses.max())
        self.window_losses.append(synthetic_loss)
        if len(self.window_losses) == self.cfg.window:
            self._learn()

    def _choose(self, image: UInt8[np.ndarray, "s s 3"] | None) -> None:
        rng = np.random.default_rng([self.seed, len(self.groups), _CHOOSING])
        epsilon = 1.0
        if self.cfg.kind == "adversarial":
            assert image is not None, "a teacher that learns is refused without real people"
            self.image, epsilon = image, self.cfg.epsilon
            with torch.no_grad():
                self.probabilities = self._log_probabilities(image)[0].double().exp().numpy()
        self.chosen = choose(self.probabilities, self.usable, epsilon, rng)
        self.groups.append(self.chosen[0])
        self.hardest_loss = -np.inf

    def _log_probabilities(self, image: UInt8[np.ndarray, "s s 3"]) -> Float[Tensor, "1 k"]:
        tensor = torch.tensor(image).permute(2, 0, 1)[None].float().div_(255)
        return self.network(tensor, torch.from_numpy(self.usable))

    def _learn(self) -> None:
        """One step down KL(target || p) at the image that p came from."""
        assert self.chosen is not None
        loss, cfg = float(np.mean(self.window_losses)), self.cfg
        if cfg.kind == "adversarial":
            row = update(
                len(self.history), self.probabilities, self.chosen, self.history, loss, self.sizes,
                length=cfg.history, alpha=cfg.alpha, min_samples=cfg.min_samples,
            )  # fmt: skip
            if row is not None and self.image is not None:
                self._descend(row.target, self.image)
                self.log.append(row)
        self.history.append(loss)
        self.window_losses, self.chosen = [], None

    def _descend(self, target: Float[np.ndarray, "k"], image: UInt8[np.ndarray, "s s 3"]) -> None:
        wanted = torch.from_numpy(target).float()[None]
        there = wanted > 0  # groups that may not be chosen have no logarithm
        loss = -(wanted[there] * self._log_probabilities(image)[there]).sum()  # and the target's entropy, a constant
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """What `restore` needs, but plain values."""
        found = under("network", self.network.state_dict()) | under("optimizer", optimizer_tensors(self.optimizer))
        images = {"image": self.image, "hardest": self.hardest}
        return found | {name: torch.tensor(value) for name, value in images.items() if value is not None}

    def plain(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {
            "log": [_as_json(row) for row in self.log],
            "groups": self.groups,
            "history": self.history,
            "probabilities": self.probabilities.tolist(),
            "chosen": self.chosen,
            "hardest_loss": self.hardest_loss,
            "window_losses": self.window_losses,
        }

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Put back what `tensors` and `plain` gave."""
        saved = SavedArm(tensors, plain)
        self.network.load_state_dict(saved.part("network"))
        restore_optimizer(self.optimizer, saved.part("optimizer"))
        self.image = tensors["image"].numpy() if "image" in tensors else None
        self.hardest = tensors["hardest"].numpy() if "hardest" in tensors else None
        self.log = [_from_json(row) for row in plain["log"]]
        self.groups, self.history = list(plain["groups"]), list(plain["history"])
        self.probabilities = np.array(plain["probabilities"])
        self.chosen = None if plain["chosen"] is None else (int(plain["chosen"][0]), bool(plain["chosen"][1]))
        self.hardest_loss, self.window_losses = plain["hardest_loss"], list(plain["window_losses"])


def _as_json(row: Update) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(row).items()}


def _from_json(row: Mapping[str, Any]) -> Update:
    values: dict[str, Any] = {k: np.array(v) if isinstance(v, list) else v for k, v in row.items()}
    return Update(**values)
