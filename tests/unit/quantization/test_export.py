"""From a checkpoint to the artifact: the conversion, its checks, and what is refused."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
import soundfile
import torch
from ai_edge_litert import schema_py_generated as schema

from mbx_deploy.compiler.model import parse_model
from mbx_deploy.data import synthesis
from mbx_deploy.data.dataset import list_utterances
from mbx_deploy.engines.session import ITEM_FEATURES, TRACE_LAYERS, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.engines.tflm import TflmEngine
from mbx_deploy.errors import CheckFailed, InputError, ToolMissing
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.measure.card import build_card
from mbx_deploy.measure.catalogue import model_card
from mbx_deploy.network import ir
from mbx_deploy.network.float_network import read_float_network
from mbx_deploy.network.metadata import read_metadata
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.quantization import convert as quantize
from mbx_deploy.quantization import export
from mbx_deploy.quantization.agreement import Agreement, Bounds, bounds_of, check_agreement, compare
from mbx_deploy.quantization.clips import draw_clips
from mbx_deploy.quantization.convert import (
    Conversion,
    check_graph,
    convert_module,
    io_quantization,
    quantize_module,
    reference_logits,
    require_export_extra,
)
from mbx_deploy.quantization.export import CardRequest, QatOptions, export_checkpoint
from mbx_deploy.quantization.qat import fine_tune
from mbx_deploy.quantization.ranges import RULES, observe
from mbx_deploy.quantization.requantize import set_ranges
from mbx_deploy.system.tools import find_tool
from mbx_deploy.train.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint, weights_digest
from mbx_deploy.train.matchboxnet import MatchboxNet, MatchboxNetConfig, build_matchboxnet

LABELS = ("left", "right", "unknown", "silence")
WORDS = ("cat", "left", "right")
FRONTEND = FrontendConfig(window_length=480, hop_length=320, center=False, n_mels=40, n_mfcc=10)
CONFIG = MatchboxNetConfig(
    num_classes=len(LABELS),
    blocks=1,
    channels=8,
    prologue_filters=16,
    kernels=(13,),
    epilogue_filters=16,
    input_coefficients=FRONTEND.num_coefficients,
    input_frames=FRONTEND.num_frames,
)
# An untrained network's logits lie closer together than a trained one's.
LOOSE = Bounds(largest_float_error=1e-4, least_same_label=0.5, largest_int8_rms=0.5)
OPS = (
    *("DEPTHWISE_CONV_2D", "CONV_2D"),
    *("DEPTHWISE_CONV_2D", "CONV_2D", "CONV_2D", "ADD"),
    *("DEPTHWISE_CONV_2D", "CONV_2D", "CONV_2D"),
    *("MEAN", "FULLY_CONNECTED"),
)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the layout of Speech Commands: 12 clips a word, 3 of them for each list."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for number, word in enumerate(WORDS):
        (root / word).mkdir()
        for clip in range(12):
            time_s = np.arange(16000) / 16000
            tone = np.sin(2 * np.pi * (300 + 500 * number + 20 * clip) * time_s) * time_s
            wave = (tone + rng.normal(0, 0.05, 16000)) * rng.uniform(100, 8000)
            name = f"{word}/{clip:02d}_nohash_0.wav"
            soundfile.write(root / name, wave.astype(np.int16), 16000)
            if clip < 6:
                lists["validation_list.txt" if clip < 3 else "testing_list.txt"].append(name)
    for list_name, names in lists.items():
        (root / list_name).write_text("\n".join(names) + "\n")
    (root / "_background_noise_").mkdir()
    noise = rng.normal(0, 500, 160000).astype(np.int16)
    soundfile.write(root / "_background_noise_/hum.wav", noise, 16000)
    return root


@pytest.fixture(scope="module")
def calibration(data_root: Path) -> np.ndarray:
    clips = draw_clips(data_root, "training", LABELS, FRONTEND, 24)
    return HostFrontend(FRONTEND).coefficients(clips).astype(np.float32) / np.float32(65536)


@pytest.fixture(scope="module")
def module(calibration: np.ndarray) -> MatchboxNet:
    """An untrained network whose statistics are the data's, and whose logits differ from clip to clip."""
    torch.manual_seed(7)
    net = build_matchboxnet(CONFIG)
    inputs = torch.from_numpy(calibration.transpose(0, 2, 1)[:, :, None].copy())
    norms = [layer for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None
        net.train()
        net(inputs)
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0.0, 0.3)
        net.eval()
        logits = net(inputs)
        net.decoder.weight.mul_(4.0 / logits.std(dim=0)[:, None])
        net.decoder.bias.sub_(net(inputs).mean(dim=0))
    return net


@pytest.fixture(scope="module")
def conversion(module: MatchboxNet, calibration: np.ndarray) -> Conversion:
    return convert_module(module, calibration)


@pytest.fixture
def checkpoint(tmp_path: Path, module: MatchboxNet) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(path, module, CheckpointInfo(CONFIG, FRONTEND, LABELS, {"epochs": 0}))
    return path


def changed(data: bytes, change: Callable[[Any], None]) -> bytes:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    change(model)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


# The data


def test_clips_are_drawn_evenly_and_repeatably(data_root: Path) -> None:
    first = draw_clips(data_root, "training", LABELS, FRONTEND, 10)
    assert first.shape == (10, 16000)
    assert first.dtype == np.int16
    assert np.array_equal(first, draw_clips(data_root, "training", LABELS, FRONTEND, 10))
    # 6 clips a word are for training; silence is made as long as it is asked for
    assert len(draw_clips(data_root, "training", LABELS, FRONTEND, 100)) == 6 + 6 + 6 + 25


def test_clips_are_drawn_from_a_manifest(data_root: Path, tmp_path: Path) -> None:
    lines = [{"audio_filepath": str(u.path), "command": u.label} for u in list_utterances(data_root, "training")]
    (tmp_path / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = (draw_clips(x, "training", LABELS[:3], FRONTEND, 10) for x in (data_root, tmp_path / "train.json"))
    assert np.array_equal(first, second)


def test_splits_share_no_clip(data_root: Path) -> None:
    drawn = {
        split: {clip.tobytes() for clip in draw_clips(data_root, split, LABELS[:3], FRONTEND, 100)}
        for split in ("training", "validation", "testing")
    }
    assert [len(clips) for clips in drawn.values()] == [18, 9, 9]
    assert len(set().union(*drawn.values())) == 36


@pytest.mark.skipif(find_tool("espeak-ng") is None, reason="espeak-ng is not installed")
def test_other_words_are_spoken_where_the_data_hold_none(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = (*WORDS, "unknown")
    count, words = 3 * len(labels), 3 * len(WORDS)
    clips = draw_clips(data_root, "training", labels, FRONTEND, count)
    assert len(clips) == count and all(clip.max() > 100 for clip in clips[words:])
    assert np.array_equal(clips, draw_clips(data_root, "training", labels, FRONTEND, count))

    def missing(*_: object) -> str:
        raise ToolMissing("espeak-ng is not installed")

    monkeypatch.setattr(synthesis, "need_tool", missing)
    assert np.array_equal(clips[:words], draw_clips(data_root, "training", labels, FRONTEND, count))


def test_a_label_without_clips_is_refused(data_root: Path) -> None:
    with pytest.raises(InputError, match="none of 'stop'"):
        draw_clips(data_root, "training", ("left", "stop"), FRONTEND, 10)


# The bounds


def test_agreement_within_the_bounds_is_taken() -> None:
    check_agreement(Agreement(100, 1e-7, 1e-7, 0.99, 0.03), Bounds())


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"onnx_error": 1e-4}, "ONNX"),
        ({"float_tflite_error": 1e-4}, "float TFLite"),
        ({"same_label": 0.9}, "same label"),
        ({"int8_rms": 0.2}, "rms"),
        ({"onnx_error": float("nan")}, "ONNX"),
        ({"same_label": float("nan")}, "same label"),
    ],
)
def test_disagreement_is_refused_by_name(change: dict[str, float], name: str) -> None:
    values = {"onnx_error": 1e-7, "float_tflite_error": 1e-7, "same_label": 0.99, "int8_rms": 0.03}
    with pytest.raises(CheckFailed, match=name):
        check_agreement(Agreement(clips=100, **{**values, **change}), Bounds())


def test_a_user_may_say_how_often_int8_must_agree() -> None:
    worse = Agreement(100, 1e-7, 1e-7, 0.965, 0.2)
    with pytest.raises(CheckFailed) as caught:
        check_agreement(worse, Bounds(), "; --min-agreement 96 takes it as it is")
    assert "--min-agreement 96" in (caught.value.hint or "")
    chosen = bounds_of(0.96)
    assert chosen is not None and bounds_of(None) is None
    check_agreement(worse, chosen)
    with pytest.raises(CheckFailed, match=r"share of clips with the same label.*got 0.955, need at least 0.96"):
        check_agreement(Agreement(100, 1e-7, 1e-7, 0.955, 0.2), chosen)
    with pytest.raises(CheckFailed, match="ONNX") as caught:
        check_agreement(Agreement(100, 1.0, 1e-7, 1.0, 0.0), chosen, "; --min-agreement")
    assert "--min-agreement" not in (caught.value.hint or "")


# What is missing


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "find_spec", lambda name: None if name == "onnx2tf" else name)
    with pytest.raises(ToolMissing, match="onnx2tf") as caught:
        require_export_extra()
    assert caught.value.hint == "pip install mbx-deploy[export]"


def test_calibration_of_another_kind_is_refused(module: MatchboxNet) -> None:
    with pytest.raises(ValueError, match="float32"):
        quantize_module(module, np.zeros((4, 49, 10)))
    with pytest.raises(InputError, match="not finite"):
        quantize_module(module, np.full((4, 49, 10), np.nan, np.float32))


@pytest.mark.parametrize("name", ["calibration_clips", "check_clips"])
def test_no_clips_are_refused(name: str, checkpoint: Path, data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=name):
        export_checkpoint(checkpoint, data_root, tmp_path / "m.tflite", **{name: 0})  # type: ignore[arg-type]


def test_a_folder_as_output_is_refused(checkpoint: Path, data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        export_checkpoint(checkpoint, data_root, tmp_path)


# The conversion


@pytest.mark.slow
def test_the_ops_are_those_of_the_compiler(conversion: Conversion) -> None:
    assert check_graph(conversion.int8_tflite, 49, 10) == OPS


@pytest.mark.slow
def test_the_same_module_gives_the_same_bytes(
    module: MatchboxNet, calibration: np.ndarray, conversion: Conversion
) -> None:
    was_training = module.training
    assert convert_module(module, calibration) == conversion
    assert module.training == was_training


@pytest.mark.slow
def test_the_reference_is_tflite_micro(conversion: Conversion) -> None:
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    micro = runtime.Interpreter.from_bytes(conversion.int8_tflite)
    rng = np.random.default_rng(2)
    features = np.concatenate(
        [
            rng.integers(-128, 128, (30, 49, 10), dtype=np.int8),
            np.full((1, 49, 10), -128, np.int8),
            np.full((1, 49, 10), 127, np.int8),
        ]
    )
    expected = []
    for clip in features:
        micro.set_input(clip[None, None], 0)
        micro.invoke()
        expected.append(micro.get_output(0)[0])
    assert np.array_equal(reference_logits(conversion.int8_tflite, features), expected)


@pytest.mark.slow
def test_the_formats_agree(module: MatchboxNet, conversion: Conversion, calibration: np.ndarray) -> None:
    coefficients = np.rint(calibration * 65536).astype(np.int32)
    agreement = compare(module, conversion, coefficients)
    check_agreement(agreement, LOOSE)
    other = compare(module, conversion, coefficients, lambda data, x: np.zeros((len(x), 4), np.int8))
    assert other.int8_rms > 0.5


@pytest.mark.slow
def test_minmax_ranges_are_the_converters(conversion: Conversion, calibration: np.ndarray) -> None:
    """Written without the converter, scales and biases are its own, but for the convolution that an ADD overwrites.

    The converter's calibration sees there what the ADD left in the same memory.
    """
    old = parse_tflite(conversion.int8_tflite, "the converter's")
    network = read_float_network(old, conversion.float_tflite)
    ranges = [RULES["minmax"](histogram) for histogram in observe(network, calibration)]
    new = parse_tflite(set_ranges(conversion.int8_tflite, network, ranges), "ours")
    overwritten = [op.input for op in old.ops if isinstance(op, ir.Add)]
    for index, (before, after) in enumerate(zip(old.tensors, new.tensors, strict=True)):
        if index in overwritten:
            assert after.scale <= before.scale * 1.0001
            continue
        np.testing.assert_allclose(after.scales, before.scales, rtol=1e-5)
        assert after.zero_point == before.zero_point
        if before.data is not None and before.dtype == "int8":
            np.testing.assert_array_equal(after.data, before.data)
        elif before.data is not None and before.scales:
            np.testing.assert_allclose(after.data, before.data, atol=1)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_foreign_op_is_named(conversion: Conversion) -> None:
    def reshape(model: Any) -> None:
        for code in model.operatorCodes:
            if code.builtinCode == schema.BuiltinOperator.MEAN:
                code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE

    with pytest.raises(CheckFailed, match=r"op 9\): got RESHAPE"):
        check_graph(changed(conversion.int8_tflite, reshape), 49, 10)


@pytest.mark.slow
@pytest.mark.parametrize("op", [0, 1, 10])
def test_weights_of_one_scale_are_refused(op: int, conversion: Conversion) -> None:
    def one_scale(model: Any) -> None:
        graph = model.subgraphs[0]
        weights = graph.tensors[graph.operators[op].inputs[1]]
        weights.quantization.scale = weights.quantization.scale[:1]
        weights.quantization.zeroPoint = weights.quantization.zeroPoint[:1]

    with pytest.raises(CheckFailed, match=rf"op {op}, .*one a channel"):
        check_graph(changed(conversion.int8_tflite, one_scale), 49, 10)


@pytest.mark.slow
def test_float_activations_are_refused(conversion: Conversion) -> None:
    with pytest.raises(CheckFailed, match=r"op 0, DEPTHWISE_CONV_2D: activation"):
        check_graph(conversion.float_tflite, 49, 10)


@pytest.mark.slow
def test_another_input_shape_is_refused(conversion: Conversion) -> None:
    with pytest.raises(CheckFailed, match="input's shape"):
        check_graph(conversion.int8_tflite, 10, 49)


@pytest.mark.slow
def test_no_net_is_needed_where_the_converter_would_fetch_a_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    torch.manual_seed(1)
    features = np.random.default_rng(1).normal(size=(8, 20, 3)).astype(np.float32)
    config = MatchboxNetConfig(2, 1, 1, 4, 4, 3, (3,), 4, 3, 2, 3, 20)
    data = quantize_module(build_matchboxnet(config), features)
    assert io_quantization(data)[0].scale > 0


# The whole road


@pytest.mark.slow
def test_export_writes_an_artifact_that_says_what_it_is(checkpoint: Path, data_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "model.tflite"
    other = tmp_path / "other.pt"
    module, info = load_checkpoint(checkpoint)
    provenance = {"training": {"seed": 2}, "splits": {"training": {"clips": 18, "speakers": 6}}, "data_source": "tones"}
    with torch.no_grad():
        module.decoder.bias[LABELS.index("left")] = 100.0  # hears "left" in everything
    save_checkpoint(other, module, dataclasses.replace(info, provenance=provenance))
    report = export_checkpoint(
        *(checkpoint, data_root, output),
        calibration_clips=24,
        check_clips=12,
        bounds=LOOSE,
        card=CardRequest(build_card, (other,), other),
    )
    data = output.read_bytes()
    assert report.ops == OPS
    assert report.size_bytes == len(data)
    assert report.to_dict()["agreement"]["clips"] == 12
    assert report.accuracy is not None
    assert report.accuracy.command_clips == 6
    metadata = read_metadata(data)
    assert metadata is not None
    assert metadata["labels"] == list(LABELS)
    assert FrontendConfig.from_dict(metadata["frontend"]) == FRONTEND
    assert metadata["frontend_digest"] == FRONTEND.digest()
    assert metadata["training"] == {"epochs": 0, "weights_digest": weights_digest(load_checkpoint(checkpoint)[0])}
    assert metadata["accuracy"]["split"] == "testing"
    assert metadata["accuracy"]["command_clips"] == 6
    assert metadata["export"]["calibration"] == {"split": "training", "clips": 24, "seed": 0}
    assert str(tmp_path).encode() not in data
    assert io_quantization(data) == (report.input, report.logits)
    check_card(metadata["card"], report)
    text = model_card(str(output))
    assert "testing: 12 clips" in text and "-10 dB" in text and "trained without noise" in text


def check_card(card: dict[str, Any], report: export.ExportReport) -> None:
    assert card == report.card and report.accuracy is not None
    for kind, commands, balanced in (
        ("float", report.accuracy.commands_float, report.accuracy.balanced_float),
        ("int8", report.accuracy.commands_int8, report.accuracy.balanced_int8),
    ):
        assert card[kind]["command_accuracy"] == pytest.approx(commands, abs=1e-4)
        assert card[kind]["balanced_accuracy"] == pytest.approx(balanced, abs=1e-4)
        assert np.array(card[kind]["confusion"]).sum() == card["clips"] == report.accuracy.clips
        assert [row["snr_db"] for row in card[kind]["noise"]] == [None, 20.0, 10.0, 5.0, 0.0, -5.0, -10.0]
    # The other seed's model says "left" always: half of the words are right, in any noise.
    least, mean = (card["seeds"]["command_accuracy"][key] for key in ("least", "mean"))
    assert card["seeds"]["seeds"] == [None, 2] and least <= 0.5
    assert mean == pytest.approx((0.5 + card["float"]["command_accuracy"]) / 2, abs=1e-4)
    assert {row["command_accuracy"] for row in card["without_noise_training"]["noise"]} == {0.5}
    assert any("taken for a command word" in line for line in card["limits"])


@pytest.mark.slow
def test_export_writes_nothing_for_a_model_that_disagrees(
    checkpoint: Path,
    data_root: Path,
    tmp_path: Path,
    conversion: Conversion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "convert_module", lambda *_: conversion)
    output = tmp_path / "model.tflite"
    output.write_bytes(b"an older one")

    def wrong(data: bytes, features: np.ndarray) -> np.ndarray:
        return -reference_logits(data, features)

    with pytest.raises(CheckFailed, match="int8 TFLite against PyTorch") as caught:
        export_checkpoint(checkpoint, data_root, output, check_clips=12, int8_logits=wrong, bounds=LOOSE)
    assert re.search(r"--min-agreement \d+ takes it as it is", caught.value.hint or "")
    assert output.read_bytes() == b"an older one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "model.tflite"]


@pytest.mark.slow
def test_export_with_qat_ends_in_the_same_plain_network(checkpoint: Path, data_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    output = tmp_path / "model.tflite"
    always = QatOptions(epochs=1, margin_points=-1000.0)
    report = export_checkpoint(
        checkpoint, data_root, output, calibration_clips=24, check_clips=12, ranges="mse", qat=always, bounds=LOOSE
    )
    assert report.ops == OPS
    assert [each["rule"] for each in report.ranges["candidates"]] == ["mse", "qat"]
    metadata = read_metadata(output.read_bytes())
    assert metadata is not None
    assert metadata["export"]["qat"]["steps"] == 1
    assert metadata["export"]["qat"]["taken"] == (report.ranges["chosen"] == "qat")
    recognizer = parse_model(output.read_bytes(), "model")
    random = np.random.default_rng(1).integers(-128, 128, (4, 49, 10), np.int8)
    items = [Item(ITEM_FEATURES, features) for features in random]
    simulated, micro = (engine.run(items, TRACE_LAYERS) for engine in (SimEngine(recognizer), TflmEngine(recognizer)))
    for (one,), (other,) in zip(simulated, micro, strict=True):
        for name in one.stages:
            np.testing.assert_array_equal(one.stages[name], other.stages[name])


@pytest.mark.slow
def test_fine_tuning_is_repeatable_and_leaves_the_network_alone(
    module: MatchboxNet, conversion: Conversion, calibration: np.ndarray, data_root: Path
) -> None:
    network = read_float_network(parse_tflite(conversion.int8_tflite, "x"), conversion.float_tflite)
    ranges = [RULES["mse"](histogram) for histogram in observe(network, calibration)]
    info = CheckpointInfo(CONFIG, FRONTEND, LABELS, {})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first, second = (fine_tune(module, info, network, ranges, data_root, 2) for _ in range(2))
    assert first.ranges == second.ranges
    assert first.ranges != tuple(ranges)
    for name, value in first.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name])
        assert torch.equal(module.state_dict()[name], before[name])
    # Each activation keeps its own range, in the converter's order.
    for old, new in zip(ranges, first.ranges, strict=True):
        np.testing.assert_allclose([new.low, new.high], [old.low, old.high], rtol=0.02)
