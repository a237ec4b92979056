"""The pages of the data checks in a home, from what the store knows."""

from pathlib import Path
from typing import TYPE_CHECKING

from posedreamer_assets.checks.model import CheckOutcome
from posedreamer_assets.checks.pages import PageRow, page_of, write_page, write_site
from posedreamer_assets.runtime.outcomes import Known, full_records, known_outcomes

if TYPE_CHECKING:
    from posedreamer_assets.pipeline import Stage
    from posedreamer_assets.runtime.checking import Checked
    from posedreamer_assets.runtime.home import Home
    from posedreamer_assets.storage import LanceStore


def page_of_stage(home: "Home", stage: "Stage", key: str | None) -> Path:
    """Where the page of a partition, or of an unpartitioned stage, is."""
    return page_of(home.checks, stage.stored_as, key)


def show_checked(home: "Home", store: "LanceStore", stage: "Stage", key: str | None, checked: "Checked") -> Path:
    """Write the page of what was checked just now, and those above it; returns the former."""
    known = known_outcomes(store)
    own = known[stage.stored_as, key]
    page = write_page(home.checks, _row(own), own.content, checked.outcomes, checked.pictures)
    write_site(home.checks, [_row(one) for one in known.values()], [stage.stored_as])
    return page


def write_all(home: "Home", store: "LanceStore") -> Path:
    """Write the whole site from the store's records, without pictures; returns its first page."""
    known = known_outcomes(store)
    for record in full_records(store):
        outcomes = [CheckOutcome(**{**o, "failing_ids": tuple(o["failing_ids"])}) for o in record["outcomes"]]
        row = _row(known[record["checked"], record["key"]])
        write_page(home.checks, row, record["content"], outcomes, {})
    return write_site(home.checks, [_row(one) for one in known.values()])


def _row(known: Known) -> PageRow:
    return PageRow(known.checked, known.key, known.failed, known.warned, known.rows, known.checks, known.time)
