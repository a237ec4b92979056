"""Rendering against the reference structure: a new context, a processed mesh and a new scene for every image.

    python benchmarks/render.py [--bodies 32] [--reference 8] [--size 512]

CPU seconds of one body, posing included, the lower of two rounds that are taken in turn. Restrict the instruction set with
ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Haswell LP_NATIVE_VECTOR_WIDTH=256
NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR"; the first line says what NumPy was left with.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from posedreamer_assets.body.model import BodyModel, load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.cameras.pinhole import Cameras
from posedreamer_assets.cameras.sampling import FRAMING_STRIDE, sample_cameras
from posedreamer_assets.config import ImageConfig, ScenesConfig, load_profile
from posedreamer_assets.poses.procedural import FAMILIES, procedural_poses
from posedreamer_assets.render.appearance import sample_appearance
from posedreamer_assets.render.control import canonical_colours, render_control_maps, view_of
from posedreamer_assets.render.gl import renderer
from posedreamer_assets.render.scene import render_scenes
from posedreamer_assets.seeds import sample_rng


def reference_rgb(body: BodyModel, params: BodyParams, cameras: Cameras) -> None:
    """Mesh-to-RGB images as a plain script draws them: everything anew for every image."""
    import pyrender
    import trimesh

    for i in range(len(params)):
        vertices = cameras.take([i]).to_camera(body.forward(params.take([i])).vertices)[0] * (1, -1, -1)
        mesh = trimesh.Trimesh(vertices, body.faces, vertex_colors=canonical_colours(body), process=True)
        scene = pyrender.Scene(bg_color=(0, 0, 0, 0), ambient_light=np.ones(3))
        scene.add(pyrender.Mesh.from_trimesh(mesh))
        f, (cx, cy) = cameras.focal_px[i], cameras.principal_px[i]
        scene.add(pyrender.IntrinsicsCamera(f, f, cx, cy))
        context = pyrender.OffscreenRenderer(cameras.width, cameras.height)
        context.render(scene, flags=pyrender.RenderFlags.FLAT)
        context.delete()


def rgb_alone(body: BodyModel, params: BodyParams, cameras: Cameras) -> None:
    """Only the mesh-to-RGB images, with this project's renderer."""
    vertices = cameras.to_camera(body.forward(params).vertices)
    for i in range(len(params)):
        renderer().draw_data(vertices[i], body.faces, canonical_colours(body), view_of(cameras, i))


def cpu_s(action: Callable[[], None]) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    action()
    return time.process_time() - started


def measure(size: int, bodies: int, reference: int) -> dict[str, float]:
    """CPU seconds of one body by what is drawn, pictures of `size` pixels a side.

    `reference` bodies are drawn anew each; none with 0. After them the process may be unable to draw anything else.
    """
    body, profile, n = load_body(), load_profile("pocket"), bodies
    ids = [f"procedural-0000/{i:06d}" for i in range(n)]
    params, families = procedural_poses(body, ids, 0, ages=profile.poses.ages)
    surface = body.forward(params).vertices[:, ::FRAMING_STRIDE]
    image = ImageConfig(size, size)
    cameras, _ = sample_cameras(surface, ids, 0, profile.cameras, image)
    looks = [
        sample_appearance(sample_rng(0, i, "appearance"), FAMILIES[f].activity)
        for i, f in zip(ids, families, strict=True)
    ]
    few = slice(0, reference)
    actions: dict[str, tuple[int, Callable[[], None]]] = {
        "RGB alone": (n, lambda: rgb_alone(body, params, cameras)),
        "five maps": (n, lambda: (render_control_maps(body, params, cameras), None)[1]),
        "scene": (n, lambda: (render_scenes(body, params, cameras, looks, ids, 0, ScenesConfig()), None)[1]),
        "camera": (n, lambda: (sample_cameras(surface, ids, 0, profile.cameras, image), None)[1]),
        # Last: closing a context may take another one of the process with it.
        "reference, RGB alone": (reference, lambda: reference_rgb(body, params.take(few), cameras.take(few))),
    }
    for _, action in list(actions.values())[:3]:
        action()
    taken = {name: (count, action) for name, (count, action) in actions.items() if count}
    return {name: min(cpu_s(action) for _ in range(2)) / count for name, (count, action) in taken.items()}


def main() -> None:
    """Draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=32)
    parser.add_argument("--reference", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    given = parser.parse_args()
    best = measure(given.size, given.bodies, given.reference)
    from numpy._core._multiarray_umath import __cpu_features__ as features

    on = [name for name in ("X86_V3", "X86_V4", "AVX512_ICL", "AVX512_SPR") if features.get(name)]
    print(f"{given.size} px, {given.bodies} bodies; NumPy dispatches to {', '.join(on)}")
    for name, seconds in best.items():
        print(f"{name:<24}{1000 * seconds:>9.1f} ms of CPU")
    print(f"reference / RGB alone   {best['reference, RGB alone'] / best['RGB alone']:.1f}")
    print(f"five maps / RGB alone   {best['five maps'] / best['RGB alone']:.2f}")


if __name__ == "__main__":
    main()
