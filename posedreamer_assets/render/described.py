"""Captions by a vision-language model, which describes photographs: who is seen and where, not what they do.

Models of the Qwen-VL kind (Qwen2-VL, Qwen2.5-VL, Qwen3-VL), from a folder or the model hub. Words are the likeliest ones
(greedy), and every photograph is shown alone in a square of one size, in blocks of one size: what is said of it does not
depend on its neighbours.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from posedreamer_assets.config import CaptionsConfig
from posedreamer_assets.errors import CaptionError, ImageError
from posedreamer_assets.hub import model_folder
from posedreamer_assets.progress import advance
from posedreamer_assets.render.backgrounds import photo_paths
from posedreamer_assets.render.caption_file import MOST_CHARACTERS
from posedreamer_assets.seeds import sample_rng
from posedreamer_assets.tables.images import opened

if TYPE_CHECKING:
    import torch

IMAGE_TOKEN = "<|image_pad|>"
GREY = (127, 127, 127)


class Describer:
    """A vision-language model and what it is asked of each photograph.

    Args:
        cfg: `model`, `revision`, `prompt`, `max_tokens` and `batch_size`.

    Raises:
        CaptionError: no such model, one of another kind, or damaged weights.
    """

    def __init__(self, cfg: CaptionsConfig) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText, AutoTokenizer
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self._cfg = cfg
        self._said_of: dict[tuple[Path, int, int], str] = {}
        folder = model_folder(str(cfg.model), cfg.revision, CaptionError)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            self._images: Any = Qwen2VLImageProcessorPil.from_pretrained(folder)
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise CaptionError(f"{folder}: not a model of the Qwen-VL kind: {str(error).splitlines()[0]}") from error
        network, info = loaded
        # transformers fills missing weights with random ones and only warns.
        if unfit := sorted(str(key) for name in ("missing_keys", "mismatched_keys") for key in info[name]):
            raise CaptionError(f"{folder}: not a model of the Qwen-VL kind: no fitting weight for {unfit[0]}")
        self._network: Any = network.eval().to(self._device)
        self._image_token = self._tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if self._image_token is None or self._image_token == self._tokenizer.unk_token_id:
            raise CaptionError(f"{folder}: its tokenizer has no {IMAGE_TOKEN}: not a model of the Qwen-VL kind")

    def __call__(self, photos: UInt8[np.ndarray, "n side side 3"]) -> list[str]:
        """What is said of each photograph, one line of text; one unit of progress for each."""
        said: list[str] = []
        size = self._cfg.batch_size
        for start in range(0, len(photos), size):
            block = photos[start : start + size]
            padded = np.concatenate([block, np.repeat(block[-1:], size - len(block), axis=0)])
            said += self._said(padded)[: len(block)]
            advance(len(block))
        return said

    def of_files(self, paths: Sequence[Path]) -> list[str]:
        """What is said of these photographs; each is looked at once in a process, as long as its file stays as it is.

        Raises:
            CaptionError: a photograph that cannot be read, or of which the model says nothing; it is named.
        """
        keys = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
        new = [key for key in dict.fromkeys(keys) if key not in self._said_of]
        for start in range(0, len(new), self._cfg.batch_size):
            block = new[start : start + self._cfg.batch_size]
            texts = self(np.stack([square(path, self._cfg.photo_side) for path, *_ in block]))
            for key, text in zip(block, texts, strict=True):
                if not text:
                    raise CaptionError(
                        f"{key[0]}: {self._cfg.model} says nothing of it; take it away, or change captions.prompt"
                    )
                self._said_of[key] = text[:MOST_CHARACTERS]
        return [self._said_of[key] for key in keys]

    def _said(self, photos: UInt8[np.ndarray, "n side side 3"]) -> list[str]:
        import torch

        seen = self._images(images=list(photos), return_tensors="pt")
        asked = self._asked(int(seen["image_grid_thw"][0].prod()) // self._images.merge_size**2)
        tokens = asked.repeat(len(photos), 1).to(self._device)
        with torch.inference_mode():
            answered = self._network.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                mm_token_type_ids=(tokens == self._image_token).int(),
                pixel_values=seen["pixel_values"].to(self._device, self._network.dtype),
                image_grid_thw=seen["image_grid_thw"].to(self._device),
                max_new_tokens=self._cfg.max_tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        texts = self._tokenizer.batch_decode(answered[:, tokens.shape[1] :], skip_special_tokens=True)
        return [" ".join(text.split()).strip("\"' ") for text in texts]

    def _asked(self, image_tokens: int) -> "torch.Tensor":
        """Tokens (1, k) of the prompt with the photograph's place in it; the model's own template puts them in order."""
        import torch

        content = [{"type": "image"}, {"type": "text", "text": self._cfg.prompt}]
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        if text.count(IMAGE_TOKEN) != 1:
            raise CaptionError(f"{self._cfg.model}: its chat template has no place for one image")
        ids = self._tokenizer(text.replace(IMAGE_TOKEN, IMAGE_TOKEN * image_tokens), add_special_tokens=False)
        return torch.tensor([ids["input_ids"]])


def described(describer: Describer, cfg: CaptionsConfig, ids: Sequence[str], seed: int) -> list[str]:
    """A caption for each sample: what the model says of the photograph that is drawn for it.

    Args:
        describer: the model.
        cfg: `path` is the folder of photographs.
        ids: of the samples.
        seed: of the run.

    Raises:
        CaptionError: as `Describer.of_files`.
        ConfigError: a folder without photographs.
    """
    paths = photo_paths(str(Path(str(cfg.path)).expanduser()), "captions.path")
    return describer.of_files([paths[int(sample_rng(seed, name, "photograph").integers(len(paths)))] for name in ids])


def square(path: Path, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """A photograph, whole, in the middle of a grey square.

    Raises:
        CaptionError: it cannot be read.
    """
    try:
        with opened(path) as photo:
            upright = ImageOps.exif_transpose(photo).convert("RGB")
    except (OSError, ImageError) as error:
        raise CaptionError(f"{path}: cannot be read as an image: {error}") from error
    return np.array(ImageOps.pad(upright, (side, side), Image.Resampling.BICUBIC, GREY))


@lru_cache(maxsize=1)
def load_describer(cfg: CaptionsConfig) -> Describer:
    """The model that a profile names, loaded once in a process."""
    return Describer(cfg)
