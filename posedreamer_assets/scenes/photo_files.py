"""Annotated photographs of whatever kind: those of a batch, and the files of all that there are."""

from pathlib import Path

from posedreamer_assets.config import PhotosConfig
from posedreamer_assets.errors import PhotoError
from posedreamer_assets.scenes.mpii_photos import mpii_files, mpii_photos
from posedreamer_assets.scenes.photos import Photo, coco_files, coco_photos


def require_named(cfg: PhotosConfig) -> None:
    """Refuse photographs that are not named, or are not where they are said to be; nothing is opened.

    Raises:
        PhotoError: what is missing, by its setting.
    """
    if cfg.kind == "stand_in":
        return
    if cfg.path is None or cfg.annotations is None:
        raise PhotoError(
            f"photos.kind {cfg.kind} needs photographs: --set photos.path=FOLDER --set photos.annotations=FILE; "
            f"photos.kind={'coco' if cfg.kind == 'mpii' else 'mpii'} reads others, stand_in renders some (docs/scenes.md)"
        )
    for name, path in (("path", cfg.path), ("annotations", cfg.annotations), ("groups", cfg.groups)):
        if path is not None and not Path(path).expanduser().exists():
            raise PhotoError(f"photos.{name}: nothing at {path}")
    if not Path(cfg.path).expanduser().is_dir():
        raise PhotoError(f"photos.path: {cfg.path} is no folder")


def photos_between(cfg: PhotosConfig, first: int, count: int) -> list[Photo]:
    """A stretch of the photographs with annotated people, which are named.

    Raises:
        PhotoError: files that cannot be used.
    """
    folder, annotations, groups = _places(cfg)
    if cfg.kind == "mpii":
        return mpii_photos(folder, annotations, first, count, groups=groups, test_groups=cfg.test_groups)
    return coco_photos(folder, annotations, first, count)


def require_batches(cfg: PhotosConfig, batches: int) -> int:
    """How many photographs with annotated people there are, where they fill so many batches and each has its file.

    Raises:
        PhotoError: annotations that cannot be used, files that are not there, or fewer photographs than that.
    """
    folder, annotations, groups = _places(cfg)
    if cfg.kind == "mpii":
        files = mpii_files(folder, annotations, groups=groups, test_groups=cfg.test_groups)
    else:
        files = coco_files(folder, annotations)
    if not files:
        raise PhotoError(f"photos.annotations: {cfg.annotations} has no photograph with annotated people")
    filled = -(-len(files) // cfg.batch_size)
    if batches > filled:
        raise PhotoError(
            f"learning_to_train.photo_batches is {batches} of photos.batch_size {cfg.batch_size}, and {cfg.annotations} has "
            f"{len(files)} photographs with annotated people: --set learning_to_train.photo_batches={filled} takes all"
        )
    wanted = files[: batches * cfg.batch_size]
    if missing := [file for file in wanted if not file.is_file()]:
        raise PhotoError(
            f"photos.path: {len(missing)} of {len(wanted)} photographs are not there, such as {missing[0]}"
        )
    return len(files)


def _places(cfg: PhotosConfig) -> tuple[str, str, str | None]:
    assert cfg.path and cfg.annotations, "refused without them"
    folder, annotations = (str(Path(path).expanduser()) for path in (cfg.path, cfg.annotations))
    return folder, annotations, None if cfg.groups is None else str(Path(cfg.groups).expanduser())
