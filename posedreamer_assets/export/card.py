"""What lies beside an export: a dataset card (README.md) and Croissant's JSON-LD (croissant.json).

Both are made from the rows that were written and from what made them; equal exports have equal texts.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.export.parquet import SCHEMA as PARQUET_SCHEMA
from posedreamer_assets.export.shards import File, Format, Result
from posedreamer_assets.tables.rows import array, texts

_TITLE = "PoseDreamer dataset"
_ABOUT = "Images of people with the SMPL-X bodies that they were generated from, cameras and keypoints"
_CARD = """\
---
{front}---
# {title}

{about}. Written as: {form}.

## Contents

{samples} images of {sizes}. Splits: {splits}. Checksums are in `SHA256SUMS` (`sha256sum -c SHA256SUMS`), a
machine-readable description in `croissant.json`. What each format's conventions are (frames, pivot, hands, pixels) is
in the project's `docs/exports.md`.

## How it was made

The body came first: a pose and a camera were chosen, the body was drawn as a control image, a diffusion model painted a
person over it, and the image was kept if a keypoint detector found the body's pose in it. So a label is exact about the
body that was asked for; how well the image shows it is what the OKS below measures.

| | |
|---|---|
{provenance}

## Licences

| poses from | samples |
|---|---|
{licences}

Labels are parameters of the body model named above; they do not transfer to another one, and its licence covers their
use with it. Images are output of the generator named above; see its licence for what they may be used for.

## Statistics

| | |
|---|---|
{statistics}

## Intended use

Training and ablation of human mesh recovery and of keypoint detectors, beside real images or alone. Splits are fixed by
a hash of the sample's id: keep them, so that results compare.

## Known limits

* One person is labelled in each image. No person in the images exists; no image shows a real person on purpose, but a generator
  that learnt from photographs may come near to one.
* Hands and faces are labelled as they were asked for. The filter looks at the body's 17 keypoints, the head and the
  number of people, not at fingers and expression, which generators often get wrong.
* Clothes and hair are the generator's: the silhouette of the person is larger than the body's.
* Depth order of limbs can be wrong where two poses look alike from the front; the filter sees the image plane only.
* Variety is that of the pose sources, captions and generator; skin tones, body shapes and places are not balanced
  against any population. Measure before using it to judge people.
* Rows were chosen by a detector: what it cannot see is missing, which biases the set towards poses it knows.
"""


def describe(form: Format, result: Result, provenance: Mapping[str, str]) -> dict[str, str]:
    """The texts to write, by file name.

    Args:
        form: of the export.
        result: of the export.
        provenance: what made the rows, by name: profile, body, generator and so on.
    """
    return {
        "README.md": _card(form, result, provenance),
        "croissant.json": json.dumps(_croissant(form, result), indent=1, ensure_ascii=False) + "\n",
    }


def statistics(index: pa.Table) -> dict[str, str]:
    """Counts and spreads of the rows, by name."""
    bbox, size = array(index, "bbox"), array(index, "height")
    found = {
        "rounds": _counts(texts(index, "round")),
        "sources": _counts(texts(index, "source")),
        "families or clips": _counts(texts(index, "family"), most=12),
        "OKS of the judging detector": _spread(array(index, "oks"), 3),
        "camera pitch, degrees (positive looks down)": _spread(array(index, "cam_pitch_deg"), 1),
        "focal length / image height": _spread(array(index, "focal_px") / size, 2),
        "body height / image height": _spread(bbox[:, 3] / size, 2),
        "visible keypoints of 17": _spread(array(index, "keypoints_visible").sum(axis=1), 1),
    }
    return found


def _card(form: Format, result: Result, provenance: Mapping[str, str]) -> str:
    index = result.index
    sizes = Counter(zip(index.column("width").to_pylist(), index.column("height").to_pylist(), strict=True))
    return _CARD.format(
        front=_front_matter(form, result),
        title=_TITLE,
        about=_ABOUT,
        form=form.title,
        samples=result.samples,
        sizes=" and ".join(f"{w} x {h}" for (w, h), _ in sizes.most_common()) + " pixels",
        splits=_counts(texts(index, "split")),
        provenance=_rows(provenance),
        licences=_rows({k: str(v) for k, v in sorted(Counter(texts(index, "licence")).items())}),
        statistics=_rows(statistics(index)),
    )


def _front_matter(form: Format, result: Result) -> str:
    lines = ["pretty_name: PoseDreamer dataset", "license: other", "task_categories:", "- keypoint-detection"]
    if form.name == "parquet":
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split in sorted(set(texts(result.index, "split"))):
            # `datasets` knows "validation", not "val", as the usual name.
            name = "validation" if split == "val" else split
            lines += [f"  - split: {name}", f"    path: data/{split}-*.parquet"]
    return "\n".join(lines) + "\n"


def _counts(values: list[str], most: int | None = None) -> str:
    counted = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{name or 'unnamed'} {count}" for name, count in counted[:most])
    return shown if most is None or len(counted) <= most else f"{shown}, and {len(counted) - most} more"


def _spread(values: np.ndarray, digits: int) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "not known"
    low, middle, high = np.quantile(known, [0.05, 0.5, 0.95])
    return f"median {middle:.{digits}f}, 5 to 95 % {low:.{digits}f} to {high:.{digits}f}"


def _rows(pairs: Mapping[str, str]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in pairs.items())


# Croissant

_ENCODINGS = {
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
    ".npz": "application/zip",
    ".json": "application/json",
}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_DATA_TYPES = {
    "string": "sc:Text",
    "float": "sc:Float",
    "bool": "sc:Boolean",
    "int32": "sc:Integer",
    "int64": "sc:Integer",
}


def _croissant(form: Format, result: Result) -> dict[str, Any]:
    licences = sorted(set(texts(result.index, "licence")))
    page: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "posedreamer-dataset",
        "description": f"{_ABOUT}: {result.samples} samples, {form.title}.",
        "license": licences,
        "url": ".",
        "version": "1.0.0",
        "isLiveDataset": False,
        "rai:dataCollection": "Bodies and cameras were chosen, images generated over renders of them, and filtered by a "
        "keypoint detector.",
        "rai:dataUseCases": "Training and ablation of human mesh recovery and keypoint detection.",
        "rai:personalSensitiveInformation": "None: no person in the images exists.",
        "distribution": [*_file_objects(result), *_file_sets(form, result)],
    }
    if form.name == "parquet":
        page["recordSet"] = [_record_set()]
    return page


def _file_objects(result: Result) -> list[dict[str, Any]]:
    """Every file but those that come one per sample, which are described as sets."""
    return [_file_object(f) for f in result.files if not f.path.startswith(("images/", "labels/"))]


def _file_object(file: File) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": next(kind for suffix, kind in _ENCODINGS.items() if file.path.endswith(suffix)),
        "sha256": file.sha256,
    }


def _file_sets(form: Format, result: Result) -> list[dict[str, Any]]:
    if form.name == "parquet":
        return [_file_set("parquet-files", "application/x-parquet", "data/*.parquet")]
    sets = []
    for suffix, kind in ((".png", "image/png"), (".jpg", "image/jpeg")):
        if any(f.path.startswith("images/") and f.path.endswith(suffix) for f in result.files):
            sets.append(_file_set(f"images{suffix}", kind, f"images/**/*{suffix}"))
    if any(f.path.startswith("labels/") for f in result.files):
        sets.append(_file_set("labels", "application/json", "labels/**/*.json"))
    return sets


def _file_set(name: str, kind: str, includes: str) -> dict[str, Any]:
    return {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": kind, "includes": includes}


def _record_set() -> dict[str, Any]:
    fields = []
    for column in PARQUET_SCHEMA:
        listed = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type)
        kind = "sc:ImageObject" if column.name == "image" else None
        kind = kind or _DATA_TYPES[str(column.type.value_type if listed else column.type)]
        field: dict[str, Any] = {
            "@type": "cr:Field",
            "@id": f"samples/{column.name}",
            "name": column.name,
            "dataType": kind,
            "source": {"fileSet": {"@id": "parquet-files"}, "extract": {"column": column.name}},
        }
        if listed:
            field["repeated"] = True
        if column.name == "image":
            field["source"]["transform"] = {"jsonPath": "bytes"}
        fields.append(field)
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "key": {"@id": "samples/sample_id"},
        "field": fields,
    }
