"""Croissant 1.0: files with checksums, and record sets that say how to read them.

Where Croissant can read a format (Parquet, JSON) a record set names its fields. It cannot read npz, nor what lies in the
files of a tar: there, pictures are records, and the description of the set of label files names their arrays.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from posedreamer_assets.export.licences import licences
from posedreamer_assets.export.parquet import SCHEMA as PARQUET_SCHEMA
from posedreamer_assets.export.shards import File, Format, Result

Page = dict[str, Any]

_ENCODINGS = {
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
    ".npz": "application/zip",
    ".json": "application/json",
    ".png": "image/png",
    ".jpg": "image/jpeg",
}
_UNKNOWN = "application/octet-stream"
_CONTEXT: Page = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {
    name: f"cr:{name}"
    for name in (
        *(
            "citeAs",
            "column",
            "equivalentProperty",
            "extract",
            "field",
            "fileProperty",
            "fileObject",
            "fileSet",
            "format",
        ),
        *(
            "includes",
            "isLiveDataset",
            "jsonPath",
            "key",
            "md5",
            "parentField",
            "path",
            "recordSet",
            "references",
            "regex",
        ),
        *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
    )
}
_DATA_TYPES = {
    "string": "sc:Text",
    "float": "sc:Float",
    "bool": "sc:Boolean",
    "int32": "sc:Integer",
    "int64": "sc:Integer",
}
# One file for each image: described as a set, and not each by itself.
_PER_IMAGE = (".png", ".jpg")


def croissant(form: Format, result: Result, description: str) -> Page:
    """The description of an export, to be written as JSON."""
    body = result.subject.identity
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "posedreamer-dataset",
        "description": f"{description} Body of the labels: {body.label}. Pixels: {form.pixels}.",
        "license": [f"{entry.covers}: {entry.licence}" for entry in licences(result.index, body)],
        "url": ".",
        "version": "1.0.0",
        "isLiveDataset": False,
        "rai:dataCollection": "Bodies and cameras were chosen, images generated over renders of them, and filtered by a "
        "keypoint detector.",
        "rai:dataUseCases": "Training and ablation of human mesh recovery and keypoint detection.",
        "rai:personalSensitiveInformation": "None: no person in the images exists.",
        "distribution": [*_file_objects(form, result), *_file_sets(form, result)],
        "recordSet": _RECORD_SETS.get(form.name, _images)(result),
    }


def _is_listed(form: Format, file: File) -> bool:
    return not file.path.endswith(_PER_IMAGE) and not form.labels.per_image


def _file_objects(form: Format, result: Result) -> list[Page]:
    """Every file but those that come one for each image, which are described as sets."""
    return [_file_object(f) for f in result.files if _is_listed(form, f)]


def _file_object(file: File) -> Page:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": _ENCODINGS.get(PurePosixPath(file.path).suffix, _UNKNOWN),
        "sha256": file.sha256,
    }


def _file_sets(form: Format, result: Result) -> list[Page]:
    labels = form.labels
    if form.name == "parquet":
        return [_file_set("parquet-files", labels.encoding, [labels.pattern])]
    # Files of a tar have no folders of their own.
    tars = [{"@id": f.path} for f in result.files] if form.name == "hmr2" else None
    suffix = "pyd" if result.options.pickles else "npz"
    pictures = [
        _file_set(f"images{s}", _ENCODINGS[s], [f"*{s}" if tars else f"{labels.images}/**/*{s}"], tars)
        for s in _picture_suffixes(result)
    ]
    described = _file_set("labels", labels.encoding, [labels.pattern.format(suffix=suffix)], tars)
    return [*pictures, described | ({"description": labels.about} if labels.about else {})]


def _picture_suffixes(result: Result) -> list[str]:
    """Of the pictures that lie about, or in tars, where either may be."""
    found = {suffix for suffix in _PER_IMAGE if any(f.path.endswith(suffix) for f in result.files)}
    return sorted(found or _PER_IMAGE)


def _file_set(name: str, kind: str, includes: list[str], inside: list[Page] | None = None) -> Page:
    page: Page = {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": kind, "includes": includes}
    return page | ({"containedIn": inside} if inside else {})


# Record sets


def _record_set(name: str, fields: Iterable[Page], key: str) -> Page:
    of = {"key": {"@id": f"{name}/{key}"}, "field": list(fields)}
    return {"@type": "cr:RecordSet", "@id": name, "name": name, **of}


def _field(record: str, name: str, kind: str, files: str, extract: Page, **more: Any) -> Page:
    source = {"fileSet": {"@id": files}, "extract": extract} | more.pop("source", {})
    page = {"@type": "cr:Field", "@id": f"{record}/{name}", "name": name, "dataType": kind}
    return page | {"source": source} | more


def _parquet(result: Result) -> list[Page]:
    fields = []
    for column in PARQUET_SCHEMA:
        listed = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type)
        more: Page = {"repeated": True} if listed else {}
        kind = "sc:ImageObject" if column.name == "image" else None
        kind = kind or _DATA_TYPES[str(column.type.value_type if listed else column.type)]
        if column.name == "image":
            more["source"] = {"transform": {"jsonPath": "bytes"}}
        fields.append(_field("samples", column.name, kind, "parquet-files", {"column": column.name}, **more))
    return [_record_set("samples", fields, "sample_id")]


def _images(result: Result) -> list[Page]:
    """A record set of pictures for each of their encodings: name and picture."""
    return [
        _record_set(
            f"pictures{suffix}",
            [
                _field(f"pictures{suffix}", "path", "sc:Text", f"images{suffix}", {"fileProperty": "fullpath"}),
                _field(f"pictures{suffix}", "image", "sc:ImageObject", f"images{suffix}", {"fileProperty": "content"}),
            ],
            "path",
        )
        for suffix in _picture_suffixes(result)
    ]


def _from_json(record: str, paths: Mapping[str, tuple[str, str]], key: str) -> Page:
    fields = [_field(record, name, kind, "labels", {"jsonPath": path}) for name, (path, kind) in paths.items()]
    return _record_set(record, fields, key)


def _coco(result: Result) -> list[Page]:
    image = {name: (f"$.images[*].{name}", "sc:Integer") for name in ("id", "width", "height")}
    image["file_name"] = ("$.images[*].file_name", "sc:Text")
    person = {name: (f"$.annotations[*].{name}", "sc:Integer") for name in ("id", "image_id", "num_keypoints")}
    person |= {name: (f"$.annotations[*].{name}", "sc:Float") for name in ("bbox", "keypoints")}
    people = _from_json("people", person, "id")
    for field in people["field"]:
        if field["name"] in ("bbox", "keypoints"):
            field["repeated"] = True
        if field["name"] == "image_id":
            field["references"] = {"field": {"@id": "images/id"}}
    return [_from_json("images", image, "id"), people, *_images(result)]


def _folder(result: Result) -> list[Page]:
    person = {name: (f"$.people[*].{name}", "sc:Text") for name in ("sample_id", "image_id", "split", "caption")}
    person["oks"] = ("$.people[*].oks", "sc:Float")
    return [_from_json("people", person, "sample_id"), *_images(result)]


_RECORD_SETS: dict[str, Callable[[Result], list[Page]]] = {
    "parquet": _parquet,
    "coco": _coco,
    "folder": _folder,
}
"""Where a format's own fields can be read; of all others the pictures can."""
