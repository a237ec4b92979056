"""Data checks written like dbt's schema.yml, run by Great Expectations.

`dbt_like_checks/<table>.yml` lists the tests of each table. They are read, held against the table's schema, compiled to
an expectation suite and run on rows. See docs/checks.md for every kind of test.

files.py      reads the files; a mistake is named with file, line and what was expected
kinds.py      every kind of test: its arguments and what it needs
values.py     values that Great Expectations has no words for: vectors, JSON, content that repeats
pictures.py   images, and the maps of one sample against each other
labels.py     body, camera, joints and maps: recomputed from each other
stance.py     bodies as people: stature, ground, which way up
lineage.py    rows against the rows they were made from: labels, seeds, scores, verdicts
trends.py     a batch against the batches before it
suite.py      runs it all

Arguments common to all tests: `severity` (error or warn), `where` (rows it is about), `mostly` (share of values that
must pass), `name` and `description`. Nulls pass every test but `not_null`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posedreamer_assets.checks.files import (
        CHECKPOINT_ASSETS,
        checks_folder,
        load_checks,
        load_table_checks,
        mistakes,
        schema_of,
    )
    from posedreamer_assets.checks.kinds import KINDS, Kind
    from posedreamer_assets.checks.model import Around, CheckOutcome, DataCheck, Measured, TableChecks
    from posedreamer_assets.checks.suite import EXAMPLES, run_checks

_PLACES = {
    "files": ("CHECKPOINT_ASSETS", "checks_folder", "load_checks", "load_table_checks", "mistakes", "schema_of"),
    "kinds": ("KINDS", "Kind"),
    "model": ("Around", "CheckOutcome", "DataCheck", "Measured", "TableChecks"),
    "suite": ("EXAMPLES", "run_checks"),
}

__all__ = [
    "run_checks",
    "load_checks",
    "load_table_checks",
    "mistakes",
    "checks_folder",
    "schema_of",
    "Around",
    "CheckOutcome",
    "DataCheck",
    "Measured",
    "TableChecks",
    "KINDS",
    "Kind",
    "CHECKPOINT_ASSETS",
    "EXAMPLES",
]


def __getattr__(name: str) -> Any:
    """Names are found when they are asked for: reading check files stays light."""
    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(f"posedreamer_assets.checks.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
