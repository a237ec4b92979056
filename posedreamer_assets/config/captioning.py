"""Section of a profile about captions, see `profile.py`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CaptionsConfig:
    """The texts that images are generated from.

    `kind`: grammar, or file, whose captions come before the grammar's. `grammar`: `pocket`, the words that the shipped
    generator learnt, or `rich`, which says more of place, light, age, build and clothes, for generators that know language.
    `path`: of a file, CSV or JSON Lines, with a caption for sample ids or pose names.
    """

    kind: Literal["grammar", "file"] = "grammar"
    grammar: Literal["pocket", "rich"] = "pocket"
    path: str | None = None
