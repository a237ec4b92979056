"""What Dagster's pages show of an asset: columns with units, their lineage, where the rows and the pages about them lie.

All of it comes from the stage's description. Figures have one name at every materialisation, so that Dagster plots them
over partitions and time.
"""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from posedreamer_assets.config import Profile
from posedreamer_assets.pipeline import Graph, Stage
from posedreamer_assets.runtime.home import Home
from posedreamer_assets.tables.fields import BOOKKEEPING, columns_of, type_name

if TYPE_CHECKING:
    import numpy as np

    from posedreamer_assets.storage import CheckpointInfo, LanceStore

THUMBNAIL_BYTES = 60_000  # inline pictures go into the event log
_NAMED = 4  # columns of one table that are named one by one
_NOT_CARRIED = ("skipped",)


def definition_metadata(stage: Stage) -> dict[str, Any]:
    """What is known of an asset before it is made: its table and columns."""
    if stage.table is None:
        return {}
    return {"dagster/table_name": stage.table, "dagster/column_schema": column_schema(stage)}


def column_schema(stage: Stage) -> dg.TableSchema:
    """The columns of an asset's table with types and meanings, and what they come from."""
    assert stage.table is not None, "only tables have columns"
    origins = stage.origins(Profile())
    own = {column.name for column in BOOKKEEPING}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type_name(column.type),
                f"{column.meaning} {_origin_text(origins.get(column.name, ()))}".rstrip(),
                constraints=dg.TableColumnConstraints(
                    nullable=not column.required and column.name not in own, unique=column.name == "sample_id"
                ),
            )
            for column in columns_of(stage.table)
        ]
    )


def _origin_text(found: Sequence[tuple[str, str]]) -> str:
    """Origins in words, "" where there are none: the open-source UI keeps lineage of columns but does not draw it."""
    by_table = {name: [c for t, c in found if t == name] for name in dict.fromkeys(t for t, _ in found)}
    parts = [
        f"{name} ({', '.join(columns) if len(columns) <= _NAMED else f'{len(columns)} columns'})"
        for name, columns in by_table.items()
    ]
    return f"From {'; '.join(parts)}." if parts else ""


def column_lineage(graph: Graph, stage: Stage, profile: Profile) -> dg.TableColumnLineage | None:
    """The columns' origins, by the assets that write them; None where no column has one."""
    groups: dict[str, tuple[str, ...]] = {}
    for reads in stage.under(stage, profile).reads:
        groups[reads.table] = (*groups.get(reads.table, ()), *(reads.groups or stage.groups))
    found = {
        column: [
            dg.TableColumnDep(dg.AssetKey(writer.key.split("/")), name)
            for table, name in origin
            for writer in graph.writers(table, groups.get(table, stage.groups))
        ]
        for column, origin in stage.origins(profile).items()
    }
    return dg.TableColumnLineage(found) if found else None


def places(
    stage: Stage,
    key: str | None,
    home: Home,
    store: "LanceStore",
    graph: Graph,
    profile: Profile,
    checkpoint: "CheckpointInfo | None" = None,
) -> dict[str, Any]:
    """Where a result lies, where its columns come from, and the pages about it."""
    found: dict[str, Any] = {
        "data_docs": page_link(home, f"checks/{stage.stored_as}/{key or 'all'}.html"),
        "report": page_link(home, "reports/latest/report.html"),
    }
    if stage.table is not None:
        found["dagster/uri"] = store.uri(stage.table)
        found["gallery"] = dg.MetadataValue.md(f"`posedreamer view {stage.table}{f' {key}' if key else ''}`")
        lineage = column_lineage(graph, stage, profile)
        if lineage is not None:
            found["dagster/column_lineage"] = lineage
    elif checkpoint is not None:
        found["dagster/uri"] = f"{store.root}/{checkpoint.place}"
    return found


def page_link(home: Home, page: str) -> dg.MetadataValue:
    """A link to a page of the home: over HTTP where `posedreamer dev` serves it, else its path, to be copied."""
    served = home.pages_url()
    return dg.MetadataValue.url(f"{served}/{page}") if served else dg.MetadataValue.path(home.path / page)


def plain(value: Any) -> Any:
    """A value as Dagster's metadata takes it."""
    if isinstance(value, (dict, list, tuple)):
        return dg.MetadataValue.json(value)
    return value if isinstance(value, (str, int, float, bool, dg.MetadataValue)) else str(value)


def contact_sheet_markdown(images: "np.ndarray", columns: int = 6, most: int = 12) -> str:
    """Up to `most` images (n, h, w, 3) side by side as an inline JPEG of at most THUMBNAIL_BYTES."""
    import numpy as np
    from PIL import Image

    shown = images[:most]
    columns = min(columns, len(shown))
    blank = np.full_like(shown[0], 255)
    filled = [*shown, *[blank] * (-len(shown) % columns)]
    sheet = np.concatenate(
        [np.concatenate(filled[i : i + columns], axis=1) for i in range(0, len(filled), columns)], axis=0
    )
    picture = Image.fromarray(sheet)
    picture.thumbnail((768, 768))
    for quality in (85, 70, 50, 30):
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=quality)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        if len(encoded) <= THUMBNAIL_BYTES:
            break
    else:
        return "(no thumbnails: they would take more than 60 kB)"
    return f"![samples](data:image/jpeg;base64,{encoded})"


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
