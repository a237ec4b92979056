"""Names of partitions and samples, and what they say.

`sample_id = "<partition_key>/<index:06d>"`, for example `procedural-0003/000012`, names the same sample in every table.
Partition keys match `[a-z0-9-]+` and read `<source>-<number>`. The source says to which *group* of partitions a key
belongs: `align-*` poses serve alignment alone, `hard`, `hard2`, ... are curriculum rounds, `scenes`, `scenes-test` (which nothing
is trained on), `photos` and `backgrounds` are those of the study `learning_to_train`, `arm-<arm>-<seed>` its networks
(`arm-teacher-*` apart: their teachers' updates are logged), `bench-*` are test sets of students (`bench-generated` apart, because
it is painted, `bench-domain-NAME`, `bench-clips`, and `bench-user-NAME`, which are the user's own files),
`student-<recipe>-DDSS` is draw DD and seed SS of a recipe, `domain-NAME-*` are poses of one kind that a study of students paints
beside the rounds, everything else is the base round.

An image and a person in it are two things: `image_id` names the image, `person` counts the people in it from 0. A row about
a person has the `sample_id` of its image where it is about person 0, and `<image_id>/<person:02d>` where not.
"""

import re
from collections.abc import Iterable

from posedreamer_assets.errors import StorageError

PARTITION_KEY_PATTERN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9]{4,}")
BASE, ALIGN = "base", "align"
SCENE, SCENE_TEST, PHOTO, BACKGROUND = "scene", "scene-test", "photo", "background"
_STUDY = {"scenes": SCENE, "scenes-test": SCENE_TEST, "photos": PHOTO, "backgrounds": BACKGROUND}  # by source
ARM, TEACHER = "arm", "teacher"
DOMAIN = "domain"
BENCH, BENCH_GENERATED, BENCH_USER, STUDENT = "bench", "bench-generated", "bench-user", "student"
BENCH_DOMAIN, BENCH_CLIPS = "bench-domain", "bench-clips"
TESTED = (BENCH, BENCH_GENERATED, BENCH_DOMAIN, BENCH_CLIPS, BENCH_USER)
"""Groups of test images of students."""
BENCH_RENDERS, BENCH_LOOKS = f"{BENCH}-renders", f"{BENCH}-looks"
TEST_SETS = (BENCH_RENDERS, BENCH_LOOKS, BENCH_GENERATED)
"""Sources of test images of students."""
_HARD = re.compile(r"hard([0-9]*)")


def partition_key(source: str, number: int) -> str:
    """`<source>-<number>`; raises StorageError when the source has other characters than a-z, 0-9 and -."""
    key = f"{source}-{number:04d}"
    if not PARTITION_KEY_PATTERN.fullmatch(key):
        raise StorageError(f"bad partition key {key!r}: expected <source>-<number> of a-z, 0-9 and '-'")
    return key


def sample_id(key: str, index: int) -> str:
    """The id of the index-th sample of a partition."""
    return f"{key}/{index:06d}"


def person_id(image_id: str, person: int) -> str:
    """The `sample_id` of a row about a person in an image."""
    return image_id if person == 0 else f"{image_id}/{person:02d}"


def image_of(sample: str) -> str:
    """The image that a sample is in."""
    return "/".join(sample.split("/")[:2])


def source_of(key: str) -> str:
    """`<source>` of a partition key."""
    return key.rpartition("-")[0]


def group_of(key: str) -> str:
    """The group of a partition key: `align`, `scene`, `scene-test`, `photo`, `background`, `arm`, `teacher`, `bench`,
    `bench-generated`, `bench-domain`, `bench-clips`, `bench-user`, `student`, `domain`, or the round of its images: `base`,
    `hard`, `hard2`, ..."""
    source = source_of(key)
    first = source.split("-")[0]
    if source in _STUDY:
        return _STUDY[source]
    if first == ARM:
        return TEACHER if source.split("-")[1:2] == [TEACHER] else ARM
    if first == BENCH:
        own = (group for group in TESTED[1:] if source == group or source.startswith(f"{group}-"))
        return next(own, BENCH)
    if first in (ALIGN, DOMAIN, STUDENT):
        return first
    return source if _HARD.fullmatch(source) else BASE


def is_reserved(source: str) -> bool:
    """Whether keys of a user's folder of that name would be taken for another group's or for procedural ones."""
    first = source.split("-")[0]
    return first in (ALIGN, ARM, BENCH, DOMAIN, STUDENT, "procedural", *_STUDY) or _HARD.fullmatch(first) is not None


def round_name(number: int) -> str:
    """The name of a curriculum round: 0 is `base`, then `hard`, `hard2`, `hard3`, ..."""
    return BASE if number == 0 else "hard" if number == 1 else f"hard{number}"


def of_groups(keys: Iterable[str], groups: Iterable[str]) -> list[str]:
    """The keys that belong to any of the groups, sorted."""
    wanted = frozenset(groups)
    return sorted(key for key in keys if group_of(key) in wanted)
