"""Forward kinematics straight from a BVH's text: naive, one frame and one joint at a time, nothing shared with the reader."""

import math
from pathlib import Path

import numpy as np


def _turn(axis: str, degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return {
        "X": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "Y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "Z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


def positions(path: Path) -> dict[str, np.ndarray]:
    """World positions (frames, 3) of every joint by name, end sites as `<parent>_end`, in the file's axes and units."""
    words = path.read_text().split()
    joints: list[tuple[str, int, list[float], list[str]]] = []
    stack: list[int] = []
    i = 1
    while words[i] != "MOTION":
        if words[i] in ("ROOT", "JOINT", "End"):
            start = i + 1
            while words[i] != "{":
                i += 1
            name = " ".join(words[start:i]) if words[start - 1] != "End" else f"{joints[stack[-1]][0]}_end"
            joints.append((name, stack[-1] if stack else -1, [0.0] * 3, []))
            stack.append(len(joints) - 1)
        elif words[i] == "OFFSET":
            joints[stack[-1]][2][:] = [float(w) for w in words[i + 1 : i + 4]]
        elif words[i] == "CHANNELS":
            joints[stack[-1]][3].extend(words[i + 2 : i + 2 + int(words[i + 1])])
        elif words[i] == "}":
            stack.pop()
        i += 1
    numbers = [float(w) for w in words[words.index("Time:", i) + 2 :]]
    width = sum(len(channels) for *_, channels in joints)
    found: dict[str, list[np.ndarray]] = {name: [] for name, *_ in joints}
    for frame in range(len(numbers) // width):
        values = iter(numbers[frame * width : (frame + 1) * width])
        turned: list[np.ndarray] = []
        placed: list[np.ndarray] = []
        for name, parent, offset, channels in joints:
            local, rotation = np.array(offset), np.eye(3)
            for channel in channels:
                value = next(values)
                if channel.endswith("position"):
                    local["XYZ".index(channel[0])] = value
                else:
                    rotation = rotation @ _turn(channel[0], value)
            turned.append(rotation if parent < 0 else turned[parent] @ rotation)
            placed.append(local if parent < 0 else placed[parent] + turned[parent] @ local)
            found[name].append(placed[-1])
    return {name: np.array(rows) for name, rows in found.items()}
