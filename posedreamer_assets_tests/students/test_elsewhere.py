"""`train.md`: Python and YAML in it are valid and name the files that are there."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from posedreamer_assets.students.elsewhere import train_notes


def blocks_of(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def notes_of(folder: Path, form: str, *files: str) -> str:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    text = train_notes(form, "no-filter", 2, 320, folder)
    assert text is not None and "recipe `no-filter`" in text and "320 samples of draw 2" in text
    return text


@pytest.mark.parametrize("count", [1, 2])
def test_smpler_x_has_a_class_for_each_label_file(tmp_path: Path, count: int) -> None:
    files = [f"preprocessed_datasets/train-{i}.npz" for i in range(count)]
    (text,) = blocks_of(notes := notes_of(tmp_path, "humandata", *files), "python")
    found: dict[str, Any] = {}
    for node in ast.parse(text).body:
        assert isinstance(node, ast.Assign)
        target = node.targets[0]
        if isinstance(target, ast.Name):
            found[target.id] = ast.literal_eval(node.value)
    assert found["data_strategy"] == "balance" and found["total_data_len"] == 320
    names = found["trainset_humandata"]
    assert len(set(names)) == count and all(name.isidentifier() for name in names)
    assert all(found[f"{name}_train_sample_interval"] == 1 for name in names)
    assert all(file in notes for file in files)


def test_hmr2_has_a_weight_and_all_tars(tmp_path: Path) -> None:
    files, weights = (
        yaml.safe_load(text) for text in blocks_of(notes_of(tmp_path, "hmr2", "a-0.tar", "a-1.tar"), "yaml")
    )
    ((name, of),) = files.items()
    assert of == {"TYPE": "ImageDataset", "URLS": "<this folder>/{a-0,a-1}.tar", "epoch_size": 320}
    assert weights == {"DATASETS": {"TRAIN": {name: {"WEIGHT": 1.0}}}}


def test_bedlam_s_names_have_no_underscore(tmp_path: Path) -> None:
    notes = notes_of(tmp_path, "bedlam", "all_0.npz", "all_1.npz")
    (code,), (text,) = blocks_of(notes, "python"), blocks_of(notes, "yaml")
    folders, labels = (ast.literal_eval(node.value) for node in ast.parse(code).body if isinstance(node, ast.AugAssign))
    names = yaml.safe_load(text)["DATASET"]["DATASETS_AND_RATIOS"].split("_")
    assert names == [*folders] == [*labels] == ["posedreamer-no-filter-0", "posedreamer-no-filter-1"]
    assert [*labels.values()] == ["<this folder>/all_0.npz", "<this folder>/all_1.npz"]


def test_other_formats_have_none(tmp_path: Path) -> None:
    assert train_notes("coco", "generated", 0, 3, tmp_path) is None
