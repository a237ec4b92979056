"""D_S: pictures of scenes, and the maps that labels are read from."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.config import Profile
from posedreamer_assets.errors import RenderError
from posedreamer_assets.pipeline import background_verdicts, layout_rows
from posedreamer_assets.pipeline.layout_rows import DRAWN_FROM, Placed, image_seed, placed_of
from posedreamer_assets.pipeline.scene_layouts import scenes_of_batch
from posedreamer_assets.pipeline.stage import Inputs, Made, Origins, Reads, Stage, all_of
from posedreamer_assets.pipeline.thumbnails import MOST, with_keypoints
from posedreamer_assets.tables.fields import SCHEMAS
from posedreamer_assets.tables.keys import BACKGROUND, SCENE, SCENE_TEST
from posedreamer_assets.tables.rows import make_table

if TYPE_CHECKING:
    from posedreamer_assets.scenes.draw import Crowd

TABLE = "scene_images"
MAPS = ("image", "instances", "parts", "depth")


def make(inputs: Inputs) -> Made:
    """Every scene before a background of its own, with shadows on the ground and on people."""
    from posedreamer_assets import progress

    scenes = list(placed_of(inputs.rows(layout_rows.TABLE)))
    behind, figures = _Behind(inputs), dict[str, str]()
    if inputs.profile.crowds.renderer == "cycles":
        drawn, figures["renderer"] = _by_cycles(inputs, scenes, behind)
    else:
        drawn = [(placed, *_draw(inputs, placed, behind(placed))) for placed in progress.track(scenes)]
    return Made(image_table(inputs, drawn), figures, thumbnails(picture for _, picture, _ in drawn))


class _Behind:
    """What is behind the people of each scene: a place of its own, or a crop of a background that was kept."""

    def __init__(self, inputs: Inputs) -> None:
        self._seed = inputs.profile.seed
        self._kept = background_verdicts.kept_backgrounds(inputs) if inputs.profile.scenes.backgrounds else None

    def __call__(self, placed: Placed) -> np.ndarray:
        from posedreamer_assets.render.backgrounds import background_of
        from posedreamer_assets.scenes.draw import scale_of

        camera, rng = placed.camera, np.random.default_rng(image_seed(self._seed, placed.image_id))
        if self._kept is not None:
            return self._kept.crop(rng, camera.width, camera.height)
        return background_of(placed.looks[0].scene, camera, rng, None, scale_of(camera))


def _draw(inputs: Inputs, placed: Placed, behind: np.ndarray) -> "tuple[np.ndarray, Crowd]":
    from posedreamer_assets.scenes.picture import picture_of

    return picture_of(
        inputs.models.body,
        placed.params,
        placed.looks,
        placed.seeds,
        placed.instance_ids,
        placed.camera,
        placed.light,
        behind,
        on_people=inputs.profile.crowds.shadows_on_people,
    )


def _by_cycles(
    inputs: Inputs, scenes: Sequence[Placed], behind: _Behind
) -> "tuple[list[tuple[Placed, np.ndarray, Crowd]], str]":
    """Scenes with Cycles' colours and the rasteriser's maps, and the renderer's name.

    Raises:
        RenderError: no Python that has Blender, or a scene that it cannot render. The others are kept for the next attempt.
    """
    from posedreamer_assets import progress
    from posedreamer_assets.scenes import blender

    python = blender.python_of(inputs.profile.crowds)
    names = {_file_name(placed): placed for placed in scenes}
    with tempfile.TemporaryDirectory() as scratch:
        folder = inputs.unfinished or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        left = [name for name in names if not blender.is_rendered(folder, name)]
        progress.advance(len(names) - len(left))
        for name in left:
            _write_job(inputs, names[name], behind(names[name]), folder, name)
        failed = blender.render_jobs(python, folder, left, lambda _: progress.advance())
        if failed:
            name, why = next(iter(failed.items()))
            raise RenderError(
                f"{names[name].image_id}: {why} ({len(failed)} of {len(names)} scenes failed, the others are kept for the "
                "next run)"
            )
        drawn = [
            (placed, *_over(inputs, placed, behind(placed), blender.light_of(folder, name)))
            for name, placed in names.items()
        ]
    return drawn, f"Blender {blender.blender_version(python)}"


def _file_name(placed: Placed) -> str:
    return placed.image_id.rpartition("/")[2]


def _write_job(inputs: Inputs, placed: Placed, behind: np.ndarray, folder: Path, name: str) -> None:
    from posedreamer_assets.scenes.blender import write_job
    from posedreamer_assets.scenes.composite import ground_colour
    from posedreamer_assets.scenes.picture import surfaces_of

    body = inputs.models.body
    write_job(
        folder,
        name,
        people=surfaces_of(body, placed.params, placed.looks, placed.seeds),
        faces=body.faces,
        ids=placed.instance_ids,
        camera=placed.camera,
        light=placed.light,
        ground=ground_colour(behind, placed.light),
        samples=inputs.profile.crowds.cycles_samples,
        seed=image_seed(inputs.profile.seed, placed.image_id),
    )


def _over(inputs: Inputs, placed: Placed, behind: np.ndarray, light: np.ndarray) -> "tuple[np.ndarray, Crowd]":
    from posedreamer_assets.scenes.composite import over
    from posedreamer_assets.scenes.picture import crowd_of, surfaces_of

    body = inputs.models.body
    people = surfaces_of(body, placed.params, placed.looks, placed.seeds)
    crowd = crowd_of(body, people, placed.instance_ids, placed.camera, placed.light)
    return over(light, behind), crowd


def image_table(
    inputs: Inputs, drawn: "Iterable[tuple[Placed, np.ndarray, Crowd]]", variants: list[int] | None = None
) -> pa.Table:
    """Rows of pictures."""
    from posedreamer_assets.tables.images import encode_png

    drawn = list(drawn)
    columns: dict[str, Any] = {
        "sample_id": [placed.image_id for placed, _, _ in drawn],
        "partition_key": [inputs.key] * len(drawn),
        "photo_id": [placed.photo_id or None for placed, _, _ in drawn],
        "variant": variants,
        "image": [encode_png(picture) for _, picture, _ in drawn],
        "instances": [encode_png(crowd.instances) for _, _, crowd in drawn],
        "parts": [encode_png(crowd.parts) for _, _, crowd in drawn],
        "depth": [encode_png(crowd.depth_mm) for _, _, crowd in drawn],
        "width": [picture.shape[1] for _, picture, _ in drawn],
        "height": [picture.shape[0] for _, picture, _ in drawn],
        "persons": [placed.people for placed, _, _ in drawn],
        "amodal_pixels": [crowd.amodal_pixels for _, _, crowd in drawn],
        "seed": [image_seed(inputs.profile.seed, placed.image_id) for placed, _, _ in drawn],
    }
    return make_table(columns, SCHEMAS[TABLE])


def thumbnails(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """The first pictures, small and square: (n, h, w, 3)."""
    small = [with_keypoints(picture, None) for picture, _ in zip(pictures, range(MOST), strict=False)]
    side = max((max(picture.shape[:2]) for picture in small), default=1)
    framed = np.full((len(small), side, side, 3), 244, np.uint8)
    for frame, picture in zip(framed, small, strict=True):
        frame[: picture.shape[0], : picture.shape[1]] = picture
    return framed


def origins(profile: Profile) -> Origins:
    """Pictures and maps come from bodies, cameras and clothes."""
    return {name: all_of(layout_rows.TABLE, *DRAWN_FROM) for name in (*MAPS, "amodal_pixels")}


def under(stage: Stage, profile: Profile) -> Stage:
    """Pictures depend on who renders them and how, where it is not the rasteriser without shadows on people."""
    if profile.crowds.renderer == "raster":
        return with_shadows(stage, profile)
    return replace(stage, settings=(*stage.settings, "crowds.renderer", "crowds.cycles_samples"))


def with_shadows(stage: Stage, profile: Profile) -> Stage:
    """Rows of the rasteriser without shadows on people hold what they held before there were any."""
    if not profile.crowds.shadows_on_people:
        return stage
    return replace(stage, settings=(*stage.settings, "crowds.shadows_on_people"))


_STAGE = Stage(
    "ds/scene_images",
    "One row per scene: picture, who is where, which part of the body, and depth. Shaded at vertices and drawn in one pass, with "
    "shadows on the ground and on people; or, under `crowds.renderer: cycles`, rendered by Blender.",
    make,
    "2",
    table=TABLE,
    groups=(SCENE, SCENE_TEST),
    settings=("scenes.backgrounds",),
    files=("backgrounds",),
    checkpoints=("body_model",),
    reads=(Reads(layout_rows.TABLE, ("image_id", "person", *DRAWN_FROM)),),
    origins=origins,
    units=scenes_of_batch,
    under=under,
    ui_group="scenes",
    kinds=frozenset(("pyrender", "lance")),
)


def stage(*, of_folder: bool) -> Stage:
    """Before procedural places; or before backgrounds of the user's folder, as verdicts on its images say."""
    if not of_folder:
        return _STAGE
    kept = Reads(background_verdicts.TABLE, background_verdicts.OF_KEPT, (BACKGROUND,))
    return replace(_STAGE, files=(), reads=(*_STAGE.reads, kept))
