"""Data docs: what checks found, as records and as a static site that works offline.

<home>/checks/
    index.html                   every asset: partitions checked, failures
    <table>/index.html           every partition of an asset
    <table>/<partition>.html     every check of a partition, with examples and pictures of failing samples
    <table>/<partition>.json     the same as data; a partition with a failed check of severity error is marked `bad`
"""

from posedreamer_assets.checks import CheckOutcome
from posedreamer_assets.home import Home


def record(home: Home, store: object, table: str, key: str | None, outcomes: list[CheckOutcome]) -> None:
    """Keep what checks found."""
