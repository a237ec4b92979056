"""What all trainings share: the loop's budget and duties, the rate, averages, state, log, held-out rows, dtype."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from posedreamer_assets.errors import ConfigError
from posedreamer_assets.training.average import AveragedWeights
from posedreamer_assets.training.hold_out import held_out
from posedreamer_assets.training.log import JsonLog, read_log
from posedreamer_assets.training.loop import Budget, Duty, Progress, TrainingDiverged, descend, run_loop, set_rates
from posedreamer_assets.training.precision import autocast, cpu_multiplies_bfloat16, training_dtype
from posedreamer_assets.training.repeatable import repeatable
from posedreamer_assets.training.resume import read_state, write_state
from posedreamer_assets.training.schedule import rate_factor


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_ends_with_its_steps_or_with_its_minutes() -> None:
    clock, progress, shares = Clock(), Progress(), []

    def step(share: float) -> float:
        shares.append(share)
        clock.now += 15.0
        return 1.0

    run_loop(step, Budget(minutes=1.0, clock=clock), progress)
    assert shares == [0.0, 0.25, 0.5, 0.75] and progress == Progress(4, 60.0)
    run_loop(step, Budget(minutes=1.0, clock=clock), progress)  # nothing is left
    assert len(shares) == 4
    run_loop(step, Budget(max_steps=3), other := Progress(step=1))
    assert shares[4:] == [pytest.approx(1 / 3), pytest.approx(2 / 3)] and other.step == 3


def test_duties_are_done_when_due_and_once_at_the_end_and_their_time_does_not_count() -> None:
    clock, progress, done = Clock(), Progress(), []

    def step(_: float) -> float:
        clock.now += 20.0
        return 0.0

    def slow() -> None:
        clock.now += 1000.0
        done.append(("minute", progress.step))

    duties = [Duty(slow, minutes=1.0), Duty(lambda: done.append(("steps", progress.step)), steps=2)]
    run_loop(step, Budget(max_steps=7, clock=clock), progress, duties)
    assert done == [
        ("steps", 2),
        ("minute", 3),
        ("steps", 4),
        ("minute", 6),
        ("steps", 6),
        ("minute", 7),
        ("steps", 7),
    ]
    assert progress.seconds == 140.0


def test_the_mean_loss_of_fifty_steps_is_logged(tmp_path: Path) -> None:
    progress, log = Progress(), JsonLog(tmp_path / "a" / "log.jsonl")
    run_loop(lambda _: float(progress.step), Budget(max_steps=120), progress, log=log)
    lines = read_log(tmp_path / "a" / "log.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(50, 24.5), (100, 74.5)]


def test_the_rate_is_a_ramp_times_half_a_cosine() -> None:
    assert rate_factor(0.0, 1.0, 0.1) == pytest.approx(0.1)
    assert rate_factor(0.5, 1.0, 9.0, 0.02) == pytest.approx(0.51)
    assert rate_factor(2.5, 10.0, 1.0) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert rate_factor(1.0, 1.0, 9.0, 0.02) == rate_factor(3.0, 1.0, 9.0, 0.02) == pytest.approx(0.02)


def test_rates_are_shares_of_what_each_group_was_made_with() -> None:
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    optimizer = torch.optim.AdamW(
        [{"params": layers[0].parameters(), "lr": 0.1}, {"params": layers[1].parameters()}], lr=0.4
    )
    for factor in (0.5, 0.25):
        set_rates([optimizer], factor)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.025, 0.1])


def test_a_loss_that_is_not_finite_ends_the_training_and_spoils_nothing() -> None:
    layer = nn.Linear(2, 1)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with pytest.raises(TrainingDiverged, match="loss is nan"):
        descend(layer(torch.ones(1, 2)).sum() * float("nan"), layer, [torch.optim.SGD(layer.parameters(), lr=1.0)])
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_a_descent_is_a_clipped_gradient_step() -> None:
    layer = nn.Linear(2, 1, bias=False)
    before = layer.weight.detach().clone()
    value = descend(layer(torch.tensor([[3.0, 4.0]])).sum(), layer, [torch.optim.SGD(layer.parameters(), lr=0.1)])
    assert value == pytest.approx((before * torch.tensor([3.0, 4.0])).sum().item())
    torch.testing.assert_close(layer.weight.detach(), before - 0.1 * torch.tensor([[0.6, 0.8]]))


def test_averages_are_those_of_a_plain_loop_and_are_swapped_in_and_out() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average, weight = AveragedWeights(module, decay=0.3), module[0].weight
    assert isinstance(weight, nn.Parameter)
    expected = weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            weight.add_(step + 1.0)
        module[1].num_batches_tracked.add_(1)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        average.update(step)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(average.state["0.weight"], expected)
    assert average.state["1.num_batches_tracked"] == 6
    own = weight.detach().clone()
    with average.in_place() as averaged:
        assert not averaged.training and torch.equal(weight, average.state["0.weight"])
    assert module.training and torch.equal(weight, own)


def test_a_state_is_read_as_it_was_written_and_never_as_objects(tmp_path: Path) -> None:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    descend(layer(torch.ones(1, 3)).sum(), layer, [optimizer])
    path = tmp_path / "sub" / "state.pt"
    write_state(path, network=layer, optimizer=optimizer, step=7, average={"w": torch.ones(2)})
    state = read_state(path)
    assert state["step"] == 7 and torch.equal(state["average"]["w"], torch.ones(2))
    assert torch.equal(state["network"]["weight"], layer.weight)
    assert state["optimizer"]["state"][0]["step"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]
    torch.save({"x": Path("object")}, path)
    with pytest.raises(Exception, match="Weights only load failed"):
        read_state(path)


def test_the_last_32nd_of_a_file_is_held_out_and_at_least_one_row() -> None:
    for rows, expected in ((2, 1), (40, 1), (63, 1), (64, 2), (512, 16)):
        mask = held_out(rows)
        assert mask.sum() == expected and mask[-expected:].all()
    with pytest.raises(ValueError, match="1 rows"):
        held_out(1)


def test_bfloat16_is_chosen_where_the_processor_multiplies_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (({"avx2": True}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert training_dtype("auto") == expected and cpu_multiplies_bfloat16() == (expected == torch.bfloat16)
        with autocast("auto"):
            assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == expected
    assert training_dtype("auto", "cuda") == torch.bfloat16 and training_dtype("float32", "cuda") == torch.float32
    with pytest.raises(ConfigError, match="expected one of auto, bfloat16, float32, found 'half'"):
        training_dtype("half")


def test_a_log_rounds_and_can_echo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = JsonLog(tmp_path / "log.jsonl", echo=True)
    log.write(event="start", loss=np.float64(0.123456789).item(), rows=3)
    assert capsys.readouterr().out == '{"event": "start", "loss": 0.12346, "rows": 3}\n'


def test_sums_are_made_in_one_order_within_a_context_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU by torch's own switch, which needs none to be there; on a CPU by one thread."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # so that it is taken away again
    threads = torch.get_num_threads()
    for kind, seen in (
        ("cuda", torch.are_deterministic_algorithms_enabled),
        ("cpu", lambda: torch.get_num_threads() == 1),
    ):
        with pytest.raises(KeyError), repeatable(torch.device(kind)):
            assert seen()
            raise KeyError
        assert not torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == threads
