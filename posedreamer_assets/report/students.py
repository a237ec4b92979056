"""The report's section "What the data is worth", from `hmr_benchmark`."""

from collections.abc import Mapping, Sequence
from typing import Any

from posedreamer_assets.report import plots
from posedreamer_assets.report.html import Note, Plots, Section, Table
from posedreamer_assets.report.reading import result_of
from posedreamer_assets.runtime.freshness import Snapshot

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
_SAID = (
    "What this cannot say: how students do on photographs; what a larger or fine-tuned student would make of the same data; "
    "and, with one draw, anything of other data than this very set. Draws count as further seeds, so that intervals are too "
    "narrow for what other draws would give. The backbone has learnt from renders, which may favour them."
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
    blocks: list[Any] = [*_exchange(figures), *_contrasts(figures), *_cells(figures), *_families(figures)]
    times = f"{figures['seeds']} seeds x {figures['draws']} draws of each recipe"
    seen = f"{times}; every student has seen {figures['samples_seen']:,} samples"
    blocks.append(Note(f"{seen} and starts from {figures['init']}. {_SAID}"))
    return Section(TITLE, blocks, _POCKET if pocket else _LARGE)


def _exchange(figures: Mapping[str, Any]) -> list[Any]:
    """Rendered images that one image of each recipe is worth."""
    if not figures["exchange"]:
        return []
    sets = list(figures["test_sets"])
    rows = [[recipe, *(_rate(of[name]) for name in sets)] for recipe, of in figures["exchange"].items()]
    caption = (
        "How many rendered images one image is worth: n* / n, where n* renders reach the same error. 1 is as good as a render. "
        "In brackets: 95 % over seeds and images; a star: n* lies beyond the sizes trained, and is drawn on by a factor of "
        "four at most."
    )
    return [Table(("exchange rate", *sets), rows, caption=caption)]


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
    for metric in dict.fromkeys(one["metric"] for one in contrasts):
        own = [one for one in contrasts if one["metric"] == metric]
        lines = {f"{one['name']}, {name}": result for one in own for name, result in one["sets"].items()}
        found.append(plots.forest(lines, title="Contrasts", label=f"difference of {_name(metric)}, mm"))
    return found


def _name(metric: str) -> str:
    """`pa_pve_mm` as papers write it: PA-PVE."""
    return metric.removesuffix("_mm").upper().replace("_", "-")


def _cells(figures: Mapping[str, Any]) -> list[Any]:
    sets = list(figures["test_sets"])
    rows = []
    for recipe, about in figures["recipes"].items():
        cells = [_cell(figures["cells"][recipe][name]["pve_mm"]) for name in sets]
        rows.append(
            [recipe, about["images"], *cells, _cell(figures["cells"][recipe][sets[0]]["pa_mpjpe_mm"]), about["paper"]]
        )
    for name, words in (("constant", "always the upright mean body"), ("floor", "the truth with hands at rest")):
        rows.append([words, "", *(f"{figures['cells'][name][s]['pve_mm']['mean']:.0f}" for s in sets), "", ""])
    count = ", ".join(f"{name} {n}" for name, n in figures["test_sets"].items())
    caption = (
        f"PVE in millimetres (last but one: PA-MPJPE on {sets[0]}), mean and 95 % over seeds and images. Images: {count}. The "
        "paper's numbers are of another body, student and test set, and not to be compared with these."
    )
    return [Table(("recipe", "images", *sets, "PA-MPJPE", "paper"), rows, caption=caption)]


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
            caption=f"On {next(iter(figures['test_sets']))}; no intervals, so look, do not conclude.",
        )
    ]
