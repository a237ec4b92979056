"""What is stored, what it was made from, and whether it is up to date. There is one definition of that, this one.

A partition's *input digest* covers its stage's version, the settings that its rows depend on, and the content digests of
everything that the stage reads. It is stored with the rows. A partition is up to date where the stored input digest equals
the present one, all the way up the graph, and where every check of severity error has looked at these very rows and passed.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posedreamer_assets.config import Profile
from posedreamer_assets.digests import digest
from posedreamer_assets.pipeline import Graph, Stage, graph_of
from posedreamer_assets.pipeline.arm_study import ARM_SETTINGS, arm_setting
from posedreamer_assets.pipeline.pose_batches import PoseBatchFiles, PresentFiles, present_files, recorded_batches
from posedreamer_assets.pipeline.rounds import has_pose_files, poses_of_batch
from posedreamer_assets.pipeline.student_study import STUDY_SETTINGS, study_setting, user_set_of
from posedreamer_assets.runtime.outcomes import Known, known_of, known_outcomes
from posedreamer_assets.runtime.outside_files import file_digest, user_set_digest
from posedreamer_assets.tables.keys import of_groups

if TYPE_CHECKING:
    from posedreamer_assets.poses.folder import Folder
    from posedreamer_assets.scenes.background_files import BackgroundFile
    from posedreamer_assets.storage import CheckpointInfo, LanceStore

# Settings that change how fast rows are made, not what they hold.
NOT_CONTENT = {
    "poses.batches",
    "poses.align_batches",
    "poses.files_per_batch",
    "scenes.reference_batches",
    "generator.batch_size",
    "generator.device",
    "generator.memory",
    "generator.bake",
    "generator.compile",
    "ranker.batch_size",
    "judge.batch_size",
    "outside_judge.batch_size",
    "counter.batch_size",
    "ranker.on_photographs",
    "judge.on_photographs",
    "outside_judge.on_photographs",
    "ranker.providers",
    "judge.providers",
    "outside_judge.providers",
    "counter.providers",
    "captions.batch_size",
    "alignment.latent_cache",
    "alignment.micro_pairs",
    "alignment.gradient_checkpointing",
    "alignment.save_every",
    # Of places of people; pictures of scenes name them, where they are rendered so, and verdicts on backgrounds theirs.
    "crowds.renderer",
    "crowds.cycles_samples",
    "crowds.cycles_python",
    "crowds.shadows_on_people",
    "crowds.min_background_px",
    # Of styles in closed form; those by a network name both.
    "style.kind",
    "style.weights",
    "photos.stand_in",  # of other photographs; those that are traced name it
    "segmenter",  # of `posedreamer train-control`, which is no stage
    "learning_to_train.enabled",
    "learning_to_train.scene_batches",
    "learning_to_train.test_scene_batches",
    "learning_to_train.photo_batches",
}

# Values of settings that came later, with which rows hold what they held without the setting: they are left out.
AS_BEFORE = {
    "generator.loras": {()},
    "generator.cache": {"none"},
    "generator.precision": {"bf16"},
    "generator.attention": {"auto", "native", "cudnn", "flash", "flash_3", "xformers"},  # sage multiplies in 8 bits
}

# Where files lie that are digested by their bytes: moved to another folder, they change nothing.
PLACES = {
    "body.model_path",
    "generator.model_path",
    "generator.control_lora_path",
    "ranker.path",
    "judge.path",
    "outside_judge.path",
    "counter.path",
    "captions.path",
    "captions.model",
    "scenes.backgrounds",
    "photos.path",
    "photos.annotations",
    "photos.groups",
    "pose2d.baseline",
    "pose2d.vgg19",
    "quality.reference",
    "students.test_poses",
    "style.weights",
}


@dataclass(frozen=True)
class Stored:
    """A partition, or the result of a stage without partitions.

    Attributes:
        rows: how many.
        input_digest: of what it was made from.
        content: digest of the set of its rows, or the checkpoint's place.
        version: of the table, as it was listed.
    """

    rows: int
    input_digest: str
    content: str
    version: int


class Snapshot:
    """What the store holds now, each table listed once; make a new one after writing.

    What is read of a partition later is read at the version that was listed here, so that digests, tags and rows are of
    one version.
    """

    def __init__(self, profile: Profile, store: "LanceStore") -> None:
        self.profile = profile
        self.store = store
        self.graph: Graph = graph_of(profile)
        self._tables: dict[str, dict[str, Stored]] = {}
        self._checkpoints: dict[str, CheckpointInfo | None] = {}
        self._digests: dict[tuple[str, str | None], str] = {}
        self._current: dict[tuple[str, str | None], bool] = {}
        self._batches: dict[str, PoseBatchFiles] | None = None
        self._folders: dict[str, Folder] = {}
        self._backgrounds: dict[int, list[BackgroundFile]] | None = None
        self._known: dict[tuple[str, str | None], Known] | None = None

    # What is stored

    def table(self, table: str) -> dict[str, Stored]:
        """Stored partitions of a table by key, up to date or not; those that were made without any row among them."""
        if table not in self._tables:
            found = self.store.partitions(table)
            stored = {k: Stored(i.rows, i.input_digest, i.content_digest, i.version) for k, i in found.items()}
            version = max((one.version for one in stored.values()), default=0)
            empty = {
                known.key: Stored(0, known.made_from, known.content, version)
                for (name, _), known in self._all_known().items()
                if name == table and known.key is not None and known.is_empty and known.key not in stored
            }
            self._tables[table] = dict(sorted((stored | empty).items()))
        return self._tables[table]

    def partitions(self, stage: Stage) -> dict[str, Stored]:
        """Stored partitions of a stage, up to date or not."""
        if stage.table is None:
            return {}
        stored = self.table(stage.table)
        return {key: stored[key] for key in of_groups(stored, stage.groups)}

    def checkpoint(self, stage: Stage) -> "CheckpointInfo | None":
        """The stored result of an unpartitioned stage."""
        name = stage.checkpoint_name
        if name not in self._checkpoints:
            self._checkpoints[name] = self.store.checkpoint(name)
        return self._checkpoints[name]

    def stored(self, stage: Stage, key: str | None = None) -> Stored | None:
        """What is stored of a stage at a key; None where nothing is."""
        if stage.partitioned:
            return self.partitions(stage).get(key or "")
        found = self.checkpoint(stage)
        return None if found is None else Stored(1, found.input_digest, found.place, 0)

    # What it was made from

    def input_digest(self, stage: Stage, key: str | None = None) -> str:
        """Digest of everything that the stage's result at this key depends on."""
        if (stage.key, key) not in self._digests:
            self._digests[stage.key, key] = digest(self.inputs(stage, key))
        return self._digests[stage.key, key]

    def inputs(self, stage: Stage, key: str | None = None) -> dict[str, Any]:
        """What `input_digest` covers, by name: for looking at why a partition is out of date."""
        stage = self.as_run(stage)
        upstream: dict[str, str | None] = {}
        for reads in stage.reads_at(key):
            stored = self.table(reads.table)
            keys = [key or ""] if reads.groups is None else self.current_keys(reads.table, reads.groups)
            upstream |= {f"{reads.table}[{k}]": stored[k].content if k in stored else None for k in keys}
        for name in stage.checkpoints:
            found = self.checkpoint(self.graph[name])
            upstream[name] = checkpoint_digest(found) if found else None
        return {
            "stage": stage.key,
            "key": key,
            "version": stage.version,
            "seed": self.profile.seed if stage.seeded else None,
            "settings": {name: setting(self.profile, name, key) for name in stage.settings},
            "files": {name: self._file_digest(name, key) for name in stage.files},
            "upstream": upstream,
        }

    def as_run(self, stage: Stage) -> Stage:
        """The stage with what it depends on under the profile."""
        return stage.under(stage, self.profile)

    def _file_digest(self, kind: str, key: str | None) -> str | None:
        if kind == "test_set":
            return user_set_digest(user_set_of(self.profile, key or ""))
        if kind == "background_files":
            return self._backgrounds_digest(key or "")
        if kind != "poses":
            return file_digest(self.profile, kind)
        files = self.pose_files(key or "")
        return files.digest if files else None

    def _backgrounds_digest(self, key: str) -> str | None:
        """Of the backgrounds of a batch, whose folder is listed once; None where there are none."""
        from posedreamer_assets.scenes.background_files import background_files, batches_of, stamps_digest

        if self._backgrounds is None:
            folder = self.profile.scenes.backgrounds
            self._backgrounds = batches_of(background_files(folder)) if folder else {}
        files = self._backgrounds.get(int(key.rpartition("-")[2]))
        return stamps_digest(files) if files else None

    def pose_files(self, key: str) -> "PresentFiles | None":
        """The files of a pose batch as they are now; None for procedural poses and for keys that were never cut."""
        from posedreamer_assets.poses.folder import Folder

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
        listed = {reads.table: self.table(reads.table) for reads in self.as_run(stage).reads if reads.groups}
        return {table: next(iter(infos.values())).version for table, infos in listed.items() if infos}

    # Whether it may be used

    def is_current(self, stage: Stage, key: str | None = None) -> bool:
        """Whether a result is stored, was made from the present inputs all the way up the graph, and passed its checks."""
        if (stage.key, key) not in self._current:
            self._current[stage.key, key] = self.is_fresh(stage, key) and not self.blocked_by(stage, key)
        return self._current[stage.key, key]

    def is_fresh(self, stage: Stage, key: str | None = None) -> bool:
        """`is_current` but for the checks of the result itself."""
        stored = self.stored(stage, key)
        if stored is None or stored.input_digest != self.input_digest(stage, key):
            return False
        as_run = self.as_run(stage)
        writers = [(self.graph.writer(r.table, key or ""), key) for r in as_run.reads_at(key) if r.groups is None]
        writers += [(self.graph[name], None) for name in as_run.checkpoints]
        return all(writer is not None and self.is_current(writer, at) for writer, at in writers)

    def current_keys(self, table: str, groups: tuple[str, ...]) -> list[str]:
        """Stored keys of a table that are up to date and belong to these groups, sorted."""
        keys = of_groups(self.table(table), groups)
        return [k for k in keys if (writer := self.graph.writer(table, k)) and self.is_current(writer, k)]

    def current_of(self, stage: Stage) -> list[str]:
        """Stored keys of a stage that are up to date, sorted."""
        return [key for key in self.partitions(stage) if self.is_current(stage, key)]

    def known(self, stage: Stage, key: str | None = None) -> Known | None:
        """What the checks said of the very rows that are stored; None where they have not looked at them."""
        stored = self.stored(stage, key)
        known = self._all_known().get((stage.stored_as, key))
        return known if stored is not None and known is not None and known.content == stored.content else None

    def blocked_by(self, stage: Stage, key: str | None = None) -> tuple[str, ...]:
        """Names of the checks of severity error that the stored rows failed, or that have not looked at them."""
        return known_of(self.known(stage, key), stage.stored_as if stage.table else stage.name)

    def failed(self, stage: Stage, key: str | None = None) -> tuple[str, ...]:
        """Names of the checks of severity error that the stored rows failed."""
        known = self.known(stage, key)
        return known.failed if known else ()

    def _all_known(self) -> dict[tuple[str, str | None], Known]:
        if self._known is None:
            self._known = known_outcomes(self.store)
        return self._known


def checkpoint_digest(info: "CheckpointInfo") -> str:
    """Digest of what a checkpoint was made from and of its files; its folder is named so."""
    return info.place.rpartition("/")[2]


def setting(profile: Profile, name: str, key: str | None = None) -> Any:
    """A section or field of the profile as plain values, without what does not change the content of that partition."""
    section_name, _, field = name.partition(".")
    if name in STUDY_SETTINGS:
        return study_setting(profile, name, key or "")
    if name in ARM_SETTINGS:
        return arm_setting(profile, name, key or "")
    section = getattr(profile, section_name)
    if not dataclasses.is_dataclass(section) or isinstance(section, type):
        return section
    values = dataclasses.asdict(section)
    if section_name == "poses":
        # Its files are digested, so that a moved folder changes nothing.
        values["source"] = "folder" if has_pose_files(profile, key or "procedural-0000") else "procedural"
    if section_name == "curriculum":
        values["rounds"] = poses_of_batch(profile, key or "")  # other rounds change nothing here
    if section_name == "generator":  # files of LoRAs are digested with those of the generator
        values["loras"] = tuple((lora["weight"], lora["revision"]) for lora in values["loras"])
    plain = {k: v is not None if f"{section_name}.{k}" in PLACES else v for k, v in values.items()}
    if field:
        return plain[field]
    return {k: v for k, v in plain.items() if _is_content(f"{section_name}.{k}", v)}


def _is_content(name: str, value: Any) -> bool:
    return name not in NOT_CONTENT and (name not in AS_BEFORE or value not in AS_BEFORE[name])
