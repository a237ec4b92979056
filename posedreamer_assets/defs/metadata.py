"""What Dagster's pages show of an asset: columns with units, their lineage, where the rows and the pages about them lie.

Figures have one name at every materialisation, see `facts.py`, so that Dagster plots them over partitions and time.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from posedreamer_assets.checks.pages import page_of
from posedreamer_assets.defs.lineage import column_lineage, origin_text
from posedreamer_assets.pipeline.graph import Stage
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.columns import meaning, type_name
from posedreamer_assets.tables.fields import BOOKKEEPING, SCHEMAS

if TYPE_CHECKING:
    from posedreamer_assets.storage import CheckpointInfo, LanceStore

_NOT_CARRIED = ("skipped",)


def definition_metadata(stage: Stage) -> dict[str, Any]:
    """What is known of an asset before it is made: its table and columns."""
    if stage.table not in SCHEMAS:
        return {}
    return {"dagster/table_name": stage.table, "dagster/column_schema": column_schema(stage)}


def column_schema(stage: Stage) -> dg.TableSchema:
    """The columns of an asset's table with types and meanings, and what they come from."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                type_name(field.type),
                f"{meaning(stage.table, field.name)} {origin_text(stage.key, field.name)}".rstrip(),
                constraints=dg.TableColumnConstraints(nullable=field.nullable, unique=field.name == "sample_id"),
            )
            for field in (*SCHEMAS[stage.table], *BOOKKEEPING)
        ]
    )


def places(
    stage: Stage,
    key: str | None,
    home: Home,
    store: "LanceStore",
    checkpoint: "CheckpointInfo | None" = None,
    *,
    control: str = "control",
) -> dict[str, Any]:
    """Where a result lies, where its columns come from, and the pages about it.

    Pages are paths to copy: browsers do not follow links from a web page to files. `control` is the column of control maps
    that the generator is given.
    """
    report = home.reports / "latest" / "report.html"
    found: dict[str, Any] = {
        "data_docs": dg.MetadataValue.path(_docs(stage, key, home)),
        "report": dg.MetadataValue.path(report),
    }
    if stage.table in SCHEMAS:
        found["dagster/uri"] = store.uri(stage.table)
        found["gallery"] = dg.MetadataValue.md(f"`posedreamer view {stage.table}{f' {key}' if key else ''}`")
        lineage = column_lineage(stage.key, control)
        if lineage is not None:
            found["dagster/column_lineage"] = lineage
    elif checkpoint is not None:
        found["dagster/uri"] = f"{store.root}/{checkpoint.place}"
    return found


def _docs(stage: Stage, key: str | None, home: Home) -> Any:
    page = page_of(home, stage.table, key)
    return page.with_name("index.html") if stage.group is None and stage.table in SCHEMAS else page


def recorded_before(instance: dg.DagsterInstance, stage: Stage, key: str | None, digest: str) -> dict[str, Any]:
    """Metadata of the newest materialisation, where it was of these very rows: what is skipped keeps its figures.

    Empty where they were made under another instance.
    """
    asset = dg.AssetKey(stage.key.split("/"))
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=None if key is None else [key])
    found = instance.fetch_materializations(wanted, limit=1).records
    event = found[0].asset_materialization if found else None
    if event is None or event.metadata.get("digest") != dg.MetadataValue.text(digest):
        return {}
    return {name: value for name, value in event.metadata.items() if name not in _NOT_CARRIED}
