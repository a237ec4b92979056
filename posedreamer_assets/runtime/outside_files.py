"""Digests of files outside of the store that stages read: models, folders of images."""

from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from posedreamer_assets.config import WEIGHTS_DIR, Profile, UserTestSet, local_path
from posedreamer_assets.digests import digest
from posedreamer_assets.errors import ConfigError
from posedreamer_assets.hub import is_hub_name
from posedreamer_assets.pipeline.student_study import spec_of
from posedreamer_assets.students.archs import RANDOM


def file_digest(profile: Profile, kind: str) -> str | None:
    """Digest of outside files: a model, a folder of poses or images; None where nothing outside is read."""
    if kind == "quality_networks":
        return _networks_digest(profile)
    if kind == "generator" and profile.generator.loras:
        merged = [Path(lora.path).expanduser() for lora in profile.generator.loras]
        # One of the hub is its name, whose revision is a setting.
        return digest([_path_digest(profile, kind), [path_digest(p) if p.exists() else str(p) for p in merged]])
    return _path_digest(profile, kind)


def _path_digest(profile: Profile, kind: str) -> str | None:
    paths: dict[str, str | Path | None] = {
        "body": profile.body.model_path,
        "backgrounds": profile.scenes.backgrounds,
        "captions": profile.captions.path,
        "caption_model": profile.captions.model,
        "photos": profile.photos.path,
        "test_poses": profile.students.test_poses,
        "pose2d": local_path(profile.pose2d.baseline) if profile.pose2d.baseline else None,
        "vgg19": profile.pose2d.vgg19,
        "photo_annotations": profile.photos.annotations,
        "photo_groups": profile.photos.groups,
        "style_weights": profile.style.weights,
        "reference": profile.quality.reference,
        "generator": profile.generator.model_path or (WEIGHTS_DIR / "generator"),
        "generator_control": profile.generator.control_lora_path,
        "judge": local_path(profile.judge.path),
        "ranker": local_path(profile.ranker.path),
        "student_init": _student_init(profile) if kind == "student_init" else None,
        "counter": local_path(profile.counter.path),
        "outside_judge": local_path(profile.outside_judge.path) if profile.outside_judge else None,
    }
    path = paths[kind]
    if path is None:
        return None
    found = Path(path).expanduser()
    if not found.exists():
        if kind in ("generator", "generator_control") and profile.generator.backend != "pocket":
            return str(path)  # a name on a model hub
        if kind in ("judge", "ranker", "outside_judge", "counter", "caption_model", "student_init") and is_hub_name(
            str(path)
        ):
            return str(path)  # its revision is a setting
        if kind != "generator" or profile.generator.model_path:
            raise ConfigError(f"{kind}: {found} does not exist")
        return None
    return path_digest(found)


def _student_init(profile: Profile) -> Path | None:
    init = spec_of(profile).init
    return None if init == RANDOM else local_path(init)


def _networks_digest(profile: Profile) -> str | None:
    """Of the networks that images are compared by; those of the hub are their names, whose revision is a setting."""
    folders = [Path(network.path).expanduser() for network in profile.quality.networks]
    named = zip(folders, profile.quality.networks, strict=True)
    return digest([path_digest(f) if f.exists() else network.path for f, network in named]) if folders else None


def user_set_digest(test_set: UserTestSet | None) -> str | None:
    """Digest of a user's test set: annotations by their bytes, images by name, size and time of change, as they are many."""
    if test_set is None:
        return None
    files = [Path(one).expanduser() for one in (test_set.path, test_set.annotations, test_set.camera) if one]
    if missing := [str(path) for path in files if not path.exists()]:
        raise ConfigError(f"students.test_sets: {test_set.name}: {missing[0]} does not exist")
    folder = Path(test_set.images).expanduser() if test_set.images else None
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"students.test_sets: {test_set.name}: images: {folder} is no folder")
    images = [] if folder is None else sorted(path for path in folder.rglob("*") if path.is_file())
    stamps = [(str(p.relative_to(str(folder))), p.stat().st_size, p.stat().st_mtime_ns) for p in images]
    return digest([[path_digest(path) for path in files], stamps])


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
