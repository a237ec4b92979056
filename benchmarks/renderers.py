"""What other renderers than the rasteriser cost, and how their pictures look beside its own.

    python benchmarks/renderers.py [--sizes 320 640] [--samples 64] [--scenes 4] [--sheet FILE]

POSEDREAMER_CYCLES_PYTHON names the Python. Scenes are those of a run with seed 0. Seconds and CPU seconds (of all cores) are
for one scene, the start of Blender shared by them; memory is the largest of any of its processes. Stand-ins are traced in this
process, where Mitsuba is installed.
"""

import argparse
import importlib.util
import resource
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.config import CrowdsConfig
from posedreamer_assets.pipeline.layout_rows import image_seed
from posedreamer_assets.render.backgrounds import background_of
from posedreamer_assets.render.drawing import contact_sheet
from posedreamer_assets.scenes.blender import blender_version, light_of, python_of, render_jobs, write_job
from posedreamer_assets.scenes.composite import ground_colour, over
from posedreamer_assets.scenes.draw import scale_of
from posedreamer_assets.scenes.layout import Layout, lay_out
from posedreamer_assets.scenes.picture import picture_of, surfaces_of
from posedreamer_assets.scenes.stand_in import stand_in_photo
from posedreamer_assets.tables.keys import sample_id

_SHOWN_PX = 216


def main() -> None:
    """Render, print, and lay the pictures beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--samples", type=int, default=CrowdsConfig().cycles_samples)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--sheet", type=Path, default=None)
    given = parser.parse_args()
    body, python = load_body(), python_of(CrowdsConfig())
    print(f"Blender {blender_version(python)}, {given.samples} samples")
    print(f"{'what':<12} {'size':>5} {'s':>8} {'CPU s':>8} {'GB':>6}")
    rows: list[list[np.ndarray]] = []
    for size in given.sizes:
        drawn, traced = _scenes(body, python, size, given.samples, given.scenes)
        rows = rows or [drawn, traced]
    if importlib.util.find_spec("mitsuba"):
        rows += [_stand_ins(body, given.scenes, traced) for traced in (False, True)]
    if given.sheet:
        names = ["raster", "Cycles", "stand-in, raster", "stand-in, traced"][: len(rows)]
        sheet = contact_sheet(rows, captions=names, cell_px=_SHOWN_PX)
        Image.fromarray(sheet).save(given.sheet, quality=88)


def _scenes(body: BodyModel, python: str, size: int, samples: int, count: int) -> list[list[np.ndarray]]:
    cfg = CrowdsConfig(size=size)
    names = [sample_id("scenes-0000", k) for k in range(count)]
    layouts = [lay_out(body, name, 0, cfg) for name in names]
    behind = [_behind(layout, image_seed(0, name)) for layout, name in zip(layouts, names, strict=True)]
    drawn = [_drawn(body, layout, picture) for layout, picture in zip(layouts, behind, strict=True)]
    _measured(f"raster {size}", size, count, lambda: [_drawn(body, *one) for one in zip(layouts, behind, strict=True)])
    with tempfile.TemporaryDirectory() as place:
        folder, jobs = Path(place), [f"{k}" for k in range(count)]
        for job, layout, picture in zip(jobs, layouts, behind, strict=True):
            write_job(
                folder,
                job,
                people=surfaces_of(body, layout.params, layout.looks, layout.seeds),
                faces=body.faces,
                ids=[person + 1 for person in layout.people],
                camera=layout.camera,
                light=layout.light,
                ground=ground_colour(picture, layout.light),
                samples=samples,
                seed=int(job),
            )
        _measured(f"Cycles {size}", size, count, lambda: render_jobs(python, folder, jobs, lambda name: None))
        made = [over(light_of(folder, job), picture) for job, picture in zip(jobs, behind, strict=True)]
    return [drawn, made]


def _behind(layout: Layout, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return background_of(layout.looks[0].scene, layout.camera, rng, None, scale_of(layout.camera))


def _drawn(body: BodyModel, layout: Layout, behind: np.ndarray) -> np.ndarray:
    ids = [person + 1 for person in layout.people]
    return picture_of(body, layout.params, layout.looks, layout.seeds, ids, layout.camera, layout.light, behind)[0]


def _stand_ins(body: BodyModel, count: int, traced: bool) -> list[np.ndarray]:
    found: list[np.ndarray] = []

    def make() -> None:
        for k in range(count):
            photo = stand_in_photo(body, sample_id("photos-0000", k), 0, 288, traced=traced)
            found.append(np.asarray(Image.open(BytesIO(photo.data))))

    _measured("Mitsuba" if traced else "stand-in", 288, count, make)
    return found


def _measured(name: str, size: int, count: int, action: Callable[[], object]) -> None:
    """Run it and print what it cost for one picture; memory is of other processes alone."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before, started = [resource.getrusage(who) for who in whose], time.perf_counter()
    action()
    seconds, after = time.perf_counter() - started, [resource.getrusage(who) for who in whose]
    cpu = sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))
    others = after[1].ru_maxrss / 1e6 if after[1].ru_utime > before[1].ru_utime + 0.1 else 0.0
    print(f"{name.split()[0]:<12} {size:>5} {seconds / count:>8.2f} {cpu / count:>8.2f} {others:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
