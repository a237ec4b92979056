"""Sections of a profile about images: their size, the generator and its alignment, see `profile.py`."""

from dataclasses import dataclass
from typing import Literal

from posedreamer_assets.errors import ConfigError

PARKING = ("flux", "zimage", "klein", "qwenimage")
"""Backends that can put their text encoders aside."""


@dataclass(frozen=True)
class ImageConfig:
    """Size of every control map and image, in pixels."""

    width: int = 128
    height: int = 128
    format: str = "png"  # how generated images are stored: png (lossless) or jpeg


@dataclass(frozen=True)
class MergedLora:
    """A LoRA that is merged into the generator's weights, times `weight`. `path`: a safetensors file, a folder with
    `pytorch_lora_weights.safetensors`, or `owner/model` or `owner/model/file.safetensors` on the hub, there at a `revision`."""

    path: str = ""
    weight: float = 1.0
    revision: str | None = None


@dataclass(frozen=True)
class GeneratorConfig:
    """The image generator. `backend`: pocket, flux, sdxl, zimage, klein or qwenimage; paths are null for shipped weights.

    `control`: which map of the body it is given: `mesh`, the mesh-to-RGB image of the pocket generator and of the paper's
    control LoRA; `depth` or `normals`, for what was trained on those. `revision`: commit or tag of `model_path` on the model
    hub, where that is a name and no folder; null is the newest, which may be another tomorrow. `control_strength`: what a
    control image's strength is multiplied with; some ControlNets are meant for less than 1. `memory`: `resident` keeps all
    weights on the GPU, `park_text` (not sdxl) embeds some hundred captions first and then puts the text encoders aside;
    `auto` does so where a GPU has no room for all. `batch_size`: images that go through a GPU together; fewer where its
    memory ends, and `auto` is found on the GPU.

    Of large generators alone: `loras`: merged into the weights before anything else. `precision`: how the layers of the painting
    networks are stored; bf16 is as `dtype` says, int8 and nf4 need bitsandbytes, and auto is the first of the four that fits
    the GPU. `bake`: control LoRA and DPO adapter are merged into the weights instead of computed beside them; auto does so where
    the precision needs it. `compile`: the blocks that a network repeats are compiled. `attention`: who computes attention;
    auto is PyTorch. `cache` (flux and qwenimage): none, or `taylorseer:N`: after three steps the transformer is computed at every
    Nth step alone, and in between its output goes on in a straight line.
    """

    backend: str = "pocket"
    model_path: str | None = None
    control_lora_path: str | None = None
    revision: str | None = None
    loras: tuple[MergedLora, ...] = ()
    control: Literal["mesh", "depth", "normals"] = "mesh"
    control_strength: float = 1.0
    steps: int = 4
    guidance: float = 1.0
    batch_size: int | Literal["auto"] = 16
    dtype: str = "auto"  # bfloat16 where the device multiplies in it, else float32
    device: str = "auto"
    memory: Literal["auto", "resident", "park_text"] = "auto"
    precision: Literal["auto", "bf16", "fp8", "int8", "nf4"] = "bf16"
    bake: Literal["auto", True, False] = "auto"
    compile: bool = False
    attention: Literal["auto", "native", "cudnn", "flash", "flash_3", "xformers", "sage"] = "auto"
    cache: str = "none"

    @property
    def block(self) -> int:
        """Images that go through a GPU together; of `auto`, which the GPU settles, the least: one."""
        return 1 if self.batch_size == "auto" else self.batch_size

    @property
    def cache_interval(self) -> int | None:
        """Every how many steps the transformer is computed; None without a cache.

        Raises:
            ConfigError: `cache` says something else than none and `taylorseer:N` with an N of 2 or more.
        """
        if self.cache == "none":
            return None
        kind, _, interval = self.cache.partition(":")
        if kind != "taylorseer" or not interval.isdecimal() or int(interval) < 2:
            raise ConfigError(
                f"generator.cache: expected none or taylorseer:N with N of 2 or more, found {self.cache!r}"
            )
        return int(interval)


@dataclass(frozen=True)
class AlignmentConfig:
    """Preference pairs and Flow-DPO (paper section 3.2).

    `method`: flow_dpo, or none, which uses the generator as it is and paints no candidates.
    `candidate_strengths`: one candidate of each pose per entry, painted with the control image at that strength; the
    paper's are all 1. Images of a weaker control, or of none, show what not following it looks like, which candidates of
    a small model at full strength, whose poses differ by chance alone, hardly do.
    `max_epochs`: training ends after so many passes over the training pairs, or after `steps`: few pairs shown often are
    learnt by heart, and images get worse while the loss on validation pairs still falls.
    `body_weight`: how much more a token full of body counts in the errors; 0 is the paper's mean. `half_images`: train on
    the half of each image that shows most of the body, which the generator must have been trained on, too.
    `reference_every`: 0 trains on the candidates of `preference_pairs` alone. N is online DPO: after every N steps the
    adapter becomes the reference, and candidates of the same poses are painted by it and ranked anew.

    Memory and time, which change what is learnt by rounding at most: `micro_pairs`: pairs that go through the model
    together, whose gradients are summed up to `batch_size`; 0 is half of the generator's batch on a GPU and 8 on a CPU.
    `gradient_checkpointing`: activations are computed again on the way back instead of kept. `latent_cache`: everything is
    encoded once, at the start, into files; autoencoder and text encoders then leave the GPU. `save_every`: steps between
    saved states, from which a killed training goes on; 0 saves none. `optimizer`: adamw8bit needs bitsandbytes.
    """

    method: Literal["flow_dpo", "none"] = "flow_dpo"
    candidate_strengths: tuple[float, ...] = (1.0, 1.0, 0.5, 0.0)
    min_gap: float = 0.05
    min_winner: float = 0.5
    val_share: float = 0.1
    test_share: float = 0.5
    test_draws: int = 4  # images of each test pose at most, without and with the adapter; half where those settle it
    beta: float = 500.0
    learning_rate: float = 1e-3
    lora_rank: int = 16
    batch_size: int = 16
    steps: int = 60
    max_epochs: float = 1.0
    eval_every: int = 30
    body_weight: float = 4.0
    half_images: bool = True
    latent_cache: bool = True
    micro_pairs: int = 0
    gradient_checkpointing: bool = False
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    save_every: int = 50
    reference_every: int = 0

    @property
    def off(self) -> bool:
        """Whether the generator is used as it is."""
        return self.method == "none"
