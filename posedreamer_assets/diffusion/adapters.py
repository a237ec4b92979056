"""LoRA adapters beside a base model: strict loading, replacing and removing."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from posedreamer_assets.digests import file_digest
from posedreamer_assets.errors import BackendError

ADAPTER = "dpo"
WEIGHTS_NAME = "pytorch_lora_weights.safetensors"


class AdapterSlot:
    """The one place of a pipeline where a DPO adapter is or is not.

    With `bakes` it is merged into the weights, which are put back from copies in the CPU's memory when it goes. Layers in
    fewer bits cannot take it up: over them it is computed beside them all the same.
    """

    def __init__(self, pipeline: Any, network_name: str, *, bakes: bool = False) -> None:
        self.pipeline, self.network_name, self.bakes = pipeline, network_name, bakes
        self.loaded: str | None = None
        self._before: dict[str, Tensor] = {}

    @property
    def network(self) -> Any:
        """The network that the adapter changes, with diffusers' adapter methods."""
        return getattr(self.pipeline, self.network_name)

    def use(self, path: Path | None) -> None:
        """Make the adapter at `path` the active one; None goes back to the base model.

        Raises:
            BackendError: the file is missing, is not a LoRA of this network, or lacks or adds a weight.
        """
        file = None if path is None else adapter_file(path)
        digest = None if file is None else file_digest(file)
        if digest == self.loaded:
            return
        self.clear()
        if file is not None:
            self._load(file)
            self.loaded = digest

    def clear(self) -> None:
        """Remove the adapter; the base model then gives the same bits as before it was added."""
        layers = base_layers(self.network) if self._before else {}
        for name, weight in self._before.items():
            layers[name].weight.data.copy_(weight)  # type: ignore[operator]
        self._before.clear()
        if ADAPTER in getattr(self.network, "peft_config", {}):
            others = [name for name in self.network.peft_config if name != ADAPTER]
            self.network.delete_adapters(ADAPTER)
            if others:
                self.network.set_adapters(others)
        self.loaded = None

    def write(self, folder: Path, state: dict[str, Any], config: LoraConfig) -> Path:
        """Write an adapter of this network as diffusers does, with its configuration; equal adapters make equal files."""
        folder.mkdir(parents=True, exist_ok=True)
        metadata = {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
        network = self.network_name
        parts = {f"{network}_lora_layers": state, f"{network}_lora_adapter_metadata": metadata}
        self.pipeline.save_lora_weights(str(folder), **parts)
        file = folder / WEIGHTS_NAME
        sort_header(file)
        return file

    def _load(self, file: Path) -> None:
        state, metadata = read_adapter(file)
        check_adapter(state, metadata, self.network, self.network_name, str(file))
        others = list(getattr(self.network, "peft_config", {}))
        with beside_others():
            self.network.load_lora_adapter(
                str(file.parent),
                weight_name=file.name,
                prefix=self.network_name,
                adapter_name=ADAPTER,
                use_safetensors=True,
                local_files_only=True,
            )
        if others:
            self.network.set_adapters([*others, ADAPTER])
        self.network.requires_grad_(False)
        loaded = get_peft_model_state_dict(self.network, adapter_name=ADAPTER)
        _same_weights(state, {f"{self.network_name}.{key}": value for key, value in loaded.items()}, str(file))
        if self.bakes:
            self._before = {
                name: layer.get_base_layer().weight.detach().cpu().clone() for name, layer in lora_layers(self.network)
            }
            bake(self.network)
        else:
            beside_fp8(self.network, {key.removeprefix(f"{self.network_name}."): v for key, v in state.items()})


def lora_layers(network: nn.Module) -> list[tuple[str, Any]]:
    """Layers that have a LoRA, by name."""
    return [(name, module) for name, module in network.named_modules() if isinstance(module, LoraLayer)]


def bake(network: Any) -> None:
    """Merge all LoRAs of a network into its weights, and take them off: sums in float32, rounded once."""
    for _, layer in lora_layers(network):
        dtype = layer.get_base_layer().weight.dtype
        layer.float()
        layer.merge()
        layer.to(dtype)
    network.unload_lora()


def beside_fp8(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Give the DPO adapter its stored weights in the precision that layers in 8-bit floats compute in: peft makes those of
    its LoRA like the layer's own, and rounds what comes in to them."""
    for name, layer in lora_layers(network):
        if layer.get_base_layer().weight.dtype == torch.float8_e4m3fn:
            layer.cast_input_dtype_enabled = False
            for half, held in (("lora_A", layer.lora_A[ADAPTER]), ("lora_B", layer.lora_B[ADAPTER])):
                stored = state[f"{name}.{half}.weight"]
                held.weight.data = stored.to(held.weight.device, cast(Any, network).dtype)


@contextmanager
def beside_others() -> Iterator[None]:
    """Keep peft from warning about several adapters in one model: a control LoRA is there on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        yield


def add_adapter(network: Any, rank: int, targets: Sequence[str], name: str = ADAPTER) -> LoraConfig:
    """Add a fresh adapter whose output is exactly zero, and leave only its weights trainable, in float32."""
    others = list(getattr(network, "peft_config", {}))
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets), init_lora_weights=True)
    with beside_others():
        network.add_adapter(config, adapter_name=name)
    network.set_adapters([*others, name])
    for key, parameter in network.named_parameters():
        parameter.requires_grad_(f".{name}." in key)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return config


def adapter_state(network: Any, name: str = ADAPTER) -> dict[str, Tensor]:
    """Copies of the adapter's weights, named as in its file without the network's prefix."""
    return {k: v.detach().cpu().clone() for k, v in get_peft_model_state_dict(network, adapter_name=name).items()}


def sort_header(file: Path) -> None:
    """Put the keys of a safetensors header in order; its writer leaves the metadata in an order that varies."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])


@contextmanager
def without_adapter(network: nn.Module) -> Iterator[None]:
    """Switch the adapter's contribution off and leave everything else, other adapters included, as it is."""
    layers = [m for m in network.modules() if isinstance(m, LoraLayer) and ADAPTER in m.scaling]
    kept = [layer.scaling[ADAPTER] for layer in layers]
    try:
        for layer in layers:
            layer.scaling[ADAPTER] = 0.0
        yield
    finally:
        for layer, scaling in zip(layers, kept, strict=True):
            layer.scaling[ADAPTER] = scaling


@contextmanager
def holding(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Within, the parameters have these values; afterwards their own."""
    kept = [parameter.data for parameter in parameters]
    try:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value
        yield
    finally:
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.data = value


def load_adapter_state(network: Any, network_name: str, path: Path) -> None:
    """Give the adapter in place the weights of the file at `path`.

    Raises:
        BackendError: no such file, or not an adapter of the same layers and ranks.
    """
    file = adapter_file(path)
    state, metadata = read_adapter(file)
    check_adapter(state, metadata, network, network_name, str(file))
    stored = {key.removeprefix(f"{network_name}."): value for key, value in state.items()}
    own = get_peft_model_state_dict(network, adapter_name=ADAPTER)
    if {k: v.shape for k, v in stored.items()} != {k: v.shape for k, v in own.items()}:
        raise BackendError(f"{file}: an adapter of other layers or of another rank than is trained")
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(stored[key])


def adapter_file(path: Path) -> Path:
    """The safetensors file of an adapter given as a file or as its folder.

    Raises:
        BackendError: there is none; other formats are not read.
    """
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if not file.is_file() or file.suffix != ".safetensors":
        raise BackendError(f"no LoRA adapter at {path}: expected a .safetensors file or a folder with {WEIGHTS_NAME}")
    return file


def read_adapter(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and the LoRA configuration that diffusers stores beside them (empty where there is none).

    Raises:
        BackendError: not a safetensors file.
    """
    try:
        with safe_open(file, framework="pt") as handle:
            state = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - not a mapping
            metadata = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise BackendError(f"{file}: not a safetensors file: {error}") from error
    return state, json.loads(metadata.get("lora_adapter_metadata", "{}"))


def check_adapter(
    state: dict[str, Tensor], metadata: dict[str, Any], network: nn.Module, prefix: str, where: str
) -> None:
    """Check that every weight has its place and that no place lacks its weight.

    Raises:
        BackendError: a key that is not of a LoRA for this network, a half without its other half, a shape that does not
            fit, or a layer that the stored configuration targets and the file does not hold.
    """
    halves: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        layer, dot, half = key.removeprefix(f"{prefix}.").rpartition(".lora_")
        if not (dot and key.startswith(f"{prefix}.") and half in ("A.weight", "B.weight")):
            raise BackendError(f"{where}: unexpected key {key!r}")
        halves.setdefault(layer, {})[half[0]] = value
    if not halves:
        raise BackendError(f"{where}: holds no weights")
    layers = base_layers(network)
    for layer, pair in halves.items():
        _check_layer(layer, pair, layers, where)
    missing = sorted(set(_targets(metadata, prefix, layers)) - set(halves))
    if missing:
        raise BackendError(f"{where}: missing weights of {len(missing)} layers, the first is {missing[0]}")


def base_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Layers with a weight by name, whether or not an adapter wraps them."""
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, BaseTunerLayer):
            found[name] = module.get_base_layer()
        elif isinstance(module, nn.Linear | nn.Conv2d) and ".lora_" not in name and not name.endswith(".base_layer"):
            found[name] = module
    return found


def _check_layer(layer: str, pair: dict[str, Tensor], layers: dict[str, nn.Module], where: str) -> None:
    if layer not in layers:
        raise BackendError(f"{where}: unexpected layer {layer}: the model has no such layer")
    if set(pair) != {"A", "B"}:
        raise BackendError(f"{where}: {layer} has only its lora_{next(iter(pair))} half")
    found = layers[layer]
    # The numbers of a quantised layer lie in another shape.
    shape = (found.out_features, found.in_features) if isinstance(found, nn.Linear) else cast(Any, found).weight.shape
    down, up = pair["A"].shape, pair["B"].shape
    if down[0] != up[1] or up[0] != shape[0] or down[1] != shape[1]:
        raise BackendError(f"{where}: {layer} has shapes {tuple(down)} and {tuple(up)} for {tuple(shape)}")


def _targets(metadata: dict[str, Any], prefix: str, layers: dict[str, nn.Module]) -> list[str]:
    targets = metadata.get(f"{prefix}.target_modules", [])
    if isinstance(targets, str):
        return []  # a regular expression of peft's; what it meant is known to its writer alone
    return [name for name in layers if any(name == t or name.endswith(f".{t}") for t in targets)]


def _same_weights(stored: dict[str, Tensor], loaded: dict[str, Tensor], where: str) -> None:
    different = sorted(set(stored) ^ set(loaded))
    if different:
        raise BackendError(f"{where}: {len(different)} weights were not taken up, the first is {different[0]}")
    for key, value in loaded.items():
        if not torch.equal(value.cpu(), stored[key].to(value.dtype)):
            raise BackendError(f"{where}: {key} was not taken up as stored")
