"""All formats by name."""

from posedreamer_assets.export.bedlam import BEDLAM
from posedreamer_assets.export.coco import COCO
from posedreamer_assets.export.folder import FOLDER
from posedreamer_assets.export.hmr2 import HMR2
from posedreamer_assets.export.humandata import HUMANDATA
from posedreamer_assets.export.parquet import PARQUET
from posedreamer_assets.export.shards import Format
from posedreamer_assets.export.yolo import YOLO

FORMATS: dict[str, Format] = {form.name: form for form in (HUMANDATA, HMR2, BEDLAM, COCO, PARQUET, FOLDER, YOLO)}
