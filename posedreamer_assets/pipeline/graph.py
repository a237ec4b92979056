"""The stages of the graph as data: what each reads, which settings its rows depend on, and when it is up to date.

Assets and the command line share this page, so a backfill from Dagster's UI and `posedreamer run` agree on what a
partition was made from. A partition's *input digest* covers the stage's code version, the settings its rows depend on,
and the content digests of everything it reads. It is stored with the rows; a partition whose stored input digest equals
the present one is up to date.

Partition keys fall into groups by their prefix: `align-*` poses serve alignment alone, `hard-*` is the second round,
everything else is the base round.
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from posedreamer_assets.config import WEIGHTS_DIR, Profile, local_path
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.tables.fields import partition_key

if TYPE_CHECKING:
    from posedreamer_assets.pipeline.pose_batches import Folder, PoseBatchFiles, PresentFiles
    from posedreamer_assets.storage import CheckpointInfo, LanceStore, PartitionInfo

Group = Literal["base", "align", "hard", "pose"]  # pose = base and align

# Settings that change how fast rows are made, not what they hold.
NOT_CONTENT = {
    "poses.batches",
    "poses.align_batches",
    "poses.files_per_batch",
    "generator.batch_size",
    "generator.device",
    "ranker.batch_size",
    "judge.batch_size",
    "outside_judge.batch_size",
    "alignment.latent_cache",
    "curriculum.hard_batches",
}


@dataclass(frozen=True)
class Stage:
    """One asset.

    Attributes:
        key: Dagster's asset key, parts joined by "/".
        group: the partitions it has; None for an unpartitioned asset, whose result is a checkpoint of the same name.
        code_version: raised by hand when the same inputs give other rows.
        settings: sections ("cameras") or fields ("curation.min_oks") of the profile that its rows depend on.
        reads: stages read at the same partition key.
        reads_all: (stage, group): every up-to-date partition of the stage that belongs to the group.
        checkpoints: unpartitioned stages it reads.
        seeded: whether rows depend on the run's seed.
        files: kinds of outside files that it reads, see `file_digest`; `poses` are those of its batch, see `pose_files`.
    """

    key: str
    group: Group | None
    code_version: str
    settings: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    reads_all: tuple[tuple[str, Group], ...] = ()
    checkpoints: tuple[str, ...] = ()
    seeded: bool = True
    files: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """The Lance table of a partitioned stage, the checkpoint name of another."""
        return self.key.replace("/", "_")


def _round_stages(name: Literal["base", "hard"], poses: str, maps_group: Group) -> list[Stage]:
    maps, images, scores = f"{name}/control_maps", f"{name}/raw_generations", f"{name}/sample_scores"
    return [
        Stage(maps, maps_group, "1", ("image",), (poses,), checkpoints=("body_model",), seeded=False),
        Stage(
            images,
            name,
            "1",
            ("generator", "image"),
            (poses, maps),
            checkpoints=("control_checkpoint", "dpo_checkpoint"),
        ),
        Stage(
            scores,
            name,
            "1",
            ("judge", "ranker"),
            (poses, maps, images),
            seeded=False,
            files=("judge", "ranker", "counter"),
        ),
        Stage(f"{name}/filtered_dataset", name, "1", ("curation",), (poses, maps, images, scores), seeded=False),
    ]


_BASE = _round_stages("base", "pose_library", "pose")
_HARD = _round_stages("hard", "hard_samples", "hard")

ORDER: tuple[Stage, ...] = (
    Stage("body_model", None, "1", ("body",), seeded=False, files=("body",)),
    Stage(
        "pose_library",
        "pose",
        "2",
        ("image", "poses", "cameras", "alignment.val_share", "alignment.test_share"),
        checkpoints=("body_model",),
        files=("poses",),
    ),
    _BASE[0],
    Stage(
        "rendered_scenes",
        "pose",
        "1",
        ("image", "scenes"),
        ("pose_library",),
        checkpoints=("body_model",),
        files=("backgrounds",),
    ),
    Stage("control_checkpoint", None, "1", ("generator",), seeded=False, files=("generator", "generator_control")),
    Stage(
        "preference_pairs",
        "align",
        "3",
        (
            "alignment.method",
            "alignment.candidate_strengths",
            "alignment.min_gap",
            "alignment.min_winner",
            "generator",
            "ranker",
        ),
        ("pose_library", "base/control_maps"),
        checkpoints=("control_checkpoint",),
        files=("ranker",),
    ),
    Stage(
        "dpo_checkpoint",
        None,
        "3",
        ("alignment", "generator", "judge", "outside_judge"),
        reads_all=(("pose_library", "align"), ("base/control_maps", "align"), ("preference_pairs", "align")),
        checkpoints=("control_checkpoint",),
        files=("judge", "outside_judge"),
    ),
    *_BASE[1:],
    Stage(
        "difficulty_model",
        None,
        "1",
        ("curriculum.boost_rounds", "curriculum.learning_rate", "curriculum.folds"),
        reads_all=(("pose_library", "base"), ("base/sample_scores", "base")),
    ),
    Stage(
        "hard_samples",
        "hard",
        "2",
        ("image", "poses", "cameras", "curriculum", "alignment.val_share", "alignment.test_share"),
        checkpoints=("body_model", "difficulty_model"),
        files=("poses",),
    ),
    *_HARD,
    Stage(
        "dataset",
        None,
        "1",
        reads_all=(("base/filtered_dataset", "base"), ("hard/filtered_dataset", "hard")),
        seeded=False,
    ),
    Stage(
        "quality_report",
        None,
        "1",
        ("quality", "judge", "outside_judge"),
        reads_all=(
            ("rendered_scenes", "pose"),
            ("base/control_maps", "pose"),
            ("base/raw_generations", "base"),
            ("base/filtered_dataset", "base"),
            ("hard/filtered_dataset", "hard"),
        ),
        files=("reference", "judge", "outside_judge"),
    ),
)
STAGES: dict[str, Stage] = {stage.key: stage for stage in ORDER}

# Alignment that is off depends on next to nothing, so that no change of its settings or judges paints images again.
_UNALIGNED: dict[str, Stage] = {
    "preference_pairs": Stage("preference_pairs", "align", "3", ("alignment.method",), ("pose_library",), seeded=False),
    "dpo_checkpoint": Stage("dpo_checkpoint", None, "3", ("alignment.method",), seeded=False),
}


def as_run(profile: Profile, stage: Stage) -> Stage:
    """The stage with what it depends on under this profile."""
    return _UNALIGNED.get(stage.key, stage) if profile.alignment.off else stage


def key_group(key: str) -> Group:
    """The group of a partition key."""
    if key.startswith("align-"):
        return "align"
    return "hard" if key.startswith("hard-") else "base"


def in_group(key: str, group: Group) -> bool:
    """Whether a key belongs to a group; `pose` holds base and align keys."""
    own = key_group(key)
    return own == group or (group == "pose" and own in ("base", "align"))


def source_name(profile: Profile) -> str:
    """The `<source>` of the base round's keys: `procedural`, or a slug of the pose folder's name."""
    if profile.poses.source == "procedural":
        return "procedural"
    source = profile.poses.source
    name = PurePosixPath(source).name if "://" in source else Path(source).expanduser().resolve().name
    name = name.lower()
    slug = "-".join(filter(None, "".join(c if c.isascii() and c.isalnum() else " " for c in name).split()))
    if not slug:
        return "poses"
    return f"poses-{slug}" if slug.split("-")[0] in ("align", "hard", "procedural") else slug


def planned_keys(profile: Profile, group: Group | None) -> list[str]:
    """The partition keys that the profile asks for; `[]` for no group."""
    source = source_name(profile)
    base = [partition_key(source, i) for i in range(profile.poses.batches)]
    align = [partition_key(f"align-{source}", i) for i in range(profile.poses.align_batches)]
    hard = [partition_key("hard", i) for i in range(profile.curriculum.hard_batches)]
    return {"base": base, "align": align, "hard": hard, "pose": base + align, None: []}[group]


def checkpoint_digest(info: "CheckpointInfo") -> str:
    """Digest of what a checkpoint was made from and of its files; its folder is named so."""
    return info.place.rpartition("/")[2]


class Snapshot:
    """What the store holds now, each table's listing read once; make a new one after writing."""

    def __init__(self, profile: Profile, store: "LanceStore") -> None:
        self.profile = profile
        self.store = store
        self._partitions: dict[str, dict[str, PartitionInfo]] = {}
        self._checkpoints: dict[str, CheckpointInfo | None] = {}
        self._digests: dict[tuple[str, str | None], str] = {}
        self._batches: dict[str, PoseBatchFiles] | None = None
        self._folders: dict[str, Folder] = {}

    def partitions(self, stage: Stage) -> "dict[str, PartitionInfo]":
        """Stored partitions of a stage, up to date or not."""
        if stage.table not in self._partitions:
            self._partitions[stage.table] = self.store.partitions(stage.table)
        return self._partitions[stage.table]

    def checkpoint(self, stage: Stage) -> "CheckpointInfo | None":
        """The stored result of an unpartitioned stage."""
        if stage.table not in self._checkpoints:
            self._checkpoints[stage.table] = self.store.checkpoint(stage.table)
        return self._checkpoints[stage.table]

    def input_digest(self, stage: Stage, key: str | None = None) -> str:
        """Digest of everything that the stage's result at this key depends on."""
        if (stage.key, key) not in self._digests:
            self._digests[stage.key, key] = digest(self.inputs(stage, key))
        return self._digests[stage.key, key]

    def inputs(self, stage: Stage, key: str | None = None) -> dict[str, Any]:
        """What `input_digest` covers, by name: for looking at why a partition is out of date."""
        stage = as_run(self.profile, stage)
        upstream: dict[str, str | None] = {}
        for name in stage.reads:
            stored = self.partitions(STAGES[name]).get(key or "")
            upstream[f"{name}[{key}]"] = stored.content_digest if stored else None
        for name, group in stage.reads_all:
            for other in self.current_keys(STAGES[name], group):
                upstream[f"{name}[{other}]"] = self.partitions(STAGES[name])[other].content_digest
        for name in stage.checkpoints:
            stored_checkpoint = self.checkpoint(STAGES[name])
            upstream[name] = checkpoint_digest(stored_checkpoint) if stored_checkpoint else None
        return {
            "stage": stage.key,
            "key": key,
            "code_version": stage.code_version,
            "seed": self.profile.seed if stage.seeded else None,
            "settings": {name: setting(self.profile, name, key) for name in stage.settings},
            "files": {name: self._file_digest(name, key) for name in stage.files},
            "upstream": upstream,
        }

    def _file_digest(self, kind: str, key: str | None) -> str | None:
        if kind != "poses":
            return file_digest(self.profile, kind)
        files = self.pose_files(key or "")
        return files.digest if files else None

    def pose_files(self, key: str) -> "PresentFiles | None":
        """The files of a pose batch as they are now; None for procedural poses and for keys that were never cut."""
        from posedreamer_assets.pipeline.pose_batches import Folder, has_pose_files, present_files, recorded_batches

        if not has_pose_files(self.profile, key):
            return None
        if self._batches is None:
            self._batches = recorded_batches(self.store)
        batch = self._batches.get(key)
        if batch is None:
            return None
        return present_files(batch, self._folders.setdefault(batch.folder, Folder(batch.folder)))

    def versions_read(self, stage: Stage) -> dict[str, int]:
        """The version of each table of which the stage reads all partitions, as they are listed here."""
        reads = as_run(self.profile, stage).reads_all
        listed = {STAGES[name].table: self.partitions(STAGES[name]) for name, _ in reads}
        return {table: next(iter(infos.values())).version for table, infos in listed.items() if infos}

    def is_current(self, stage: Stage, key: str | None = None) -> bool:
        """Whether a result is stored and was made from the present inputs, all the way up the graph."""
        stored = self.partitions(stage).get(key) if key is not None else self.checkpoint(stage)
        if stored is None or stored.input_digest != self.input_digest(stage, key):
            return False
        stage = as_run(self.profile, stage)
        return all(self.is_current(STAGES[name], key) for name in stage.reads) and all(
            self.is_current(STAGES[name]) for name in stage.checkpoints
        )

    def current_keys(self, stage: Stage, group: Group | None = None) -> list[str]:
        """Stored keys of a stage that are up to date, sorted; of one group where given."""
        keys = sorted(k for k in self.partitions(stage) if group is None or in_group(k, group))
        return [k for k in keys if self.is_current(stage, k)]


def setting(profile: Profile, name: str, key: str | None = None) -> Any:
    """A section or field of the profile as plain values, without what does not change the content of that partition."""
    section_name, _, field = name.partition(".")
    section = getattr(profile, section_name)
    if not dataclasses.is_dataclass(section) or isinstance(section, type):
        return section
    values = dataclasses.asdict(section)
    if section_name == "poses":
        from posedreamer_assets.pipeline.pose_batches import has_pose_files

        # Its files are digested, so that a moved folder changes nothing.
        values["source"] = "folder" if has_pose_files(profile, key or "procedural-0000") else "procedural"
    if field:
        return values[field]
    return {k: v for k, v in values.items() if f"{section_name}.{k}" not in NOT_CONTENT}


def file_digest(profile: Profile, kind: str) -> str | None:
    """Digest of outside files: a model, a folder of poses or images; None where nothing outside is read."""
    paths: dict[str, str | Path | None] = {
        "body": profile.body.model_path,
        "backgrounds": profile.scenes.backgrounds,
        "reference": profile.quality.reference,
        "generator": profile.generator.model_path or (WEIGHTS_DIR / "generator"),
        "generator_control": profile.generator.control_lora_path,
        "judge": local_path(profile.judge.path),
        "ranker": local_path(profile.ranker.path),
        "counter": WEIGHTS_DIR / "counter",
        "outside_judge": profile.outside_judge.path if profile.outside_judge else None,
    }
    path = paths[kind]
    if path is None:
        return None
    found = Path(path).expanduser()
    if not found.exists():
        if kind in ("generator", "generator_control") and profile.generator.backend != "pocket":
            return str(path)  # a name on a model hub
        if profile_gives(profile, kind):
            raise ConfigError(f"{kind}: {found} does not exist")
        return None
    return path_digest(found)


def profile_gives(profile: Profile, kind: str) -> bool:
    """Whether the user named the file, rather than the package shipping it."""
    given = {
        "generator": profile.generator.model_path,
        "counter": None,
    }
    return given.get(kind, "given") is not None


def path_digest(path: Path) -> str:
    """Digest of a file, or of all files below a folder with their relative names; a model's card changes nothing."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".md")
    stamps = tuple((str(f.relative_to(path)), str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    return _content_digest(stamps)


@lru_cache(maxsize=64)
def _content_digest(stamps: tuple[tuple[str, str, int, int], ...]) -> str:
    whole = blake2b(digest_size=16)
    for name, file, size, _ in stamps:
        whole.update(f"{name}\x1f{size}\x1f".encode())
        with Path(file).open("rb") as stream:
            while block := stream.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()
