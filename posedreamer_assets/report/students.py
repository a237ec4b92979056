"""The report's section "What the data is worth", from `hmr_benchmark`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posedreamer_assets.pipeline.hmr_benchmark import MISSED, unit_of
from posedreamer_assets.report import plots
from posedreamer_assets.report.html import Note, Plots, Section, Table
from posedreamer_assets.report.reading import result_of
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.students.archs import POSE_HEAD
from posedreamer_assets.tables.keys import BENCH_LOOKS, BENCH_USER

TITLE = "What the data is worth"
_KEY = "hmr_benchmark"
_POCKET = (
    "The pocket generator has learnt from this project's own renders alone, so its images can hardly be worth more than those: "
    "this section shows that the instrument tells sizes, domains and chance apart, and says nothing of photographs."
)
_LARGE = (
    "Errors of students trained on each recipe, on test images that share nothing with training; read a test set together with "
    "its twin, because renders favour renders and generated images favour generated ones."
)
_NAMES = {
    "orient_deg": "root, degrees",
    "body_angle_deg": "joints' angles",
    MISSED: "keypoints missed at 0.1",
    "pck05": "PCK@0.05",
    "pck10": "PCK@0.1",
    "pck10_aligned": "PCK@0.1 aligned",
}
_OF_USER_SETS = ("pve_mm", "mpjpe_mm", "pa_mpjpe_mm", "orient_deg", "body_angle_deg", "pck05", "pck10", "pck10_aligned")
_DRAWS = (
    "and, with one draw, anything of other data than this very set. Draws count as further seeds, so that intervals are too "
    "narrow for what other draws would give."
)
_SAID = (
    "What this cannot say: how students do on photographs; what a larger or fine-tuned student would make of the same data; "
    f"{_DRAWS} The backbone has learnt from renders, which may favour them."
)
_SAID_OF_IMAGES = (
    f"What this cannot say: how students do on photographs, where no test set of the user has any; {_DRAWS} What the backbone "
    "has learnt from before may favour some data."
)


def students_section(snapshot: Snapshot) -> Section | None:
    """The section; None where no study was made."""
    if _KEY not in {stage.key for stage in snapshot.graph}:
        return None
    found = result_of(snapshot, _KEY)
    if found is None:
        return None
    return section_of(found.metrics, pocket=snapshot.profile.generator.backend == "pocket")


def section_of(figures: Mapping[str, Any], *, pocket: bool) -> Section:
    """The section from the figures of a study."""
    blocks: list[Any] = [*_exchange(figures), *_contrasts(figures), *_cells(figures), *_user_sets(figures)]
    blocks += _families(figures)
    times = f"{figures['seeds']} seeds x {figures['draws']} draws of each recipe"
    seen = f"{times}; every student has seen {figures['samples_seen']:,} samples"
    arch = figures.get("arch", POSE_HEAD)  # figures of former releases have none
    said, student = (_SAID, "") if arch == POSE_HEAD else (_SAID_OF_IMAGES, f", is a {arch}")
    blocks.append(Note(f"{seen}{student} and starts from {figures['init']}. {said}"))
    return Section(TITLE, blocks, _POCKET if pocket else _LARGE)


def _exchange(figures: Mapping[str, Any]) -> list[Any]:
    """Rendered images that one image of each recipe is worth."""
    if not figures["exchange"]:
        return []
    sets = _looks_first(next(iter(figures["exchange"].values())))
    rows = [[recipe, *(_rate(of[name]) for name in sets)] for recipe, of in figures["exchange"].items()]
    caption = (
        "How many rendered images one image is worth: n* / n, where n* renders reach the same error. 1 is as good as a render. "
        "In brackets: 95 % over seeds and images; a star: n* lies beyond the sizes trained, and is drawn on by a factor of "
        "four at most."
    )
    return [Table(("exchange rate", *sets), rows, caption=caption)]


def _looks_first(names: Iterable[str]) -> list[str]:
    """Test sets with the primary one first, whatever order they were stored in."""
    return sorted(names, key=lambda name: (name != BENCH_LOOKS, name))


def _rate(rate: Mapping[str, Any]) -> str:
    low = "at most " if rate["value"] <= rate["least"] * 1.001 else ""
    high = "at least " if rate["value"] >= rate["most"] * 0.999 else ""
    star = "*" if rate["drawn_on"] else ""
    return f"{low}{high}{rate['value']:.2f}{star} [{rate['low']:.2f}, {rate['high']:.2f}]"


def _contrasts(figures: Mapping[str, Any]) -> list[Any]:
    both = [*figures["primary"], *figures["exploratory"]]
    if not both:
        return []
    rows = []
    for one in both:
        result = one["sets"][one["test"]]
        adjusted = f"{one['p_holm']:.3f}" if "p_holm" in one else "not tested"
        interval = f"{result['mean']:+.1f} [{result['low']:+.1f}, {result['high']:+.1f}]"
        seen = f"{result['detectable']:.1f}"
        rows.append([one["name"], one["test"], _name(one["metric"]), interval, seen, adjusted, result["words"]])
    caption = (
        "Error of the first recipe minus that of the second, millimetres; less than zero: the first is better. Seeds and images "
        "are resampled together; intervals are without correction. p: Holm's, over the primary contrasts on their own test sets; "
        "only those are tested."
    )
    heads = ("contrast", "test set", "error", "difference", "smallest seen", "p", "in words")
    return [Plots(_forests(both)), Table(heads, rows, caption=caption)]


def _forests(contrasts: Sequence[Mapping[str, Any]]) -> list[plots.Plot]:
    """A plot for each error that is compared."""
    found = []
    results = [(f"{one['name']}, {name}", one["sets"][name]) for one in contrasts for name in _looks_first(one["sets"])]
    for metric in dict.fromkeys(of["metric"] for _, of in results):
        lines = {name: of for name, of in results if of["metric"] == metric}
        label = f"difference of {_name(metric)}, {unit_of(metric)}"
        found.append(plots.forest(lines, title="Contrasts", label=label))
    return found


def _name(metric: str) -> str:
    """`pa_pve_mm` as papers write it: PA-PVE."""
    if metric in _NAMES:
        return _NAMES[metric]
    return metric.removesuffix("_mm").upper().replace("_", "-")


def _user_sets(figures: Mapping[str, Any]) -> list[Any]:
    """A table for each test set of the user's files, with what its labels tell."""
    found = []
    for name, count in figures["test_sets"].items():
        if not name.startswith(f"{BENCH_USER}-"):
            continue
        of_recipes = {recipe: figures["cells"][recipe][name] for recipe in figures["recipes"]}
        known = [one for one in _OF_USER_SETS if all(one in cells for cells in of_recipes.values())]
        rows = [[recipe, *(_of_user_set(one, cells[one]) for one in known)] for recipe, cells in of_recipes.items()]
        caption = (
            f"{count} people of the user's own files, mean and 95 % over seeds and images; not primary unless the study says so. "
            "Joints and angles are those of the file's body, which differs from this home's unless PVE is given. PCK: share of "
            "labelled keypoints within that part of the box's longer side; aligned: after the best shift and scale."
        )
        found.append(Table((name, *(_name(one) for one in known)), rows, caption=caption))
    return found


def _of_user_set(metric: str, cell: Mapping[str, Any]) -> str:
    low, high = cell["ci95"]
    digits = 3 if metric.startswith("pck") else 0 if metric.endswith("_mm") else 1
    return f"{cell['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _cells(figures: Mapping[str, Any]) -> list[Any]:
    sets = _looks_first(name for name in figures["test_sets"] if not name.startswith(f"{BENCH_USER}-"))
    papers = {recipe: about["paper"] for recipe, about in figures["recipes"].items()}
    paper = ["paper"] if any(papers.values()) else []
    rows = []
    for recipe, about in figures["recipes"].items():
        cells = figures["cells"][recipe]
        errors = [_cell(cells[name]["pve_mm"]) for name in sets]
        rows.append(
            [recipe, about["images"], *errors, _cell(cells[sets[0]]["pa_mpjpe_mm"]), *(papers[recipe] for _ in paper)]
        )
    for name, words in (("constant", "always the upright mean body"), ("floor", "the truth with hands at rest")):
        means = (f"{figures['cells'][name][s]['pve_mm']['mean']:.0f}" for s in sets)
        rows.append([words, "", *means, "", *("" for _ in paper)])
    count = ", ".join(f"{name} {figures['test_sets'][name]}" for name in sets)
    caption = (
        f"PVE in millimetres, beside it PA-MPJPE on {sets[0]}; mean and 95 % over seeds and images. Images: {count}."
    )
    if paper:
        caption += " The paper's numbers are of another body, student and test set, and not to be compared with these."
    return [Table(("recipe", "images", *sets, "PA-MPJPE", *paper), rows, caption=caption)]


def _cell(cell: Mapping[str, Any]) -> str:
    low, high = cell["ci95"]
    return f"{cell['mean']:.0f} [{low:.0f}, {high:.0f}]"


def _families(figures: Mapping[str, Any]) -> list[Any]:
    """Mean error by family: a filter or a mining round moves error from one to another."""
    recipes = list(figures["recipes"])
    families = sorted({family for name in recipes for family in figures["families"][name]})
    rows = [[f, *(f"{figures['families'][name].get(f, float('nan')):.0f}" for name in recipes)] for f in families]
    return [
        Table(
            ("PVE by family, mm", *recipes),
            rows,
            caption=f"On {_looks_first(figures['test_sets'])[0]}; no intervals, so look, do not conclude.",
        )
    ]
