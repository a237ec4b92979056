"""The scheme `controlnet` of control training: a ControlNet of Z-Image learns what the control image says.

Its blocks stand beside some of the transformer's, see the same tokens and the control image's latents, and add to what the
transformer's blocks give. The embedders and refiners of tokens that it needs are the transformer's own modules
(`ZImageControlNetModel.from_transformer`): they are frozen as the rest of the base is, and not written with it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ZImageControlNetModel, ZImageTransformer2DModel
from torch import nn

if TYPE_CHECKING:
    from posedreamer_assets.diffusion.zimage import ZImageGenerator

OWN = "control_"  # what the names of its own parts begin with, unlike those of the transformer
EVERY = 5  # a control block beside each fifth block, as the published `lite` ControlNets: 1.6 instead of 3.4 billion weights
FOLDER = "controlnet"


class ControlNet:
    """A generator's ControlNet with its own weights trainable, in float32."""

    def __init__(self, generator: "ZImageGenerator") -> None:
        self.generator = generator
        network: Any = generator.controlnet
        network.gradient_checkpointing = False  # diffusers asks for it and sets it nowhere
        self.networks: Sequence[nn.Module] = (network, generator.network)
        self.parameters = [parameter for _, parameter in own_parameters(network)]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)

    def write(self, folder: Path) -> Path:
        """Write the ControlNet alone, as diffusers does, into a folder of its own there; it goes on in the base's precision,
        which it is written in."""
        network: Any = self.generator.controlnet
        base: Any = self.generator.network
        for parameter in self.parameters:
            parameter.data = parameter.data.to(base.dtype)
        with torch.device("meta"):
            alone: Any = ZImageControlNetModel.from_config(network.config)
        alone.load_state_dict({name: parameter.detach() for name, parameter in own_parameters(network)}, assign=True)
        alone.save_pretrained(str(folder / FOLDER))
        return folder / FOLDER


def own_parameters(network: ZImageControlNetModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Weights that are the ControlNet's and not the transformer's, by name."""
    return ((name, parameter) for name, parameter in network.named_parameters() if name.startswith(OWN))


def controlnet_of(transformer: ZImageTransformer2DModel) -> ZImageControlNetModel:
    """An untrained ControlNet with the architecture of release 2.1.

    Its blocks are copies of the transformer's, and projections of zeros keep what they see from having an effect.
    """
    base: Any = transformer
    shared = (
        "all_patch_size",
        "all_f_patch_size",
        "dim",
        "n_refiner_layers",
        "n_heads",
        "n_kv_heads",
        "norm_eps",
        "qk_norm",
    )
    places = list(range(0, base.config.n_layers, EVERY))
    network: Any = ZImageControlNetModel(
        control_layers_places=places,
        control_refiner_layers_places=list(range(base.config.n_refiner_layers)),
        control_in_dim=base.config.in_channels,
        add_control_noise_refiner="control_noise_refiner",
        **{name: base.config[name] for name in shared},
    )
    network.control_all_x_embedder.load_state_dict(
        base.all_x_embedder.state_dict()
    )  # control images have the same latents
    copied = zip(network.control_layers, (base.layers[place] for place in places), strict=True)
    for block, original in (*copied, *zip(network.control_noise_refiner, base.noise_refiner, strict=True)):
        lacking = block.load_state_dict(original.state_dict(), strict=False).missing_keys
        assert all("_proj." in key for key in lacking), lacking
    nn.Module.to(network, dtype=base.dtype)  # diffusers' own `to` warns of nothing
    return network
