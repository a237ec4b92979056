"""Students that see images: shapes, the upright start, who learns, and where their weights come from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import VitPoseBackbone, VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

from posedreamer_assets.errors import StudentError
from posedreamer_assets.students.archs import ARCHS
from posedreamer_assets.students.networks import OUTPUTS
from posedreamer_assets.students.person_pictures import Pictures, roomy
from posedreamer_assets.students.predict import weights_to_bytes
from posedreamer_assets.students.vit import (
    Decoder,
    ViTStudent,
    backbone_state,
    config_of,
    init_digest,
    predict_pictures,
    student_of,
)
from posedreamer_assets_tests.students.test_crops import SIZE, precise

TINY = ARCHS["vit-tiny"]


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *roomy(SIZE), 3)).astype(np.uint8)


def seen(count: int) -> torch.Tensor:
    return torch.from_numpy(random_images(count)[:, : SIZE[0], : SIZE[1]].copy())


def test_a_student_starts_upright_before_the_camera() -> None:
    torch.manual_seed(0)
    student = ViTStudent("vit-tiny", SIZE).eval()
    with torch.no_grad():
        found = student(seen(4), torch.full((4,), 200.0), SIZE[1])
    assert found.rotations.shape == (4, 22, 3, 3) and found.betas.shape == (4, 10)
    up = found.rotations[:, 0] @ torch.tensor([0.0, 1.0, 0.0])
    assert (up[:, 1] < -0.9).all(), "the head is up: y points down"
    others = found.rotations[:, 1:].diagonal(dim1=-2, dim2=-1).sum(-1)
    assert (others > 2.5).all(), "body joints are near rest"
    assert (found.pelvis_cam_m[:, 2] > 0).all()
    assert torch.allclose(found.rotations @ found.rotations.mT, torch.eye(3).expand_as(found.rotations), atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "backbone", "decoder"), [("vit-s", 21_663_744, 5_388_433), ("vit-l", 303_296_512, 37_961_873)]
)
def test_sizes_are_those_of_vitpose(arch: str, backbone: int, decoder: int) -> None:
    """Counted without being made; the numbers were added up by hand: 12 d^2 + 13 d a layer of the backbone, 6 d^2 + 10 d of the
    decoder."""
    with torch.device("meta"):
        network = VitPoseBackbone(config_of(ARCHS[arch], (256, 192)))
        tokens = network(torch.zeros(2, 3, 256, 192)).feature_maps[-1]
        assert tokens.shape == (2, 16 * 12, ARCHS[arch].width)
        read = Decoder(ARCHS[arch])
        assert read(tokens).shape == (2, OUTPUTS)
    assert sum(p.numel() for p in network.parameters()) == backbone
    assert sum(p.numel() for p in read.parameters()) == decoder


@pytest.mark.parametrize("train", [True, False])
def test_a_frozen_backbone_gets_no_gradient_and_the_decoder_always_does(train: bool) -> None:
    student = ViTStudent("vit-tiny", SIZE, train_backbone=train)
    student(seen(2), torch.full((2,), 200.0), SIZE[1]).rotations.sum().backward()
    assert all((p.grad is not None) is train for p in student.backbone.parameters())
    assert all(p.grad is not None for p in student.decoder.parameters())


def test_bfloat16_rounds_products_and_not_what_they_mean() -> None:
    torch.manual_seed(0)
    student = ViTStudent("vit-tiny", SIZE).eval()
    found = {}
    for student.precision in ("float32", "bfloat16"):
        with torch.no_grad():
            found[student.precision] = student(seen(3), torch.full((3,), 200.0), SIZE[1])
    plain, rounded = found["float32"], found["bfloat16"]
    assert rounded.rotations.dtype == rounded.pelvis_cam_m.dtype == torch.float32
    assert not torch.equal(plain.rotations, rounded.rotations)
    assert torch.allclose(plain.rotations, rounded.rotations, atol=0.05)
    turned = rounded.rotations @ rounded.rotations.mT
    assert torch.allclose(turned, torch.eye(3).expand_as(turned), atol=1e-5), "rotations are exact ones"


def test_predictions_do_not_depend_on_the_batch_and_outlive_their_file() -> None:
    torch.manual_seed(0)
    student = ViTStudent("vit-tiny", SIZE).eval()
    labels = precise(35)
    whole = predict_pictures(student, Pictures(random_images(35), labels, SIZE))
    one = predict_pictures(student, Pictures(random_images(35)[33:34], labels.take([33]), SIZE))
    assert (one.rotations[0] == whole.rotations[33]).all() and (one.pelvis_cam_m[0] == whole.pelvis_cam_m[33]).all()
    data = weights_to_bytes({name: value.half() for name, value in student.state_dict().items()})
    again = predict_pictures(student_of(data, "vit-tiny", SIZE), Pictures(random_images(35), labels, SIZE))
    assert np.abs(again.rotations - whole.rotations).max() < 0.01
    with pytest.raises(StudentError, match="not weights of a vit-tiny student"):
        student_of(b"nothing of the kind", "vit-tiny", SIZE)
    with pytest.raises(StudentError, match="not weights of a vit-s student"):
        student_of(data, "vit-s", SIZE)


def checkpoint(place: Path, experts: int = 1, *, alone: bool = False, **changes: object) -> VitPoseBackbone:
    """A ViTPose checkpoint of random weights in a folder; returns its backbone."""
    config = VitPoseBackboneConfig(
        **{
            **{name: getattr(config_of(TINY, SIZE), name) for name in ("image_size", "patch_size", "hidden_size")},
            "num_hidden_layers": TINY.depth,
            "num_attention_heads": TINY.heads,
            "num_experts": experts,
            "part_features": 8,
            "out_indices": [TINY.depth],
            **changes,
        }  # type: ignore[arg-type]
    )
    torch.manual_seed(3)
    if alone:
        backbone = VitPoseBackbone(config)
        backbone.save_pretrained(place)
        return backbone.eval()
    whole = VitPoseForPoseEstimation(VitPoseConfig(backbone_config=config, num_labels=17))  # pyright: ignore[reportCallIssue]
    whole.save_pretrained(place)
    return whole.backbone.eval()


@pytest.mark.parametrize(
    ("experts", "alone"), [(1, False), (1, True), (6, False)], ids=["vitpose", "backbone", "vitpose++"]
)
def test_a_backbone_starts_from_a_checkpoint(tmp_path: Path, experts: int, alone: bool) -> None:
    """Of ViTPose++ the expert for COCO, the first one, becomes part of a plain network with the same features."""
    theirs = checkpoint(tmp_path, experts, alone=alone)
    state = backbone_state("vit-tiny", SIZE, str(tmp_path), None)
    assert state is not None
    student = ViTStudent("vit-tiny", SIZE)
    student.backbone.load_state_dict(state)
    images = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = student.backbone.eval()(images).feature_maps[-1]
        expected = theirs(images, dataset_index=torch.zeros(3, dtype=torch.long)).feature_maps[-1]
    assert torch.allclose(own, expected, atol=1e-6)
    first = init_digest(str(tmp_path), None)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert init_digest(str(tmp_path), None) != first and init_digest("random", None) == "random"


def test_what_is_no_fitting_checkpoint_is_told_in_one_line(tmp_path: Path) -> None:
    assert backbone_state("vit-tiny", SIZE, "random", None) is None
    checkpoint(tmp_path / "wide", hidden_size=64)
    checkpoint(tmp_path / "large", image_size=[128, 96])
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("wide", "hidden_size is 64, and 32 in arch vit-tiny: name another init or arch"),
        ("large", r"image_size is \[128, 96\], and \[64, 48\]"),
        ("empty", "not a ViTPose checkpoint"),
        ("none", "no such folder"),
    ):
        with pytest.raises(StudentError, match=words) as caught:
            backbone_state("vit-tiny", SIZE, str(tmp_path / name), None)
        assert "\n" not in str(caught.value)
