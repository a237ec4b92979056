"""The house: which packages import which, how long files are, and how much lies at the root."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import posedreamer_assets

ROOT = Path(posedreamer_assets.__file__).parent
NAME = ROOT.name
DOMAIN = (
    "body", "cameras", "poses", "render", "diffusion", "scoring", "curriculum", "metrics", "training", "pocket", "export",
    "scenes", "students", "people2d", "engine",
)  # fmt: skip
NOT_FOR_DOMAINS = {
    "dagster",
    "lance",
    f"{NAME}.defs",
    f"{NAME}.pipeline",
    f"{NAME}.runtime",
    f"{NAME}.cli",
    f"{NAME}.report",
}
AT_RANDOM = {"export/torch.py"}  # reads tables itself: random access is what it is for
MODULES = sorted(ROOT.rglob("*.py"))
# Names that several packages may have: what the word means is the same, of what it is said differs by package.
SHARED_NAMES = {
    "augment": "of a student's samples, of the pocket models' images",
    "crops": "of people for detectors, of pictures for the 2D student",
    "columns": "what a table has, what a stored table lacks, what an npz grows by",
    "crowds": "cameras above many people, checks of scenes with many",
    "draw": "poses at random, pixels",
    "features": "of images for FID, of images for students",
    "folder": "that poses are read from, that an export writes",
    "generator": "the protocol of what paints, and one behind an engine",
    "hub": "where models come from, where a dataset is published",
    "labels": "of scenes, of students, in files of data sets, and their checks",
    "memory": "of a process, of a GPU",
    "model": "of a body, of a check",
    "networks": "of each family of models",
    "people": "who are counted, who stand in a scene, who are in a file",
    "predict": "by students in 3D, in 2D",
    "reading": "of tables, of what a report shows",
    "rows": "to arrays and back, under test",
    "run": "the command, an export",
    "samples": "of an export, in a report",
    "scenes": "drawn, exported, reported on, learnt from",
    "shards": "of an export, of training data",
    "students": "their checks, their report",
    "upkeep": "of tables, of a store",
}


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Every statement, those of functions as well, but not what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (inner for one in node.orelse for inner in (one, *statements(one)))
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from statements(node)


def imports(path: Path) -> set[str]:
    """Full names of the modules that a module imports, at the top or when a function is called."""
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in below if is_module(name)}
            found |= modules or {node.module}
    return found


def is_module(name: str) -> bool:
    place = ROOT.parent.joinpath(*name.split("."))
    return name.startswith(f"{NAME}.") and (place.is_dir() or place.with_suffix(".py").exists())


def package_of(module: str) -> str | None:
    """The folder below the root that a module of this project lies in, or the module's own name where it lies in none."""
    parts = module.split(".")
    return parts[1] if parts[0] == NAME and len(parts) > 1 else None


def package_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts == ("__init__",):
            continue
        others = {package for name in imports(path) if (package := package_of(name))}
        graph.setdefault(parts[0], set()).update(others - {parts[0]})
    return graph


def test_the_graph_of_imports_is_seen() -> None:
    graph = package_graph()
    assert {"config", "storage", "tables"} <= graph["pipeline"] | graph["runtime"]
    assert "pipeline" in graph["runtime"] and "runtime" in graph["defs"] and "defs" in graph["cli"]


def test_no_package_imports_another_in_a_circle() -> None:
    try:
        order = tuple(TopologicalSorter(package_graph()).static_order())
    except CycleError as error:
        raise AssertionError(f"a circle: {' <- '.join(error.args[1])}") from error
    assert order.index("tables") < order.index("pipeline") < order.index("runtime") < order.index("defs")


@pytest.mark.parametrize("package", [name for name in DOMAIN if (ROOT / name).is_dir()])
def test_a_domain_package_knows_neither_the_pipeline_nor_dagster_nor_lance(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if str(path.relative_to(ROOT)) in AT_RANDOM:
            continue
        for name in imports(path):
            parts = name.split(".")
            assert not {parts[0], ".".join(parts[:2])} & NOT_FOR_DOMAINS, f"{path.relative_to(ROOT)} imports {name}"


def test_the_storage_alone_imports_lance() -> None:
    users = {p.relative_to(ROOT) for p in MODULES if any(n.split(".")[0] == "lance" for n in imports(p))}
    assert {path.parts[0] for path in users} == {"storage"}


def test_dagster_is_known_to_its_own_folder_and_the_command_line_alone() -> None:
    users = {p.relative_to(ROOT).parts[0] for p in MODULES if any(n.split(".")[0] == "dagster" for n in imports(p))}
    assert users <= {"defs", "cli", "definitions.py"}


def test_the_root_holds_at_most_ten_modules() -> None:
    assert len([path for path in ROOT.glob("*.py") if path.name != "__init__.py"]) <= 10


def test_a_module_name_stands_twice_for_a_reason_alone() -> None:
    names = [path.stem for path in MODULES if path.stem != "__init__"]
    assert {name for name in names if names.count(name) > 1} == set(SHARED_NAMES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_at_most_four_hundred_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
