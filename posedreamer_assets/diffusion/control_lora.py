"""The scheme `channels` of control training: a FLUX transformer sees the control image's latents beside the noisy ones.

They stand in the channels of each token, as FLUX.1's own control LoRAs have it: the input layer takes twice as many channels,
those of the control with weights of zero at first, and a LoRA on the input layer and the attention's projections learns what to
do with them.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from posedreamer_assets.diffusion.adapters import adapter_state, add_adapter
from posedreamer_assets.diffusion.flux import CONTROL_ADAPTER, FluxGenerator

INPUT_LAYER = "x_embedder"


class ControlLora:
    """A fresh LoRA in a generator of `FluxGenerator.load_base`."""

    def __init__(self, generator: FluxGenerator, rank: int, seed: int) -> None:
        self.generator = generator
        self.networks: Sequence[nn.Module] = (generator.network,)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            targets = (INPUT_LAYER, *generator.lora_targets)
            self._config = add_adapter(generator.network, rank, targets, CONTROL_ADAPTER)
        self.parameters = [p for p in generator.network.parameters() if p.requires_grad]

    def write(self, folder: Path) -> Path:
        """Write the LoRA as diffusers reads it."""
        state = adapter_state(self.generator.network, CONTROL_ADAPTER)
        return self.generator.adapter.write(folder, state, self._config)
