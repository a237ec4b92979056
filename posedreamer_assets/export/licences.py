"""What a dataset's parts are licensed under: its poses, images, captions and the body of its labels."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from posedreamer_assets.export.subject import BodyIdentity
from posedreamer_assets.tables.rows import texts

# Captions are sentences of this project's grammar, which is a part of its code.
_CAPTIONS = "Apache-2.0"
# By the backend that a generator's name begins with. Who runs other weights with a backend has their licence to look up.
_IMAGES = {
    "pocket": "Apache-2.0",
    "sdxl": "CreativeML Open RAIL++-M, of the weights; it limits the use of images",
    "zimage": "Apache-2.0, of the weights",
    "klein": "Apache-2.0, of FLUX.2 [klein] 4B; its 9B is under a non-commercial licence",
    "qwenimage": "Apache-2.0, of the weights",
    "flux": "FLUX.1 [dev] Non-Commercial License, of the weights; see there what images may be used for",
}


@dataclass(frozen=True)
class Licence:
    """A licence, what it covers (`poses`, `images`, `captions`, `body`), and the people of the rows that it covers."""

    covers: str
    licence: str
    people: int


def licences(index: pa.Table, body: BodyIdentity) -> list[Licence]:
    """All licences of these rows.

    Args:
        index: `licence` (of the pose) and `generator` (of the image) of each person.
        body: of the labels.
    """
    images = Counter(image_licence(name) for name in texts(index, "generator"))
    return [
        *(Licence("poses", name or "not recorded", n) for name, n in sorted(Counter(texts(index, "licence")).items())),
        *(Licence("images", name, n) for name, n in sorted(images.items())),
        Licence("captions", _CAPTIONS, index.num_rows),
        Licence("body", body.licence, index.num_rows),
    ]


def image_licence(generator: str) -> str:
    """Of images by a generator, as `raw_generations` names it: `<backend>:<model>:<digest>`."""
    backend = generator.partition(":")[0]
    return _IMAGES.get(backend, f"that of the output of {generator or 'a generator that is not recorded'}")
