"""The person counter of photographs, on an RT-DETR of random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig
from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

from posedreamer_assets.config import CounterConfig, load_profile
from posedreamer_assets.errors import DetectorError
from posedreamer_assets.runtime.outside_files import file_digest
from posedreamer_assets.scoring.detr_counter import DetrCounter
from posedreamer_assets.scoring.people import load_counter

SIDE = 64
BOXES = 20


def save_rt_detr(folder: Path, names: tuple[str, ...] = ("bicycle", "person")) -> None:
    """A checkpoint as they are published, some thousand weights large."""
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],  # pyright: ignore[reportCallIssue]
        layer_type="basic",
    )
    small = dict.fromkeys(("d_model", "encoder_hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim"), 16)
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[16, 16, 16],
        decoder_in_channels=[16, 16, 16],
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_layers=1,
        num_queries=BOXES,
        num_denoising=0,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        **small,
    )
    torch.manual_seed(0)
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def counter_of(folder: Path, threshold: float | None = None, batch_size: int = 3) -> DetrCounter:
    found = load_counter(CounterConfig(str(folder), threshold, batch_size, kind="detr"))
    assert isinstance(found, DetrCounter)
    return found


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 50, 80, 3)).astype(np.uint8)


@torch.no_grad()
def test_people_are_the_boxes_of_class_person_above_the_threshold(tmp_path: Path) -> None:
    """The oracle: the network asked directly, its sigmoids compared one by one."""
    save_rt_detr(tmp_path)
    network = RTDetrForObjectDetection.from_pretrained(tmp_path).eval()
    images = pictures(4)
    shown = RTDetrImageProcessorPil.from_pretrained(tmp_path)(images=list(images), return_tensors="pt")
    both = network(**shown).logits.sigmoid().numpy()
    best = np.sort(both.reshape(4, -1), axis=1)[:, -BOXES:].min(1)  # as many candidates are kept as there are boxes
    people = both[..., 1]
    level = float(np.median(people[people > best.max()]))
    counts, scores = counter_of(tmp_path, level).count(images)
    assert counts.tolist() == [int((row > level).sum()) for row in people] and 0 < counts.sum() < 4 * BOXES
    np.testing.assert_allclose(scores, people.max(1), atol=1e-5)
    assert counter_of(tmp_path, 1.0).count(images)[0].tolist() == [0] * 4
    assert counter_of(tmp_path).threshold == 0.5


def test_counts_do_not_depend_on_the_batch_and_digests_on_the_weights(tmp_path: Path) -> None:
    save_rt_detr(tmp_path)
    counter, images = counter_of(tmp_path, 0.3), pictures(5)
    counts, scores = counter.count(images)
    for i in range(5):
        one, score = counter.count(images[i : i + 1])
        assert one[0] == counts[i] and score[0] == scores[i]
    assert counter.count(images[:0])[0].shape == (0,)
    assert counter.name == f"rt_detr {tmp_path.name}" and counter.digest == counter_of(tmp_path).digest


def test_what_cannot_count_people_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_rt_detr(tmp_path / "wheels", ("bicycle", "car"))
    with pytest.raises(DetectorError, match="knows no class 'person'"):
        counter_of(tmp_path / "wheels")
    save_rt_detr(tmp_path / "torn")
    save_file({"stem.weight": torch.zeros(1)}, tmp_path / "torn/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DetectorError, match="no fitting weight for"):
        counter_of(tmp_path / "torn")
    (tmp_path / "torn/config.json").write_text(json.dumps({"model_type": "clown"}))
    with pytest.raises(DetectorError, match="not an object detector of transformers"):
        counter_of(tmp_path / "torn")
    with pytest.raises(DetectorError, match="no detr weights at"):
        counter_of(tmp_path / "absent")


def test_a_name_on_the_hub_is_fetched_at_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_rt_detr(tmp_path)
    asked = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert "*.bin" not in allow_patterns
        if revision != "0123abc":
            raise OSError("no such revision\nmore")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    pinned = CounterConfig("owner/counter", kind="detr", revision="0123abc")
    assert load_counter(pinned).name == "rt_detr owner/counter" and asked == [("owner/counter", "0123abc")]
    with pytest.raises(DetectorError, match=r"owner/counter at main cannot be fetched.*no such revision\)$"):
        load_counter(CounterConfig("owner/counter", kind="detr", revision="main"))
    named = {"counter.kind": "detr", "counter.path": "owner/counter"}
    assert file_digest(load_profile("pocket", named), "counter") == "owner/counter"
