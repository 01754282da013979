"""Quantization-aware fine-tuning: it rounds where int8 rounds, and it learns."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mbx_deploy.errors import CheckFailed
from mbx_deploy.quantization.folded_graph import trace_steps
from mbx_deploy.quantization.qat import QatModule, QuantizedNetwork, _Rounded, round_weights
from mbx_deploy.quantization.ranges import Range, dequantize, quantize
from mbx_deploy.train.evaluation import predict
from mbx_deploy.train.matchboxnet import MatchboxNet, MatchboxNetConfig, build_matchboxnet

CONFIG = MatchboxNetConfig(3, 2, 2, 8, 16, 3, (5, 3), 16, 5, 2, 10, 20)


@pytest.fixture
def network() -> MatchboxNet:
    torch.manual_seed(1)
    net = build_matchboxnet(CONFIG)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
            nn.init.normal_(module.running_mean, 0.0, 0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return net.eval()


def inputs(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 10, 1, 20, generator=torch.Generator().manual_seed(2))


def ranges_of(network: nn.Module, x: torch.Tensor) -> list[Range]:
    plain = QuantizedNetwork(network, [Range(0.0, 0.0)] * len(trace_steps(network)))
    plain.rounding = False
    with torch.no_grad():
        return [Range(min(float(v.min()), 0.0), max(float(v.max()), 0.0)) for v in plain.run(x)]


# Where it rounds


def test_the_steps_are_the_ops_of_the_int8_network(network: MatchboxNet) -> None:
    steps = trace_steps(network)
    kinds = [step.kind for step in steps]
    block = ["convolution"] * 4 + ["convolution", "add"]
    assert kinds == ["input", *["convolution"] * 2, *block, *block, *["convolution"] * 3, "mean", "linear"]
    norms = [step.norm is not None for step in steps if step.kind == "convolution"]
    separable = [False, True]
    assert norms == [*separable, *(separable * 2 + [True]) * 2, *separable, True]
    rectified = [step.rectified for step in steps if step.kind in ("convolution", "add")]
    inner = [False, True, False, False, False, True]
    assert rectified == [False, True, *inner, *inner, False, True, True]


def test_without_rounding_it_is_the_network(network: MatchboxNet) -> None:
    x = inputs()
    quantized = QuantizedNetwork(network, ranges_of(network, x)).eval()
    quantized.rounding = False
    np.testing.assert_allclose(predict(quantized, x), predict(network, x), atol=1e-5)


def test_rounding_is_small_and_on_the_steps_of_int8(network: MatchboxNet) -> None:
    x = inputs()
    ranges = ranges_of(network, x)
    quantized = QuantizedNetwork(network, ranges).eval()
    with torch.no_grad():
        values = quantized.run(x)
    for value, each in zip(values, ranges, strict=True):
        steps = dequantize(quantize(value.double().numpy(), each.quantization()), each.quantization())
        np.testing.assert_allclose(value.numpy(), steps, atol=1e-5)
    error = values[-1].numpy() - predict(network, x)
    assert 0 < np.abs(error).max() < 0.2 * np.abs(predict(network, x)).max()


def test_weights_are_rounded_by_channel_and_their_gradient_passes() -> None:
    weights = torch.randn(4, 3, 1, 5, requires_grad=True)
    rounded = round_weights(weights)
    scales = weights.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    steps = (rounded.detach() / scales).numpy()
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    rounded.sum().backward()
    assert weights.grad is not None
    assert bool((weights.grad == 1).all())
    assert not round_weights(torch.zeros(2, 3)).any()


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)


def test_a_layer_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(CheckFailed, match="sigmoid"):
        trace_steps(Doubled())
    with pytest.raises(CheckFailed, match=r"\(_0\)"):
        trace_steps(nn.Sequential(nn.BatchNorm2d(3)))


@pytest.mark.parametrize(("number", "least", "most"), [(0, -3.0, 3.0), (1, -2.0, 5.0), (0, -2.0, 3.0)])
def test_the_ends_of_a_range_learn_as_the_loss_says(number: int, least: float, most: float) -> None:
    """Against the numeric gradient, for what is clipped at one end, and for rounding alone."""
    values = torch.linspace(least, most, 200001)
    ends = [torch.tensor(-2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)]

    def loss(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return torch.sum((_Rounded.apply(values, low, high) - values) ** 2)

    loss(*ends).backward()
    clipped = least < -2.0 or most > 3.0
    # Four steps of int8, for their zero moves in whole steps. Outwards only, where nothing is clipped.
    further, nearer = (0.2, -0.2) if clipped else (-0.4, 0.0)
    results = []
    for move in (further, nearer):
        moved = [each.detach().clone() for each in ends]
        moved[number] += move
        results.append(float(loss(*moved)))
    slope = (results[0] - results[1]) / (further - nearer)
    gradient = ends[number].grad
    assert gradient is not None
    assert float(gradient) == pytest.approx(slope, rel=0.12)


# That it learns


@pytest.mark.slow
def test_fine_tuning_brings_a_spoilt_network_back(network: MatchboxNet) -> None:
    """Ranges far too small cost most of the answers; after some steps it has widened and worked around them."""
    x = inputs(256)
    with torch.no_grad():
        network.decoder.weight *= 10.0
    narrow = [Range(each.low / 12, each.high / 12) for each in ranges_of(network, x)]
    student = QuantizedNetwork(copy.deepcopy(network), narrow)
    tuning = QatModule(student, network, 60)
    optimizer = tuning.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] *= 20
    before = float(np.abs(predict(student, x) - predict(network, x)).mean())
    statistics = [norm.running_mean.clone() for norm in student.modules() if isinstance(norm, nn.BatchNorm2d)]  # type: ignore[union-attr]
    student.train()
    for step in range(60):
        loss = tuning.training_step((x, torch.zeros(len(x), dtype=torch.int64)), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = float(np.abs(predict(student, x) - predict(network, x)).mean())
    assert tuning.losses[-1] < 0.5 * tuning.losses[0]
    assert after < 0.85 * before  # measured: 0.77
    assert any(new.high > old.high * 1.1 for new, old in zip(student.ranges(), narrow, strict=True))
    norms = [norm for norm in student.modules() if isinstance(norm, nn.BatchNorm2d)]
    for norm, old in zip(norms, statistics, strict=True):
        assert norm.running_mean is not None
        assert torch.equal(norm.running_mean, old)


def test_a_loss_that_is_not_finite_ends_it(network: MatchboxNet) -> None:
    x = inputs()
    spoilt = copy.deepcopy(network)
    spoilt.decoder.weight.data.fill_(float("nan"))
    tuning = QatModule(QuantizedNetwork(spoilt, ranges_of(network, x)), network, 1)
    with pytest.raises(CheckFailed, match="diverged"):
        tuning.training_step((x, torch.zeros(len(x), dtype=torch.int64)), 0)
