"""Renders scenes of people with Blender's Cycles: the only file that imports `bpy`, and one that imports nothing of this project.

A Python that has `bpy` runs it as a file (`python -I blender_worker.py FOLDER NAME ...`); what is asked for and what comes
of it are files of that folder, see `blender.py`, which starts it. `NAME.job.npz` becomes `NAME.done.npz`, or `NAME.error`
with one line that says why not; then the next one is rendered all the same.

Blender is GPL software: it runs in a process of its own, and is neither linked with nor shipped by this project.
"""

# pyright: reportMissingImports=false
import io
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SENSOR_MM = 36.0  # any width would do: angles depend on its ratio to the focal length alone
_NEAR_M, _FAR_M = 0.05, 100.0
_GROUND_M = 200.0  # half of the side of what shadows fall on
_SUN_RAD = 0.03  # how large the sun looks; a few times the real one, for soft edges
_BOUNCES = 3


def camera_of(
    rotation: np.ndarray, translation: np.ndarray, focal_px: float, principal_px: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, float, tuple[float, float]]:
    """An OpenCV camera (x right, y down, z forward; pixel (0, 0) is the image's corner) as Blender has it.

    Args:
        rotation: (3, 3), world to camera.
        translation: (3,), metres; x_cam = rotation @ x_world + translation.
        focal_px: of both axes.
        principal_px: (2,).
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        Camera to world (4, 4) of a camera that looks along -z with y up; the lens in millimetres, and the shift in widths
        of the image, of a sensor SENSOR_MM wide that is fitted horizontally.
    """
    pose = np.eye(4)
    pose[:3, :3] = rotation.T @ np.diag([1.0, -1.0, -1.0])
    pose[:3, 3] = -rotation.T @ translation
    shift = ((width / 2 - float(principal_px[0])) / width, (float(principal_px[1]) - height / 2) / width)
    return pose, focal_px * SENSOR_MM / width, shift


def main(folder: Path, names: Sequence[str]) -> None:
    """Render jobs one after another; ends early where the process that asked for them is no more."""
    import bpy

    try:
        bpy.context.scene.render.engine = "CYCLES"
    except TypeError as error:
        raise SystemExit(f"Blender {bpy.app.version_string} has no Cycles: {error}") from error
    asked_by = os.getppid()
    for name in names:
        if os.getppid() != asked_by:
            return
        try:
            with np.load(folder / f"{name}.job.npz", allow_pickle=False) as job:
                found = render({key: job[key] for key in job.files})
        except Exception as error:  # noqa: BLE001, whatever it is, the other scenes are rendered
            _write(folder / f"{name}.error", f"{type(error).__name__}: {error}".encode())
        else:
            _write_arrays(folder / f"{name}.done.npz", {**found, "blender": np.array(bpy.app.version_string)})


def render(job: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One scene.

    Args:
        job: arrays as `blender.write_job` describes them.

    Returns:
        `light` (h, w, 4) float16: linear light of people and, as alpha, how much of what is behind them is hidden or
        shaded. Where `map_scale` is not 0 also `instances` (H, W) uint8 and `depth_m` (H, W) float32 of an image that many
        times as large: what the middle of each pixel shows, 0 where it is nobody.
    """
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    width, height = (int(v) for v in job["size"])
    _set_camera(scene, job, width, height)
    people = _add_people(job)
    ground = _add_ground(job["ground"])
    _add_light(scene, job["light"])
    _set_renderer(scene, int(job["samples"]), int(job["seed"]))
    found: dict[str, np.ndarray] = {"light": _rendered(scene, width, height).astype(np.float16)}
    if scale := int(job["map_scale"]):
        ground.hide_render = True
        _show_who_is_where(scene, people)
        who, depth_m, _, shown = np.moveaxis(_rendered(scene, width * scale, height * scale), -1, 0)
        found["instances"] = np.where(shown > 0, np.rint(who), 0).astype(np.uint8)
        found["depth_m"] = np.where(shown > 0, depth_m, 0).astype(np.float32)
    return found


def _set_camera(scene: Any, job: Mapping[str, np.ndarray], width: int, height: int) -> None:
    import bpy
    from mathutils import Matrix

    pose, lens_mm, shift = camera_of(
        job["rotation"].astype(float),
        job["translation"].astype(float),
        float(job["focal_px"]),
        job["principal_px"],
        width,
        height,
    )
    data = bpy.data.cameras.new("camera")
    data.sensor_fit, data.sensor_width, data.lens = "HORIZONTAL", SENSOR_MM, lens_mm
    data.shift_x, data.shift_y = shift
    data.clip_start, data.clip_end = _NEAR_M, _FAR_M
    scene.camera = bpy.data.objects.new("camera", data)
    scene.camera.matrix_world = Matrix(pose.tolist())
    scene.collection.objects.link(scene.camera)


def _add_people(job: Mapping[str, np.ndarray]) -> list[Any]:
    """An object for each person: smooth, rough, and coloured at its vertices."""
    skin = _material("skin", "ShaderNodeBsdfDiffuse")
    tree = skin.node_tree
    colour = tree.nodes.new("ShaderNodeVertexColor")
    colour.layer_name = "colour"
    tree.links.new(colour.outputs["Color"], tree.nodes["shader"].inputs["Color"])
    found = []
    for points, normals, colours, name in zip(
        job["vertices"], job["normals"], job["colours"], job["ids"].tolist(), strict=True
    ):
        person = _add_mesh(f"person {name}", points, job["faces"], skin)
        person.pass_index = name
        person.data.polygons.foreach_set("use_smooth", np.ones(len(job["faces"]), bool))
        person.data.normals_split_custom_set_from_vertices(normals)
        layer = person.data.color_attributes.new("colour", "FLOAT_COLOR", "POINT")
        rgba = np.concatenate([colours, np.ones((len(colours), 1), colours.dtype)], axis=1)
        layer.data.foreach_set("color", np.ascontiguousarray(rgba, np.float32).reshape(-1))
        found.append(person)
    return found


def _add_ground(colour: np.ndarray) -> Any:
    """What shadows fall on, at y = 0; it is not in the picture itself, but throws light of its colour back."""
    material = _material("ground", "ShaderNodeBsdfDiffuse")
    material.node_tree.nodes["shader"].inputs["Color"].default_value = (*(float(v) for v in colour), 1.0)
    corners = _GROUND_M * np.array([[-1, 0, 1], [1, 0, 1], [1, 0, -1], [-1, 0, -1]], np.float32)
    ground = _add_mesh("ground", corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), material)
    ground.is_shadow_catcher = True
    return ground


def _add_mesh(name: str, points: np.ndarray, faces: np.ndarray, material: Any) -> Any:
    import bpy

    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(points))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(points, np.float32).reshape(-1))
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", np.ascontiguousarray(faces, np.int32).reshape(-1))
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    mesh.update(calc_edges=True)
    if mesh.validate():
        raise ValueError(f"the mesh of {name} has faces that name no vertex, or the same one twice")
    mesh.materials.append(material)
    placed = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(placed)
    return placed


def _material(name: str, shader: str) -> Any:
    """A material of one shader, which is the node called `shader`."""
    import bpy

    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    node = tree.nodes.new(shader)
    node.name = "shader"
    out = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(node.outputs[0], out.inputs["Surface"])
    return material


def _add_light(scene: Any, light: np.ndarray) -> None:
    """A sun, and light all around: on a rough surface as strong as the rasteriser's."""
    import bpy
    from mathutils import Vector

    direction, (strength, ambient) = light[:3], (float(v) for v in light[3:])
    data = bpy.data.lights.new("sun", "SUN")
    data.energy, data.angle = strength, _SUN_RAD
    sun = bpy.data.objects.new("sun", data)
    sun.rotation_mode = "QUATERNION"
    sun.rotation_quaternion = Vector(direction.tolist()).to_track_quat("-Z", "Y")
    scene.collection.objects.link(sun)
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    background.inputs["Strength"].default_value = ambient
    scene.world = world


def _set_renderer(scene: Any, samples: int, seed: int) -> None:
    scene.render.engine = "CYCLES"
    scene.render.film_transparent = True
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_mode, scene.render.image_settings.color_depth = "RGBA", "32"
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.seed = "CPU", samples, seed % 2**31
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = False
    cycles.max_bounces = cycles.diffuse_bounces = _BOUNCES
    # A pixel shows what lies within it, and nothing of its neighbours.
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 1.0


def _show_who_is_where(scene: Any, people: Sequence[Any]) -> None:
    """From now on people shine with their number and their distance, and the middle of each pixel is looked at alone."""
    material = _material("who", "ShaderNodeEmission")
    tree = material.node_tree
    joined, who, eye = (tree.nodes.new(f"ShaderNode{kind}") for kind in ("CombineXYZ", "ObjectInfo", "CameraData"))
    tree.links.new(who.outputs["Object Index"], joined.inputs["X"])
    tree.links.new(eye.outputs["View Z Depth"], joined.inputs["Y"])
    tree.links.new(joined.outputs[0], tree.nodes["shader"].inputs["Color"])
    for person in people:
        person.data.materials[0] = material
    scene.cycles.samples, scene.cycles.filter_width, scene.cycles.max_bounces = 1, 0.01, 0


def _rendered(scene: Any, width: int, height: int) -> np.ndarray:
    """The linear pixels of the scene (h, w, 4), top row first, colours multiplied by alpha."""
    import bpy

    scene.render.resolution_x, scene.render.resolution_y = width, height
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.exr"
        scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(str(path))
        pixels = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(pixels)
        bpy.data.images.remove(image)
    return pixels.reshape(height, width, 4)[::-1]


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType], which takes them for options
    _write(path, file.getvalue())


def _write(path: Path, content: bytes) -> None:
    """All of a file at once: who looks for it finds it whole."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
