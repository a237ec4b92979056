"""What lies beside an export: a dataset card (README.md) and Croissant's JSON-LD (croissant.json).

Both are made from the rows that were written and from their lineage, never from the present profile; equal exports have
equal texts. What comes from the table is escaped: a clip may be called `<script>`.
"""

import html
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from posedreamer_assets.export.croissant import croissant
from posedreamer_assets.export.licences import licences
from posedreamer_assets.export.shards import Format, Result
from posedreamer_assets.tables.rows import array, texts

_TITLE = "PoseDreamer dataset"
_ABOUT = "Images of people with the SMPL-X bodies that they were generated from, cameras and keypoints"
_CARD = """\
---
{front}---
# {title}

{about}. Written as: {form}.

## Contents

{samples} people in {images} images of {sizes}. Splits: {splits}; all frames of a clip are of one
split, and none of them is a test set: all images are of one generator. Checksums are in `SHA256SUMS` (`sha256sum -c
SHA256SUMS`), a machine-readable description in `croissant.json`. Pixels: {pixels}. What each format's conventions are
(frames, pivot, hands, boxes) is in the project's `docs/exports.md`.
{notes}
## The body

| | |
|---|---|
{body}

Parameters pose **this** body and no other. Posed with another one, licensed SMPL-X included, where it is not the one named
above, joints lie centimetres beside those of the images. Every label file names it, too.

## How it was made

The body came first: a pose and a camera were chosen, the body was drawn as a control image, a diffusion model painted a
person over it, and the image was kept if a keypoint detector found the body's pose in it. So a label is exact about the
body that was asked for; how well the image shows it is what the OKS below measures.

| | |
|---|---|
{provenance}

## Licences

| what | licence | people |
|---|---|---|
{licences}

The dataset is under all of them. Labels are parameters of the body model named above, whose licence covers their use with it.

## Statistics

| | |
|---|---|
{statistics}

## Intended use

Training and ablation of human mesh recovery and of keypoint detectors, beside real images or alone. Splits are fixed by
a hash of the pose's origin: keep them, so that results compare.

## Known limits

* {people} No person in the images exists; no image shows a real person on purpose, but a generator that learnt from
  photographs may come near to one.
* Hands and faces are labelled as they were asked for. The filter looks at the body's 17 keypoints, the head and the
  number of people, not at fingers and expression, which generators often get wrong.
* Clothes and hair are the generator's: the silhouette of the person is larger than the body's.
* Depth order of limbs can be wrong where two poses look alike from the front; the filter sees the image plane only.
* Variety is that of the pose sources, captions and generator; skin tones, body shapes and places are not balanced
  against any population. Measure before using it to judge people.
* Rows were chosen by a detector: what it cannot see is missing, which biases the set towards poses it knows.
"""
# What has a meaning in Markdown, and so could become a link, a row of a table or a heading.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#|!~])")


def describe(form: Format, result: Result, versions: Mapping[str, object]) -> dict[str, str]:
    """The texts to write, by file name.

    Args:
        form: of the export.
        result: of the export.
        versions: version or tag of each table that was read.
    """
    page = croissant(form, result, f"{_ABOUT}: {result.samples} people in {result.images} images, {form.title}.")
    # JSON that may stand in a page's <script>, as dataset hubs put it there.
    linked = json.dumps(page, indent=1, ensure_ascii=False).replace("<", "\\u003c")
    return {"README.md": _card(form, result, versions), "croissant.json": linked + "\n"}


def statistics(index: pa.Table) -> dict[str, str]:
    """Counts and spreads of the rows, by name."""
    bbox, size = array(index, "bbox"), array(index, "height")
    return {
        "rounds": _counts(texts(index, "round")),
        "sources": _counts(texts(index, "source")),
        "families or clips": _counts(texts(index, "family"), most=12),
        "OKS of the judging detector": _spread(array(index, "oks"), 3),
        "camera pitch, degrees (positive looks down)": _spread(array(index, "cam_pitch_deg"), 1),
        "focal length / image height": _spread(array(index, "focal_px") / size, 2),
        "body height / image height": _spread(bbox[:, 3] / size, 2),
        "visible keypoints of 17": _spread(array(index, "keypoints_visible").sum(axis=1), 1),
    }


def escaped(text: str) -> str:
    """A text from a table as it reads in Markdown and in HTML, in one line."""
    plain = " ".join(text.split())
    return _MARKDOWN.sub(r"\\\1", html.escape(plain, quote=False))


def _card(form: Format, result: Result, versions: Mapping[str, object]) -> str:
    index = result.index
    sizes = Counter(zip(index.column("width").to_pylist(), index.column("height").to_pylist(), strict=True))
    notes = form.notes(result.options, result.subject)
    one = result.samples == result.images
    return _CARD.format(
        front=_front_matter(form, result),
        title=_TITLE,
        about=_ABOUT,
        form=form.title,
        samples=result.samples,
        images=result.images,
        sizes=" and ".join(f"{w} x {h}" for (w, h), _ in sizes.most_common()) + " pixels",
        splits=_counts(texts(index, "split")),
        pixels=form.pixels,
        notes="".join(f"\n> {note}\n" for note in notes),
        body=_rows(vars(result.subject.identity)),
        provenance=_rows(_provenance(index, versions)),
        licences="\n".join(
            f"| {entry.covers} | {escaped(entry.licence)} | {entry.people} |"
            for entry in licences(index, result.subject.identity)
        ),
        statistics=_rows(statistics(index)),
        people="One person is in each image." if one else "People of an image are labelled, those behind others too.",
    )


def _provenance(index: pa.Table, versions: Mapping[str, object]) -> dict[str, str]:
    oks = array(index, "oks").astype(np.float64)
    known = oks[np.isfinite(oks)]
    of_recipe = "training_manifests" in versions
    passed = "as the recipe says" if of_recipe else "every row passed the filter that was set when it was made"
    least = f"{passed}; the lowest OKS among them is {known.min():.3f}" if len(known) else "not recorded"
    return {
        "generator": _counts(texts(index, "generator")),
        "alignment adapter": _counts(texts(index, "adapter")),
        "filter": least,
        "read from": ", ".join(f"{table} at version {version}" for table, version in versions.items()),
    }


def _front_matter(form: Format, result: Result) -> str:
    named = [entry.licence for entry in licences(result.index, result.subject.identity)]
    lines = ["pretty_name: PoseDreamer dataset", "license: other"]
    # A JSON text is a YAML text, whatever stands in it.
    lines += [f"license_name: {json.dumps(' AND '.join(dict.fromkeys(named)))}"]
    lines += ["task_categories:", "- keypoint-detection"]
    if form.name == "parquet":
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split in sorted(set(texts(result.index, "split"))):
            # `datasets` knows "validation", not "val", as the usual name.
            name = "validation" if split == "val" else split
            lines += [f"  - split: {name}", f"    path: data/{split}-*.parquet"]
    return "\n".join(lines) + "\n"


def _counts(values: Sequence[str], most: int | None = None) -> str:
    counted = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{escaped(name) or 'unnamed'} {count}" for name, count in counted[:most])
    return shown if most is None or len(counted) <= most else f"{shown}, and {len(counted) - most} more"


def _spread(values: np.ndarray, digits: int) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "not known"
    low, middle, high = np.quantile(known, [0.05, 0.5, 0.95])
    return f"median {middle:.{digits}f}, 5 to 95 % {low:.{digits}f} to {high:.{digits}f}"


def _rows(pairs: Mapping[str, Any]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in pairs.items())
