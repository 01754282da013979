"""The float engine: close to the integers on an artifact, equal to PyTorch on a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.engines.float import FloatEngine, softmax
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, Item
from mbx_deploy.engines.tflm import TflmEngine
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network import ir
from mbx_deploy.network.float_network import _convolve, dequantize_network, float_logits
from mbx_deploy.system.resources import shipped_model_path
from tests.made.tflite import Network, metadata_for, random_weights

CONFIG = FrontendConfig(clip_samples=4000, window_length=256, hop_length=128, n_fft=256, n_mels=16, n_mfcc=10)
LABELS = ("no", "yes", "silence")


def unsaturated_artifact(config: FrontendConfig) -> bytes:
    """Return an artifact with each op once whose activations have room: what int8 and float differ in is rounding."""
    rng = np.random.default_rng(5)
    coefficients = config.num_coefficients
    network = Network()
    x = network.activation((1, 1, config.num_frames, coefficients), 1.2, 11)
    weights, scales = random_weights(rng, (1, 1, 3, coefficients)), rng.uniform(0.002, 0.004, coefficients)
    x = network.conv_2d(x, weights, scales, rng.integers(-2000, 2000, coefficients), 1.0, -7, depthwise=True)
    filters = [random_weights(rng, (6, 1, 1, coefficients)) for _ in range(2)]
    left = network.conv_2d(x, filters[0], rng.uniform(0.001, 0.002, 6), rng.integers(-2000, 2000, 6), 0.8, -20)
    right = network.conv_2d(x, filters[1], rng.uniform(0.001, 0.002, 6), None, 0.8, -128, activation="RELU")
    x = network.add(left, right, 1.0, -10)
    x = network.mean(x, 0.3, -5)
    weights = random_weights(rng, (len(LABELS), 6))
    x = network.fully_connected(x, weights, [0.01], rng.integers(-90, 90, len(LABELS)), 0.9, 4)
    return network.build(x, metadata_for(config, LABELS))


def clips(count: int, length: int) -> list[np.ndarray]:
    """Noise, coloured and swelling differently from clip to clip."""
    rng = np.random.default_rng(7)
    found = []
    for number in range(count):
        noise = np.convolve(rng.normal(0, 1, length), rng.normal(0, 1, 30), "same")
        swell = np.exp(-(((np.arange(length) / length - rng.uniform(0.2, 0.8)) * 6) ** 2))
        found.append((noise * swell * 400 * 4 ** (number % 4)).clip(-32768, 32767).astype(np.int16))
    return found


def distances(engine: FloatEngine, recognizer: CompiledModel, samples: list[np.ndarray]) -> np.ndarray:
    """Return |float - dequantized| of every logit, in steps of the int8 output: (clips, classes)."""
    scale, zero_point = recognizer.program.output_scale, recognizer.program.output_zero_point
    results = TflmEngine(recognizer).run([Item(ITEM_CLIP, values) for values in samples])
    steps = []
    for values, windows in zip(samples, results, strict=True):
        # What int8 cannot hold is cut off in both.
        floats = np.clip(engine.logits(values) / scale + zero_point, -128, 127)
        steps.append(np.abs(floats - windows[0].logits))
    return np.array(steps)


def test_a_small_artifact_in_float_is_within_a_few_steps_of_int8(tmp_path: Path) -> None:
    path = tmp_path / "small.tflite"
    path.write_bytes(unsaturated_artifact(CONFIG))
    recognizer = load_model(path)
    program, config = recognizer.program, recognizer.config
    rng = np.random.default_rng(2)
    steps, found = [], []
    for _ in range(20):
        # The mean over time would make all noise alike: every frame is the same, but for a little.
        row = rng.integers(-60, 60, config.num_coefficients)
        features = (row + rng.integers(-9, 10, (config.num_frames, config.num_coefficients))).astype(np.int8)
        result = TflmEngine(recognizer).run([Item(ITEM_FEATURES, features.ravel())])[0][0]
        real = (features - float(program.input_zero_point)) * program.input_scale
        floats = (
            float_logits(dequantize_network(recognizer.network), real[None])[0] / program.output_scale
            + program.output_zero_point
        )
        steps.append(np.abs(floats - result.logits))
        found.append(result.logits.astype(int))
    assert np.ptp(found, axis=0).min() > 40, "the network hardly listens"
    assert np.min(found) > -128 and np.max(found) < 127
    assert np.max(steps) <= 4


def test_the_shipped_artifact_in_float_is_close_to_int8(shipped: CompiledModel) -> None:
    steps = distances(FloatEngine(shipped_model_path()), shipped, clips(12, 16000))
    assert np.sqrt((steps**2).mean()) <= 6  # measured: 4.4, of logits that spread over 190


def test_padding_frames_are_the_networks_zeros(tmp_path: Path) -> None:
    config = FrontendConfig(**{**CONFIG.to_dict(), "pad_frames_before": 3, "pad_frames_after": 2})
    path = tmp_path / "padded.tflite"
    path.write_bytes(unsaturated_artifact(config))
    engine = FloatEngine(path)
    features = engine.features(clips(1, config.clip_samples)[0])
    assert features.shape == (config.num_frames, config.num_coefficients)
    assert not features[:3].any() and not features[-2:].any() and features[3:-2].all(axis=1).any()
    assert distances(engine, load_model(path), clips(6, config.clip_samples)).max() <= 4


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [((1, 1), (1, 1), (1, 1)), ((1, 4), (1, 2), (1, 1)), ((3, 2), (2, 1), (1, 3)), ((1, 5), (1, 1), (1, 2))],
)
def test_convolution_is_pytorchs(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], depthwise: bool, padding: str
) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    source = rng.normal(size=(7, 11, 4))
    multiplier = 2
    shape = (1, *kernel, 4 * multiplier) if depthwise else (6, *kernel, 4)
    weights = rng.normal(size=shape)
    size = [ir.output_size(source.shape[i], kernel[i], stride[i], dilation[i], padding) for i in range(2)]
    output = (1, *size, 4 * multiplier if depthwise else 6)
    op: Any
    if depthwise:
        op = ir.DepthwiseConv2D(0, 1, None, 2, stride, dilation, padding, "NONE", multiplier)
    else:
        op = ir.Conv2D(0, 1, None, 2, stride, dilation, padding, "NONE")
    edges = []
    for i in (1, 0):  # TFLite's SAME: what is odd goes behind
        reach = max(0, (size[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - source.shape[i])
        edges += [reach // 2, reach - reach // 2] if padding == "SAME" else [0, 0]
    inputs = torch.nn.functional.pad(torch.from_numpy(source.transpose(2, 0, 1)[None]), edges)
    filters = torch.from_numpy(weights.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)).copy())
    expected = torch.nn.functional.conv2d(inputs, filters, None, stride, 0, dilation, 4 if depthwise else 1)
    got = _convolve(source[None], weights, op, output)
    np.testing.assert_allclose(got.reshape(output[1:]), expected[0].numpy().transpose(1, 2, 0), atol=1e-12)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of the smallest size, whose batch norms have seen something."""
    torch = pytest.importorskip("torch")
    from mbx_deploy.train.checkpoint import CheckpointInfo, save_checkpoint
    from mbx_deploy.train.matchboxnet import MatchboxNetConfig, build_matchboxnet

    model = MatchboxNetConfig(
        num_classes=len(LABELS),
        blocks=1,
        kernels=(3,),
        channels=4,
        prologue_filters=6,
        prologue_kernel=3,
        epilogue_filters=5,
        epilogue_kernel=5,
        input_coefficients=CONFIG.num_coefficients,
        input_frames=CONFIG.num_frames,
    )
    torch.manual_seed(11)
    module = build_matchboxnet(model).train()
    for _ in range(3):
        module(torch.randn(8, CONFIG.num_coefficients, 1, CONFIG.num_frames) * 9 - 4)
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    save_checkpoint(path, module.eval(), CheckpointInfo(model, CONFIG, LABELS, {"seed": 11}))
    return path


def test_a_checkpoint_gives_pytorchs_logits(checkpoint: Path) -> None:
    torch = pytest.importorskip("torch")
    from mbx_deploy.train.checkpoint import load_checkpoint

    engine = FloatEngine(checkpoint)
    assert (engine.labels, engine.config) == (LABELS, CONFIG)
    module, _ = load_checkpoint(checkpoint)
    found = []
    for samples in clips(4, CONFIG.clip_samples):
        features = engine.features(samples).astype(np.float32)
        with torch.no_grad():
            expected = module(torch.from_numpy(np.ascontiguousarray(features.T))[None, :, None, :])[0].numpy()
        found.append(engine.logits(samples))
        np.testing.assert_allclose(found[-1], expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(found, axis=0).max() > 1e-3, "the clips are told apart"


def test_a_checkpoint_is_not_disturbed_by_the_clip_before(checkpoint: Path) -> None:
    engine = FloatEngine(checkpoint)
    first, second = clips(2, CONFIG.clip_samples)
    once = engine.logits(first)
    engine.logits(second)
    np.testing.assert_array_equal(engine.logits(first), once)


def test_a_damaged_checkpoint_is_the_users_error(checkpoint: Path, tmp_path: Path) -> None:
    data = checkpoint.read_bytes()
    for number, content in enumerate((b"", b"text", data[: len(data) // 2])):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        with pytest.raises(InputError):
            FloatEngine(path)
    with pytest.raises(InputError, match="no such file"):
        FloatEngine(tmp_path / "missing.pt")


@pytest.mark.parametrize("logits", [[0.0, 0.0], [1000.0, -1000.0], [-1e9, -1e9, -1e9], [3.0]])
def test_softmax_sums_to_one_and_never_overflows(logits: list[float]) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        posteriors = softmax(np.array(logits))
    assert posteriors.sum() == pytest.approx(1)
    assert np.isfinite(posteriors).all()
