"""Captions of users' files, good and bad."""

import json
from pathlib import Path

import pytest

from posedreamer_assets.errors import CaptionError
from posedreamer_assets.render.caption_file import read_captions

GOOD = {"procedural-0000/000001": "a  cook,\nstirring", "walk.bvh#3": 'a "tall" person'}


def test_both_kinds_of_file_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        '\ufeffsample_id,pose,caption,more\nprocedural-0000/000001,,"a  cook,\nstirring",1\n,walk.bvh#3,"a ""tall"" person",2\n'
    )
    lines = [{"sample_id": "procedural-0000/000001"}, {"pose": "walk.bvh#3", "n": 3}]
    texts = [json.dumps({**line, "caption": text}) for line, text in zip(lines, GOOD.values(), strict=True)]
    (tmp_path / "a.jsonl").write_text("\n".join([texts[0], "", texts[1]]))
    expected = {name: " ".join(text.split()) for name, text in GOOD.items()}
    assert read_captions(tmp_path / "a.csv") == read_captions(tmp_path / "a.jsonl") == expected


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    for text in ("first", "another one"):
        file.write_text(json.dumps({"pose": "p", "caption": text}))
        assert read_captions(file) == {"p": text}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"id,text\n1,x\n", r"a\.csv, line 1: expected a header with caption and sample_id or pose"),
        ("a.csv", b"pose,caption\np,x\np,y\n", r"a\.csv, line 3: 'p' has a caption already"),
        ("a.csv", b"pose,caption\n,x\n", r"line 2: names neither a sample_id nor a pose"),
        ("a.csv", b"pose,caption\np, \n", r"line 2: 'p' has no caption"),
        ("a.csv", b"pose,caption\n", r"a\.csv: holds no caption"),
        ("a.csv", b"pose,caption\n\xff,x\n", r"a\.csv: not UTF-8"),
        ("a.jsonl", b'{"pose": "p", "caption": "x"}\n[1]\n', r"a\.jsonl, line 2: expected an object, found '\[1\]'"),
        ("a.jsonl", b"{", r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", b'{"pose": 3, "caption": "x"}', "line 1: names neither"),
        ("a.jsonl", b'{"pose": "p", "caption": null}', "line 1: 'p' has no caption"),
        ("a.jsonl", b'{"pose": "p", "caption": "' + b"x" * 4001 + b'"}', "a caption of 4001 characters; at most 4000"),
        ("a.txt", b"x", r"a\.txt: expected a \.csv or a \.jsonl file"),
    ],
)
def test_a_mistake_is_named_with_its_line(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CaptionError, match=words):
        read_captions(tmp_path / name)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptionError, match=r"captions\.path: no file at .*none\.csv"):
        read_captions(tmp_path / "none.csv")
