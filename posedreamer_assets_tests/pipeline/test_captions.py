"""Captions of pose batches by `captions.kind` and `captions.grammar`, through the stage that draws them."""

import json
from pathlib import Path

import pytest

from posedreamer_assets.config import load_profile
from posedreamer_assets.errors import CaptionError, ConfigError
from posedreamer_assets.render.appearance import appearance_from_json
from posedreamer_assets.render.captions import make_caption
from posedreamer_assets.runtime.freshness import Snapshot
from posedreamer_assets.storage import LanceStore
from posedreamer_assets_tests.runtime.small import KEY, POSES, make_one, small_profile

FIRST = f"{KEY}/000000"


def test_grammars_and_files_say_their_own_and_change_nothing_else(tmp_path: Path) -> None:
    store = LanceStore(str(tmp_path / "store"))
    file = tmp_path / "captions.jsonl"
    file.write_text(json.dumps({"sample_id": FIRST, "caption": "a diver before a reef"}))
    found = {}
    asked = {
        "pocket": {},
        "rich": {"captions.grammar": "rich"},
        "file": {"captions.kind": "file", "captions.path": str(file)},
    }
    for name, settings in asked.items():
        profile = small_profile(**settings)
        make_one(store, profile, "body_model", checked=False)
        figures = make_one(store, profile, POSES, KEY, checked=False).figures
        assert figures["caption_distinct_1"] > 0
        found[name] = store.read(POSES, keys=[KEY]).to_pylist()
        if name == "file":
            moved = file.rename(tmp_path / "moved.jsonl")
            again = small_profile(**{**settings, "captions.path": str(moved)})
            assert (
                Snapshot(again, store).input_digest(Snapshot(again, store).graph[POSES], KEY)
                == found[name][0]["input_digest"]
            )
            moved.write_text(json.dumps({"sample_id": "nobody", "caption": "x"}))
            with pytest.raises(
                CaptionError, match=f"no caption for any pose of batch {KEY}; its first sample is '{FIRST}'"
            ):
                make_one(store, again, POSES, KEY, checked=False)
    for rows in zip(*found.values(), strict=True):
        whole = make_caption(appearance_from_json(rows[0]["appearance"]))
        assert rows[0]["caption"] == whole != rows[1]["caption"]
        assert rows[2]["caption"] == ("a diver before a reef" if rows[2]["sample_id"] == FIRST else whole)
        rest = [{k: v for k, v in row.items() if k not in ("caption", "row_digest", "input_digest")} for row in rows]
        assert rest[0] == rest[1] == rest[2]


def test_a_file_without_its_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"captions\.kind file \(or vlm\) and captions\.path go together"):
        load_profile("pocket", {"captions.kind": "file"})
    with pytest.raises(ConfigError, match="go together"):
        load_profile("pocket", {"captions.path": "captions.csv"})
