"""How every student of a study is trained: the section `student` of its file."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from posedreamer_assets.students.archs import ARCHS, POSE_HEAD, RANDOM

PRECISIONS = ("auto", "bfloat16", "float32")
"""Those of `training/precision.py`, which needs torch."""
_OF_IMAGES = ("revision", "train_backbone", "image_size", "precision")
"""What says nothing of a student that sees cached features."""
_OF_FEATURES = ("copies", "dropout")
"""What says nothing of others."""


@dataclass(frozen=True)
class StudentSpec:
    """How every student of a study is trained, whatever its data.

    Attributes:
        init: what the backbone starts from. Of `pose-head` a detector's weights; of others a ViTPose checkpoint of
            transformers, a folder or `owner/model` on the hub, or `random`.
        steps, batch_size: so many samples are seen by every student, however many there are.
        learning_rate: at the start; falls along a cosine to a hundredth.
        copies: augmented copies of each image whose features are cached, of `pose-head`; others see a new one every time.
        dropout: before the last layer, of `pose-head`.
        arch: `pose-head`, on cached features of a frozen network, or a size of `archs.ARCHS`, which sees images.
        revision: commit or tag of an init on the hub; empty is the newest, which may be another tomorrow.
        train_backbone: whether the backbone learns too, and not the decoder alone.
        image_size: height and width of the crops that a student sees, pixels.
        precision: of products in training, auto, bfloat16 or float32; weights stay in float32.
    """

    init: str = "shipped:ranker"
    steps: int = 250
    batch_size: int = 48
    learning_rate: float = 1.5e-3
    copies: int = 4
    dropout: float = 0.2
    arch: str = POSE_HEAD
    revision: str = ""
    train_backbone: bool = False
    image_size: tuple[int, int] = (256, 192)
    precision: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.image_size, list):  # as YAML has it
            object.__setattr__(self, "image_size", tuple(self.image_size))

    @property
    def samples_seen(self) -> int:
        """By each student."""
        return self.steps * self.batch_size

    @property
    def sees_images(self) -> bool:
        """Whether it is trained on images, and not on cached features of them."""
        return self.arch != POSE_HEAD

    def settings(self) -> dict[str, Any]:
        """What students depend on: the settings that their kind has. Of `pose-head` they are those from before there were other
        kinds, so that none of them was out of date because of these."""
        without = _OF_FEATURES if self.sees_images else ("arch", *_OF_IMAGES)
        return {name: value for name, value in asdict(self).items() if name not in without}

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot be, and why."""
        for key in ("steps", "batch_size", "copies"):
            if getattr(self, key) < 1:
                yield key, f"expected 1 or more, found {getattr(self, key)}"
        if self.precision not in PRECISIONS:
            yield "precision", f"expected one of {', '.join(PRECISIONS)}, found {self.precision!r}"
        if not self.sees_images:
            default = {one.name: one.default for one in fields(self)}
            for key in _OF_IMAGES:
                if getattr(self, key) != default[key]:
                    yield (
                        key,
                        f"{POSE_HEAD} sees cached features of a frozen network: give an `arch` that sees images too",
                    )
        elif self.arch not in ARCHS:
            yield "arch", f"expected one of {', '.join((POSE_HEAD, *ARCHS))}, found {self.arch!r}"
        else:
            yield from self._of_images()

    def _of_images(self) -> Iterator[tuple[str, str]]:
        patch, size = ARCHS[self.arch].patch, self.image_size
        whole = isinstance(size, tuple) and len(size) == 2 and all(type(side) is int for side in size)
        if not whole or any(side < patch or side % patch for side in size):
            yield "image_size", f"expected height and width, multiples of {patch}, found {size!r}"
        if self.init.startswith("shipped:"):
            yield (
                "init",
                f"{self.init} is no vision transformer: give a ViTPose checkpoint (a folder, or owner/model on the hub), or "
                f"{RANDOM}",
            )
        if self.init == RANDOM and not self.train_backbone:
            yield (
                "train_backbone",
                "a random backbone that does not learn shows nothing: set it to true, or give an `init`",
            )
