"""The optimizer, the learning rate and the running average, by hand; the depthwise gradients against PyTorch's."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch

from mbx_deploy.train import depthwise
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.depthwise import Depthwise
from mbx_deploy.train.matchboxnet import MatchboxNetConfig, build_matchboxnet
from mbx_deploy.train.optimizers import Novograd, build_optimizer, learning_rate_at, move_average


def test_learning_rate_rises_then_falls_to_zero() -> None:
    config = TrainConfig(learning_rate=0.01, warmup_fraction=0.1)
    rates = [learning_rate_at(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[9] == pytest.approx(0.01)
    assert rates[55] == pytest.approx(0.005)
    assert all(a <= b for a, b in pairwise(rates[:10]))
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert 0 < rates[-1] < 1e-5


def test_learning_rate_holds_then_falls_as_a_polynomial() -> None:
    config = TrainConfig(
        learning_rate=0.05,
        schedule="polynomial",
        warmup_fraction=0.05,
        hold_fraction=0.45,
        least_learning_rate=0.001,
    )
    rates = [learning_rate_at(config, step, 200) for step in range(201)]
    assert rates[9:100] == [0.05] * 91
    assert rates[4] == pytest.approx(0.025)
    assert rates[150] == pytest.approx(0.001 + 0.049 * 0.25)
    assert rates[200] == pytest.approx(0.001)


def test_novograd_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = Novograd([weight], lr=0.1, betas=(0.9, 0.5), eps=0.0, weight_decay=0.01)
    weight.grad = torch.tensor([6.0, 8.0])
    optimizer.step()
    # The gradient's norm is 10: (0.6, 0.8) plus 0.01 of the weight.
    momentum = torch.tensor([0.63, 0.84])
    expected = torch.tensor([3.0, 4.0]) - 0.1 * momentum
    torch.testing.assert_close(weight.detach(), expected)
    weight.grad = torch.tensor([0.0, 5.0])
    optimizer.step()
    second_moment = 0.5 * 100.0 + 0.5 * 25.0
    momentum = 0.9 * momentum + torch.tensor([0.0, 5.0]) / second_moment**0.5 + 0.01 * expected
    torch.testing.assert_close(weight.detach(), expected - 0.1 * momentum)


def test_novograd_goes_on_from_its_state() -> None:
    def run(stop: bool) -> torch.Tensor:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(4))
        optimizer = Novograd([weight], lr=0.1)
        for step in range(6):
            if stop and step == 3:
                kept = copy.deepcopy(optimizer.state_dict())
                optimizer = Novograd([weight], lr=0.5)
                optimizer.load_state_dict(kept)
            weight.grad = torch.randn(4)
            optimizer.step()
        return weight.detach()

    assert torch.equal(run(stop=False), run(stop=True))


def test_the_configuration_names_the_optimizer() -> None:
    network = build_matchboxnet(MatchboxNetConfig(10))
    assert isinstance(build_optimizer(TrainConfig(optimizer="novograd"), network), Novograd)
    adamw = build_optimizer(TrainConfig(weight_decay=0.3, betas=(0.8, 0.9)), network)
    assert isinstance(adamw, torch.optim.AdamW)
    shrink, keep = adamw.param_groups
    assert (shrink["weight_decay"], keep["weight_decay"]) == (0.3, 0.0)
    assert shrink["betas"] == (0.8, 0.9)
    assert all(p.ndim > 1 for p in shrink["params"])
    assert all(p.ndim == 1 for p in keep["params"])


def test_average_by_hand() -> None:
    average, module = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.nn.init.constant_(average.weight, 1.0)
    torch.nn.init.constant_(module.weight, 2.0)
    move_average(average, module, 0.9, step=10**6)
    assert float(average.weight.detach()) == pytest.approx(1.1)
    # At first its memory is short, whatever the decay.
    move_average(average, module, 0.9, step=0)
    assert float(average.weight.detach()) == pytest.approx(0.1 * 1.1 + 0.9 * 2.0)


def gradients(layer: Depthwise, inputs: torch.Tensor, outer: torch.Tensor) -> list[torch.Tensor]:
    x = inputs.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(outer)
    assert x.grad is not None
    assert layer.weight.grad is not None
    return [y.detach(), x.grad, layer.weight.grad.clone()]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(
    ("channels", "kernel", "dilation", "frames"),
    [(64, 11, 1, 101), (16, 13, 1, 50), (64, 29, 2, 101), (8, 3, 3, 20), (8, 5, 2, 3), (12, 3, 1, 9), (8, 1, 1, 1)],
)
def test_depthwise_gradients_are_pytorchs(
    channels: int, kernel: int, dilation: int, frames: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    layer = Depthwise(channels, kernel, dilation)
    inputs, outer = torch.randn(2, 5, channels, 1, frames)
    if channels_last:
        inputs, outer = (v.contiguous(memory_format=torch.channels_last) for v in (inputs, outer))
    fast = gradients(layer.train(), inputs, outer)
    plain = gradients(layer.eval(), inputs, outer)
    for a, b in zip(fast, plain, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    again = gradients(layer.train(), inputs, outer)
    assert all(torch.equal(a, b) for a, b in zip(fast, again, strict=True))


def test_depthwise_works_without_a_compiler_and_in_mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: Any) -> None:
        return None

    layer, inputs = Depthwise(8, 3).train(), torch.randn(2, 8, 1, 10)
    expected = layer(inputs).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(inputs).dtype == torch.bfloat16
    monkeypatch.setattr(depthwise, "_weight_gradient", no_compiler)
    torch.testing.assert_close(layer(inputs).detach(), expected)
