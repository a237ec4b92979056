"""SMPL-X to SMPL, on an SMPL-format body made from the free body: the right answer is known."""

import io
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from posedreamer_assets.body.model import FREE_BODY_PATH, BodyModel, load_body
from posedreamer_assets.body.params import BodyParams
from posedreamer_assets.body.transfer import SmplConverter, load_transfer
from posedreamer_assets.errors import BodyModelError
from posedreamer_assets.poses.procedural import procedural_poses
from posedreamer_assets_tests.body.smpl_files import write_smpl, write_transfer

# torch compiles helpers of its own the first time that a derivative is taken.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
IDS = [f"procedural-0000/{i:06d}" for i in range(5)]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


@pytest.fixture(scope="module")
def params(body: BodyModel) -> BodyParams:
    """Flat hands and still faces: bodies that SMPL has too."""
    found, _ = procedural_poses(body, IDS, 1)
    still = BodyParams.zeros(len(IDS))
    names = ("left_hand_pose", "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose", "expression")
    return found.replace(**{name: getattr(still, name) for name in names})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("smpl")
    ids = write_smpl(folder / "SMPL_NEUTRAL.npz", body)
    write_transfer(folder / "transfer.npz", ids, len(body.v_template))
    return folder / "SMPL_NEUTRAL.npz", folder / "transfer.npz"


def test_bodies_that_smpl_has_are_found_exactly(body: BodyModel, params: BodyParams, files: tuple[Path, Path]) -> None:
    found = SmplConverter.load(body, *files).convert(params)
    assert found.error_m.max() < 1e-5
    np.testing.assert_allclose(found.betas, params.betas, atol=5e-3)
    np.testing.assert_allclose(found.transl, params.transl, atol=1e-4)


def test_the_fit_is_of_smpl_as_stock_smplx_poses_it(
    body: BodyModel, params: BodyParams, files: tuple[Path, Path]
) -> None:
    smplx = pytest.importorskip("smplx")
    torch = pytest.importorskip("torch")
    found = SmplConverter.load(body, *files).convert(params)
    with np.load(files[0]) as data, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays = smplx.utils.Struct(**{name: data[name] for name in data.files})
        stock = smplx.SMPL(str(files[0]), data_struct=arrays, num_betas=10, batch_size=len(IDS))
    names = ("global_orient", "body_pose", "betas", "transl")
    arguments = {k: torch.tensor(getattr(found, k), dtype=torch.float32).flatten(1) for k in names}
    with torch.no_grad():
        vertices = stock(**arguments).vertices.numpy()
    np.testing.assert_allclose(vertices, body.forward(params).vertices, atol=1e-4)


def test_bodies_that_smpl_lacks_come_near_and_say_how_near(
    body: BodyModel, params: BodyParams, files: tuple[Path, Path]
) -> None:
    """Bent fingers and a face: SMPL has neither, the rest of the body must not suffer."""
    rng = np.random.default_rng(0)
    hands = rng.normal(0, 0.3, (2, len(IDS), 15, 3)).astype(np.float32)
    lively = params.replace(
        left_hand_pose=hands[0],
        right_hand_pose=hands[1],
        expression=rng.normal(0, 1, (len(IDS), 10)).astype(np.float32),
    )
    converter = SmplConverter.load(body, *files)
    found = converter.convert(lively)
    gap = np.linalg.norm(converter.vertices(found) - body.forward(lively).vertices, axis=2)
    np.testing.assert_allclose(gap.mean(axis=1), found.error_m, rtol=1e-5)
    assert found.error_m.max() < 0.01
    limbs = np.isin(body.dominant_joint, range(1, 9))
    assert gap[:, limbs].mean() < 0.003


def test_a_batch_gives_what_its_bodies_give_alone(
    body: BodyModel, params: BodyParams, files: tuple[Path, Path]
) -> None:
    converter = SmplConverter.load(body, *files)
    together = converter.convert(params)
    for i in (0, 3):
        alone = converter.convert(params.take([i]))
        np.testing.assert_allclose(alone.body_pose[0], together.body_pose[i], atol=1e-3)


def test_a_mesh_of_other_vertices_is_reached_through_the_matrix(
    body: BodyModel, params: BodyParams, tmp_path: Path
) -> None:
    ids = write_smpl(tmp_path / "smpl.npz", body, every=3)
    write_transfer(tmp_path / "transfer.npz", ids, len(body.v_template))
    converter = SmplConverter.load(body, tmp_path / "smpl.npz", tmp_path / "transfer.npz")
    found = converter.convert(params.take([1]))
    assert converter.vertices(found).shape == (1, len(ids), 3)
    assert found.error_m.max() < 1e-5


def test_matrices_are_read_dense_sparse_and_from_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    matrix = sparse.csr_matrix(np.arange(54.0).reshape(6, 9) % 5)
    np.savez(tmp_path / "dense.npz", mtx=matrix.toarray())
    sparse.save_npz(tmp_path / "sparse.npz", matrix)
    save_file({"mtx": matrix.toarray()}, tmp_path / "dense.safetensors")
    for name in ("dense.npz", "sparse.npz", "dense.safetensors"):
        np.testing.assert_array_equal(load_transfer(tmp_path / name).toarray(), matrix.toarray())


def test_files_that_are_no_such_thing_get_a_named_error(
    body: BodyModel, files: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "published.pkl").write_bytes(pickle.dumps({"mtx": 1}))
    np.savez(tmp_path / "pickled.npz", mtx=np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "empty.npz")
    (tmp_path / "torn.npz").write_bytes(files[1].read_bytes()[:100])
    (tmp_path / "torn.safetensors").write_bytes(b"\0" * 4)
    names = ("published.pkl", "pickled.npz", "empty.npz", "torn.npz", "torn.safetensors", "missing.npz")
    for name in names:
        with pytest.raises(BodyModelError, match=name.replace(".", r"\.")):
            load_transfer(tmp_path / name)
    small = io.BytesIO()
    np.savez(small, mtx=np.eye(3))
    (tmp_path / "small.npz").write_bytes(small.getvalue())
    with pytest.raises(BodyModelError, match=r"transfer matrix is \(3, 3\)"):
        SmplConverter.load(body, files[0], tmp_path / "small.npz")
    with pytest.raises(BodyModelError, match=r"kintree_table is \(2, 55\)"):
        SmplConverter.load(body, FREE_BODY_PATH, files[1])
