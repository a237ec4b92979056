"""LoRAs that belong to the base, such as those that distill it to a few steps: merged into its weights when it is loaded."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from posedreamer_assets.config import MergedLora
from posedreamer_assets.diffusion.adapters import WEIGHTS_NAME, adapter_file, bake, beside_others, read_adapter
from posedreamer_assets.diffusion.backend import loading
from posedreamer_assets.errors import BackendError
from posedreamer_assets.hub import file_of_model, is_hub_name


def merge_loras(pipeline: Any, network_name: str, loras: Sequence[MergedLora]) -> None:
    """Merge LoRAs into a pipeline's network: weights plus each one's product times its weight, summed in float32, rounded once.

    It must be in the CPU's memory and in full precision, and hold no other LoRA.

    Raises:
        BackendError: no such file, or one that holds anything but LoRA of layers of this network.
    """
    names = [f"merged{number}" for number in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        _add(pipeline, network_name, lora, name)
    if loras:
        network = getattr(pipeline, network_name)
        network.set_adapters(names, [lora.weight for lora in loras])
        bake(network)


def lora_file(lora: MergedLora) -> Path:
    """The file of a LoRA on this computer; one of the hub is fetched.

    Raises:
        BackendError: there is none, or it cannot be fetched.
    """
    one = file_of_model(lora.path) or ((lora.path, WEIGHTS_NAME) if is_hub_name(lora.path) else None)
    if one is None:
        return adapter_file(Path(lora.path).expanduser())
    with loading(lora.path):
        return Path(hf_hub_download(*one, revision=lora.revision))


def _add(pipeline: Any, network_name: str, lora: MergedLora, name: str) -> None:
    """Put a LoRA beside the network's layers, in whichever of the usual layouts its file is."""
    network, file = getattr(pipeline, network_name), lora_file(lora)
    if odd := next((key for key in read_adapter(file)[0] if "dora_scale" in key), None):
        raise BackendError(f"{lora.path}: {odd}: DoRA, of which only the LoRA half would be merged")
    place: dict[str, Any] = {
        "pretrained_model_name_or_path_or_dict": str(file.parent),
        "weight_name": file.name,
        "use_safetensors": True,
    }
    width = network.config.in_channels
    with loading(lora.path), beside_others():
        of_unet = {"unet_config": network.config} if network_name == "unet" else {}
        stored, *_ = pipeline.lora_state_dict(**place, **of_unet, return_lora_metadata=True)
        other = next((key for key in stored if not (key.startswith(f"{network_name}.") and "lora" in key)), None)
        if other is None:
            pipeline.load_lora_weights(**place, adapter_name=name)
    if other is not None:
        raise BackendError(f"{lora.path}: {other} is no LoRA of the {network_name}, into which alone LoRAs are merged")
    taken = get_peft_model_state_dict(network, adapter_name=name)
    if network.config.in_channels != width:
        raise BackendError(
            f"{lora.path}: a control LoRA, which widens the {network_name}: generator.control_lora_path names it"
        )
    if _sizes(taken) != _sizes(stored):
        raise BackendError(
            f"{lora.path}: a LoRA of another model than this {network_name}: its layers are missing here, or of another size"
        )


def _sizes(state: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    """Of the halves of a LoRA, whatever they are called; the input layer of a model that sees control latents may be wider."""
    return sorted(tuple(value.shape) for key, value in state.items() if not re.search("alpha|x_embedder", key))
