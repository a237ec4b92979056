"""Section of a profile about captions, see `profile.py`."""

from dataclasses import dataclass
from typing import Literal

PROMPT = (
    "Describe this photograph of people in one sentence of at most forty words for somebody who will paint another one like it: "
    "age, build, hair and clothes of the most prominent person with their colours, the place, the light and the weather. "
    "Say nothing of what the person does, nor of posture, arms and legs. Answer with the sentence alone."
)


@dataclass(frozen=True)
class CaptionsConfig:
    """The texts that images are generated from.

    `kind`: grammar; file, whose captions come before the grammar's; or vlm, a vision-language model that describes a photograph
    drawn for each sample. `grammar`: `pocket`, the words that the shipped generator learnt, or `rich`, which says more of
    place, light, age, build and clothes, for generators that know language.
    `path`: of a file, CSV or JSON Lines, with a caption for sample ids or pose names; of vlm a folder of photographs.
    `model`, `revision`: of vlm, a model of the Qwen-VL kind, in a folder or on the model hub. `prompt`: what it is asked.
    `max_tokens`: that it answers at most. `photo_side`: pixels of the square that it is shown.
    """

    kind: Literal["grammar", "file", "vlm"] = "grammar"
    grammar: Literal["pocket", "rich"] = "pocket"
    path: str | None = None
    model: str | None = None
    revision: str | None = None
    prompt: str = PROMPT
    max_tokens: int = 96
    photo_side: int = 448
    batch_size: int = 4
