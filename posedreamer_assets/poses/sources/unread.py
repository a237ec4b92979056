"""Formats of motion and fits that are not read, and how to turn each into one that is. docs/poses.md has the commands."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

_PICKLED = "pickles are never loaded; write their arrays with numpy.savez"
_BLENDER = "import it in Blender and export BVH (bpy.ops.export_anim.bvh)"
_ARCHIVE = "unpack it, and give the folder that it was unpacked to"
_HOW = {
    ".pkl": _PICKLED,
    ".pickle": _PICKLED,
    ".pyd": _PICKLED,
    ".joblib": "a pickle: load it with joblib where you trust it, and write its arrays with numpy.savez",
    ".pt": "a pickle: load it with torch.load(weights_only=True), and write its tensors with numpy.savez",
    ".pth": "a pickle: load it with torch.load(weights_only=True), and write its tensors with numpy.savez",
    ".fbx": _BLENDER,
    ".glb": _BLENDER,
    ".gltf": _BLENDER,
    ".dae": _BLENDER,
    ".usd": _BLENDER,
    ".usdz": _BLENDER,
    ".blend": "open it in Blender and export BVH (bpy.ops.export_anim.bvh)",
    ".c3d": "marker positions: fit SMPL-X to them with MoSh++ or SOMA, which write AMASS npz",
    ".trc": "marker positions: fit SMPL-X to them with MoSh++ or SOMA, which write AMASS npz",
    ".mot": "joint angles of OpenSim: fit SMPL-X to its markers with MoSh++, or export BVH",
    ".amc": "with its .asf: amc2bvh, or Blender's ASF/AMC importer, and export BVH",
    ".asf": "the skeleton of .amc files: amc2bvh, or Blender's ASF/AMC importer, and export BVH",
    ".vmd": "MikuMikuDance motion: import it with its model in Blender (mmd_tools) and export BVH",
    ".htr": "import it in MotionBuilder and export BVH",
    ".h5": "write its arrays with numpy.savez under the names of docs/poses.md",
    ".hdf5": "write its arrays with numpy.savez under the names of docs/poses.md",
    ".mat": "load it with scipy.io.loadmat and write its arrays with numpy.savez",
    ".json": "write its numbers with numpy.savez under the names of docs/poses.md",
    ".zip": _ARCHIVE,
    ".gz": _ARCHIVE,
    ".tgz": _ARCHIVE,
    ".bz2": _ARCHIVE,
    ".xz": _ARCHIVE,
    ".7z": _ARCHIVE,
    ".rar": _ARCHIVE,
}
# Beside poses these are common and tell nothing of them.
_SILENT = frozenset((".json",))


def how_to_convert(suffix: str) -> str | None:
    """One line on how to turn files of this suffix into a kind that is read; None for one that holds no motion."""
    told = _HOW.get(suffix.lower())
    return f"{suffix.lower()} is not read: {told}" if told else None


def unread_formats(names: Iterable[str]) -> dict[str, int]:
    """How many of these files are in formats that hold motion but are not read, by suffix, most first."""
    suffixes = (PurePosixPath(name).suffix.lower() for name in names)
    return dict(Counter(s for s in suffixes if s in _HOW and s not in _SILENT).most_common())


def unread_lines(counts: dict[str, int]) -> list[str]:
    """One line for each suffix: how many files, and how to convert them."""
    return [f"{count} {'file' if count == 1 else 'files'}: {how_to_convert(s)}" for s, count in counts.items()]
