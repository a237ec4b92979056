"""Scenes of many people against a plain loop: one pyrender scene and one lit pass for each image.

    python benchmarks/scenes.py [--scenes 6] [--rounds 2] [--sizes 320 640] [--people 2 9 20]

CPU seconds of one core for one image from people who stand already: bodies, clothes, picture, who is where, parts, depth, and
the pixels of each person alone; the lower of some rounds, taken in turn. The plain loop has the same dressed bodies in one
pyrender scene (its context stays open), draws them lit at twice the size, and the rest in passes of their own; `picture s` is
its lit pass and one of ids alone. Neither draws shadows. The last columns are what shadows on the ground (which mixtures have
not) and shadows of people on people cost beside it, placing the people, and reading their labels.
Restrict the instruction set with ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell LP_NATIVE_VECTOR_WIDTH=256
NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR".
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.config import CrowdsConfig
from posedreamer_assets.render.gl import renderer
from posedreamer_assets.scenes.labels import label_people
from posedreamer_assets.scenes.layout import Layout, lay_out
from posedreamer_assets.scenes.people import colours_of, dressed
from posedreamer_assets.scenes.picture import picture_of
from posedreamer_assets.tables.keys import sample_id

_GREY = 160


def ours(
    body: BodyModel, layout: Layout, behind: np.ndarray, *, on_ground: bool = False, on_people: bool = False
) -> None:
    """The picture and its maps."""
    ids = [person + 1 for person in layout.people]
    args = (body, layout.params, layout.looks, layout.seeds, ids, layout.camera, layout.light, behind)
    picture_of(*args, shadows=on_ground, on_people=on_people)


class Plain:
    """The plain loop, with a renderer that stays open: one scene for each image, and the same things to be had of it."""

    def __init__(self) -> None:
        import pyrender

        self._renderer: Any = pyrender.OffscreenRenderer(64, 64)

    def __call__(self, body: BodyModel, layout: Layout, behind: np.ndarray, *, labels: bool = True) -> None:
        """Meshes are uploaded anew and every pixel is shaded; ids, parts and each person alone are passes of their own."""
        import pyrender

        camera = layout.camera
        scene, nodes = self._scene(body, layout)
        self._renderer.viewport_width, self._renderer.viewport_height = 2 * camera.width, 2 * camera.height
        colour, depth = self._renderer.render(scene, flags=pyrender.RenderFlags.RGBA)
        self._renderer.render(scene, flags=pyrender.RenderFlags.SEG, seg_node_map=nodes)
        if labels:
            for node, name in nodes.items():
                self._renderer.render(scene, flags=pyrender.RenderFlags.SEG, seg_node_map={node: name})
            for node in nodes:
                for part in node.mesh.primitives:
                    part.color_0 = np.tile(_grey(body), (1, 4))
            self._renderer.render(scene, flags=pyrender.RenderFlags.FLAT)
        share = np.where(depth > 0, 255, 0).astype(np.uint8)
        large = Image.fromarray(np.dstack([colour[..., :3], share]))
        small = np.asarray(large.resize((camera.width, camera.height), Image.Resampling.BOX), np.float32)
        np.rint(behind * (1 - small[..., 3:] / 255) + small[..., :3] * small[..., 3:] / 255)

    def _scene(self, body: BodyModel, layout: Layout) -> tuple[Any, dict[Any, tuple[int, int, int]]]:
        import pyrender
        import trimesh

        scene = pyrender.Scene(bg_color=(0, 0, 0, 0), ambient_light=np.full(3, layout.light.ambient))
        camera, nodes = layout.camera, {}
        solids = dressed(body, layout.params, layout.looks, layout.seeds)
        for solid, look, seed, person in zip(solids, layout.looks, layout.seeds, layout.people, strict=True):
            points = camera.to_camera(solid.vertices[None])[0] * (1, -1, -1)
            mesh = trimesh.Trimesh(points, body.faces, vertex_colors=colours_of(body, look, seed), process=False)
            nodes[scene.add(pyrender.Mesh.from_trimesh(mesh))] = (person + 1, 0, 0)
        f, (cx, cy) = 2 * float(camera.focal_px[0]), 2 * camera.principal_px[0]
        scene.add(pyrender.IntrinsicsCamera(f, f, cx, cy))
        scene.add(pyrender.DirectionalLight(np.ones(3), layout.light.intensity), pose=np.eye(4))
        return scene, nodes


def _grey(body: BodyModel) -> np.ndarray:
    """Parts as greys: (v, 1)."""
    return ((body.dominant_joint + 1) / 255)[:, None].astype(np.float32)


def cpu_s(action: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    action()
    return time.process_time() - started


def main() -> None:
    """Draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--people", type=float, nargs="+", default=[2.0, 9.0, 20.0])
    given = parser.parse_args()
    body = load_body()
    print("NumPy's SIMD:", np.show_config(mode="dicts")["SIMD Extensions"]["found"])  # type: ignore[index]
    print(" size  people       s  plain s  times  picture s  a minute  placing s  labels s  ground s  on people s")
    plain = Plain()  # one for all sizes: closing one closes the display that all share
    for size in given.sizes:
        for people in given.people:
            print(_line(body, plain, size, people, given.scenes, given.rounds), flush=True)


def _line(body: BodyModel, plain: Plain, size: int, people: float, count: int, rounds: int) -> str:
    cfg = CrowdsConfig(people_mean=people, size=size)
    layouts: list[Layout] = []
    lay_out(body, sample_id("scenes-0001", 0), 0, cfg)  # what is made once is not measured
    placing = cpu_s(lambda: layouts.extend(lay_out(body, sample_id("scenes-0000", i), 0, cfg) for i in range(count)))
    behind = np.full((size, size, 3), _GREY, np.uint8)
    renderer()
    ours(body, layouts[0], behind)
    plain(body, layouts[0], behind)
    actions: tuple[Callable[[Layout], None], ...] = (
        lambda one: ours(body, one, behind),
        lambda one: plain(body, one, behind),
        lambda one: plain(body, one, behind, labels=False),
        lambda one: _labels(body, one),
        lambda one: ours(body, one, behind, on_ground=True),
        lambda one: ours(body, one, behind, on_ground=True, on_people=True),
    )
    best = [np.inf] * len(actions)
    for _ in range(rounds):
        for k, action in enumerate(actions):
            best[k] = min(best[k], cpu_s(lambda action=action: [action(one) for one in layouts]) / count)
    mean = np.mean([len(one.people) for one in layouts])
    own, other, picture, labels, ground, shaded = best
    whole = own + labels + placing / count
    return (
        f"{size:>5} {mean:>7.1f} {own:>7.3f} {other:>8.3f} {other / own:>6.1f} {picture:>10.3f} {60 / whole:>9.0f} "
        f"{placing / count:>10.3f} {labels:>9.3f} {ground - own:>9.3f} {shaded - ground:>12.3f}"
    )


def _labels(body: BodyModel, layout: Layout) -> None:
    empty = np.zeros((layout.camera.height, layout.camera.width), np.uint8)
    label_people(body, layout.params, [person + 1 for person in layout.people], layout.camera, empty, empty)


if __name__ == "__main__":
    main()
