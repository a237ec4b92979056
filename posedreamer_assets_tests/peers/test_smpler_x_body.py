"""SMPLer-X's three layers can be made from the free body, by the lines in docs/exports.md."""

import re
from pathlib import Path

import numpy as np
import pytest

from posedreamer_assets.body.model import load_body
from posedreamer_assets.body.params import BodyParams

DOCS = Path(__file__).parents[2] / "docs" / "exports.md"
# As human_models.py makes them: parameters come from outside, hands are not principal components, the face has a contour.
ARGUMENTS = {
    **dict.fromkeys(
        ("create_global_orient", "create_body_pose", "create_left_hand_pose", "create_right_hand_pose"), False
    ),
    **dict.fromkeys(("create_jaw_pose", "create_leye_pose", "create_reye_pose", "create_betas"), False),
    **dict.fromkeys(("create_expression", "create_transl"), False),
    "use_pca": False,
    "use_face_contour": True,
}
FACE = 51 + 17


def _of_the_docs() -> str:
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if "dynamic_lmk" in c)
    return code


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    exec(compile(_of_the_docs(), str(DOCS), "exec"), {})
    return tmp_path / "common/utils/human_model_files"


@pytest.mark.parametrize("gender", ["NEUTRAL", "MALE", "FEMALE"])
def test_a_layer_poses_the_labels_as_we_do(models: Path, gender: str) -> None:
    import smplx
    import torch

    layer = smplx.create(str(models), "smplx", gender=gender, **ARGUMENTS)
    body, drawn = load_body(None), np.random.default_rng(0)
    flat = {
        name: 0.3 * drawn.normal(size=v.shape).astype(np.float32) for name, v in BodyParams.zeros(2).to_flat().items()
    }
    found = layer(**{name: torch.from_numpy(value) for name, value in flat.items()})
    ours = body.forward(BodyParams.from_flat(flat))
    assert found.joints.shape == (2, 76 + FACE, 3) and layer.v_template.shape == body.v_template.shape
    np.testing.assert_allclose(found.vertices.detach().numpy(), ours.vertices, atol=2e-4)
    np.testing.assert_allclose(found.joints[:, :76].detach().numpy(), ours.joints, atol=2e-4)
    face = found.joints[:, 76:].detach().numpy()
    assert np.ptp(face, axis=1).max() < 1e-5, "placeholders, as the docs say"
