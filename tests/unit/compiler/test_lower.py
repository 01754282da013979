"""Lowering: every borrowed formula against exact arithmetic, and what can't be computed safely is refused."""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.compiler.lower import fold_input_zero_points, lower
from mbx_deploy.compiler.multipliers import activation_range, mean_multiplier, quantize_multiplier
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.compiler.proofs import verify_program
from mbx_deploy.errors import InputError
from mbx_deploy.network.program import Addition, Average, Buffer, Convolution, Pointwise, Program, Requantization
from mbx_deploy.network.program import multiply_accumulates as count_multiply_accumulates
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.sim.recognizer import logits
from tests.made.c_kernels import run_program_c
from tests.made.tflite import Network, random_weights


def lowered(network: Network, output: int) -> Program:
    return lower(parse_tflite(network.build(output), "test"))


def one_convolution(
    size: tuple[int, int], kernel: tuple[int, int], channels: tuple[int, int] = (1, 1), **options: Any
) -> tuple[Network, int]:
    """Return a network of one convolution and its output. options: of Network.conv_2d()."""
    network = Network()
    network.activation((1, *size, channels[0]), options.pop("input_scale", 0.1), options.pop("input_zero_point", 0))
    weights = options.pop("weights", np.ones((channels[1], *kernel, channels[0]), np.int8))
    scale, bias = options.pop("scale", 0.1), options.pop("bias", None)
    weight_scales = options.pop("weight_scales", [0.1])
    return network, network.conv_2d(0, weights, weight_scales, bias, scale, options.pop("zero_point", 0), **options)


@settings(max_examples=300, deadline=None)
@given(st.floats(2.0**-31, 2.0**30) | st.sampled_from((1.0, 0.5, 2.0, 1 - 2.0**-53, 1 - 2.0**-33, 0.5 - 2.0**-54)))
def test_quantize_multiplier_is_within_half_a_unit(value: float) -> None:
    multiplier, shift = quantize_multiplier(value)
    assert 1 << 30 <= multiplier < 1 << 31
    exact = Fraction(value) * Fraction(2) ** (31 - shift)
    assert abs(exact - multiplier) <= Fraction(1, 2)
    if exact - multiplier == Fraction(1, 2):
        pytest.fail("a tie goes away from zero")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (1 << 30, 1)),
        (0.5, (1 << 30, 0)),
        (1 - 2.0**-40, (1 << 30, 1)),
        (2.0**-32, (1 << 30, -31)),
        (2.0**-33, (0, 0)),
        (2.0**-300, (0, 0)),
        ((2**31 - 0.5) / 2**31, (1 << 30, 1)),
        ((2**30 + 0.5) / 2**31, ((1 << 30) + 1, 0)),
    ],
)
def test_quantize_multiplier_at_its_edges(value: float, expected: tuple[int, int]) -> None:
    assert quantize_multiplier(value) == expected


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-5, 1e5), st.integers(1, 1 << 22))
def test_mean_multiplier(ratio: float, positions: int) -> None:
    """The relative error is that of the ratio, and a truncated division of at least 29 bits."""
    multiplier, shift = mean_multiplier(ratio, positions)
    exact = Fraction(ratio) / positions
    assert 0 < multiplier < 1 << 31 and shift >= -31
    if shift > -31:
        assert abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) / exact - 1) < Fraction(1, 1 << 28)


def test_the_multiplier_of_a_mean_is_truncated() -> None:
    """2^31 / 3 is 715827882.67; TFLite divides integers."""
    assert mean_multiplier(1.0, 3) == (715827882, 0)


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("NONE", 0.1, 5, (-128, 127)),
        ("RELU", 0.1, 5, (5, 127)),
        ("RELU", 0.1, -128, (-128, 127)),
        ("RELU6", 0.1, -128, (-128, -68)),
        ("RELU6", 0.1, 127, (127, 127)),
        ("RELU6", 0.04, -128, (-128, 22)),
        ("RELU6", 4.0, 0, (0, 2)),  # 1.5 is a tie: away from zero
        ("RELU6", 1e-6, 0, (0, 127)),
        ("RELU6", 100.0, 7, (7, 7)),
    ],
)
def test_activation_range(activation: str, scale: float, zero_point: int, expected: tuple[int, int]) -> None:
    assert activation_range(activation, np.float32(scale), zero_point) == expected


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "pad"),
    [
        ((1, 10), (1, 3), (1, 1), (1, 1), (0, 1)),
        ((1, 10), (1, 4), (1, 1), (1, 1), (0, 1)),  # 3 in all: the odd one behind
        ((1, 101), (1, 29), (1, 1), (1, 2), (0, 28)),
        ((7, 8), (3, 3), (2, 2), (1, 1), (1, 0)),
        ((5, 5), (1, 1), (3, 3), (1, 1), (0, 0)),  # nothing is padded, not a negative number
        ((2, 2), (9, 9), (1, 1), (1, 1), (4, 4)),
    ],
)
def test_same_padding(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pad: tuple[int, int],
) -> None:
    call = lowered(*one_convolution(size, kernel, stride=stride, dilation=dilation)).calls[0]
    assert isinstance(call, Convolution)
    assert call.pad == pad
    call = lowered(*one_convolution((30, 30), kernel, stride=stride, padding="VALID")).calls[0]
    assert isinstance(call, Convolution)
    assert call.pad == (0, 0)


def test_which_kernel_runs_what() -> None:
    def kind(kernel: tuple[int, int], **options: Any) -> type:
        return type(lowered(*one_convolution((4, 4), kernel, **options)).calls[0])

    assert kind((1, 1)) is kind((1, 1), padding="VALID") is Pointwise
    assert kind((1, 1), stride=(2, 1)) is kind((1, 2)) is Convolution
    network = Network()
    network.activation((1, 6), 0.1, 3)
    output = network.fully_connected(0, np.ones((2, 6), np.int8), [0.1], None, 0.1, 0)
    assert isinstance(lowered(network, output).calls[0], Pointwise)
    network = Network()
    x = network.activation((1, 2, 3, 4), 0.1, 3)
    output = network.mean(network.add(x, x, 0.2, 1), 0.1, 0)
    assert [type(call) for call in lowered(network, output).calls] == [Addition, Average]


def test_one_scale_serves_every_channel() -> None:
    call = lowered(*one_convolution((1, 3), (1, 1), (2, 5))).calls[0]
    assert isinstance(call, Pointwise)
    assert len(call.requantization.multiplier) == len(call.requantization.shift) == 5
    assert len(set(call.requantization.multiplier.tolist())) == 1


def test_multiply_accumulates() -> None:
    program = lowered(*one_convolution((4, 6), (3, 2), (5, 7)))
    assert count_multiply_accumulates(program) == 4 * 6 * 3 * 2 * 5 * 7
    program = lowered(*one_convolution((4, 6), (1, 1), (5, 7)))
    assert count_multiply_accumulates(program) == 4 * 6 * 5 * 7


def pointwise_program(
    weights: np.ndarray, bias: list[int], shift: int = 0, zero_point: int = 0, multiplier: int = 1 << 30
) -> Program:
    channels = len(bias)
    r = Requantization(
        np.array(bias, np.int64),
        np.full(channels, multiplier, np.int32),
        np.full(channels, shift, np.int8),
        zero_point,
        -128,
        127,
    )
    call = Pointwise("0_fully_connected", 0, 1, 1, weights, r)
    buffers = (Buffer("x", 1, 1, weights.shape[1]), Buffer("y", 1, 1, channels))
    return Program(buffers, (call,), 0, 1, 1.0, 0, 1.0, 0)


@settings(max_examples=100, deadline=None)
@given(st.integers(-128, 127), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_folding_the_zero_point_changes_no_sum(zero_point: int, inside: int, outside: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = random_weights(rng, (outside, inside))
    program = pointwise_program(weights, rng.integers(-99999, 99999, outside).tolist())
    folded = fold_input_zero_points(program, {0: zero_point, 1: 0})
    x = rng.integers(-128, 128, inside)
    before, after = program.calls[0], folded.calls[0]
    assert isinstance(before, Pointwise) and isinstance(after, Pointwise)
    expected = before.requantization.bias + weights.astype(int) @ (x - zero_point)
    np.testing.assert_array_equal(after.requantization.bias + weights.astype(int) @ x, expected)


# --- what must be refused ---

LIMIT = (1 << 31) - 1


def test_the_proof_is_sharp() -> None:
    """A bound of 2^31 - 1 passes, one more is refused; of either sign."""
    weights = np.array([[127, -128]], np.int8)
    rest = LIMIT - 128 * 255
    for sign in (1, -1):
        verify_program(pointwise_program(weights, [sign * rest]))
        with pytest.raises(InputError, match="overflow int32"):
            verify_program(pointwise_program(weights, [sign * (rest + 1)]))


@pytest.mark.parametrize("shift", [1, 8, 20, 30])
def test_the_proof_counts_the_left_shift(shift: int) -> None:
    weights = np.ones((1, 1), np.int8)
    rest = (LIMIT >> shift) - 128
    if rest >= 0:
        verify_program(pointwise_program(weights, [rest], shift))
    with pytest.raises(InputError, match="overflow int32"):
        verify_program(pointwise_program(weights, [max(rest, 0) + 1], shift))


def test_the_proof_names_the_channel() -> None:
    with pytest.raises(InputError, match=r"0_fully_connected, channel 2"):
        verify_program(pointwise_program(np.ones((4, 1), np.int8), [5, 5, LIMIT, 5]))


def test_the_zero_point_is_added_without_overflow() -> None:
    """The scaled accumulator may be 2^31 - 2: the C must not add the output's zero point to it in int32."""
    weights = np.ones((1, 1), np.int8)
    program = verify_program(pointwise_program(weights, [LIMIT - 128], 0, zero_point=127, multiplier=LIMIT))
    values = np.full((1, 1, 1), 127, np.int8)
    assert run_program_c(program, values).ravel().tolist() == logits(values, program).tolist() == [127]


@pytest.mark.parametrize("exponent", [9, 10, 13, 19, 20, 30, 60, 90])
def test_a_huge_ratio_of_scales_is_refused(exponent: int) -> None:
    """Shifts of 31 and more: numpy's and C's shifts know nothing of them, nor does int8 of 128."""
    third = 10.0 ** (exponent / 3)
    network, output = one_convolution((1, 3), (1, 1), input_scale=third, weight_scales=[third], scale=1 / third)
    with pytest.raises(InputError):
        lowered(network, output)


@pytest.mark.parametrize("ratio", [1e10, 1e20, 1e60])
def test_a_mean_that_magnifies_too_much_is_refused(ratio: float) -> None:
    network = Network()
    network.activation((1, 1, 1, 2), math.sqrt(ratio), 0)
    with pytest.raises(InputError):
        lowered(network, network.mean(0, 1 / math.sqrt(ratio), 0))


def test_a_product_of_scales_beyond_float32_is_refused() -> None:
    network = Network()
    network.activation((1, 2), 1e30, 0)
    output = network.fully_connected(0, np.ones((2, 2), np.int8), [1e30], None, 1.0, 0)
    with pytest.raises(InputError):
        lowered(network, output)


def test_a_tiny_output_scale_is_refused_or_lowered() -> None:
    network, output = one_convolution(
        (1, 3), (1, 1), input_scale=1e-30, weight_scales=[1e-11], scale=1e-41, activation="RELU6"
    )
    try:
        call = lowered(network, output).calls[0]
    except InputError:
        return
    assert isinstance(call, Pointwise) and call.requantization.high == 127


def test_an_addition_whose_scales_differ_too_much_is_refused() -> None:
    network = Network()
    x = network.activation((1, 1, 3, 2), 1e6, 0)
    with pytest.raises(InputError, match="ADD"):
        lowered(network, network.add(x, x, 1e-3, 0))


def huge(kind: str) -> tuple[Network, int]:
    """Return a legal network in which one number leaves the 16 bits that its field in the C has."""
    network = Network()
    if kind == "pointwise positions":
        return one_convolution((300, 300), (1, 1))
    if kind == "mean positions":
        x = network.activation((1, 300, 300, 1), 0.1, 0)
        return network, network.mean(x, 0.1, 0)
    if kind == "fully connected inputs":
        x = network.activation((1, 70, 1000, 1), 0.1, 0)
        return network, network.fully_connected(x, np.zeros((1, 70000), np.int8), [0.1], None, 0.1, 0)
    if kind == "kernel":
        return one_convolution((1, 3), (1, 70000), weights=np.zeros((1, 1, 70000, 1), np.int8))
    return one_convolution((1, 3), (1, 600), dilation=(1, 255))  # 76,371 columns of padding


@pytest.mark.parametrize(
    "kind", ["pointwise positions", "mean positions", "fully connected inputs", "kernel", "padding"]
)
def test_what_does_not_fit_16_bits_is_refused(kind: str) -> None:
    with pytest.raises(InputError):
        lowered(*huge(kind))


def test_a_network_without_ops_is_refused() -> None:
    network = Network()
    network.activation((1, 1, 3, 2), 1.0, 0)
    with pytest.raises(InputError):
        plan_memory(lowered(network, 0))


def test_a_call_that_reads_what_nothing_wrote() -> None:
    program = pointwise_program(np.ones((1, 1), np.int8), [0])
    broken = dataclasses.replace(program, calls=(dataclasses.replace(program.calls[0], input=1),))
    with pytest.raises(AssertionError, match="nothing wrote"):
        verify_program(broken)
