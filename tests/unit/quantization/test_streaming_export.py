"""A streaming checkpoint becomes one .tflite, its window; TFLite Micro and the simulator run it to the same bytes."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mbx_deploy.compiler.lower import lower
from mbx_deploy.data.context import in_context
from mbx_deploy.data.dataset import SILENCE
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network import ir
from mbx_deploy.network.metadata import read_metadata
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.quantization.agreement import Bounds
from mbx_deploy.quantization.clips import SplitFeatures
from mbx_deploy.quantization.convert import export_onnx, io_quantization, natural_units, reference_logits
from mbx_deploy.quantization.export import QatOptions, export_checkpoint
from mbx_deploy.quantization.sqnr import measure_model
from mbx_deploy.sim import recognizer as sim_model
from mbx_deploy.sim.frontend import quantize_features
from mbx_deploy.train.checkpoint import CheckpointInfo, save_checkpoint
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.evaluation import to_inputs
from mbx_deploy.train.matchboxnet import MatchboxNet, build_matchboxnet

pytestmark = pytest.mark.slow

LABELS = ("left", "right", "unknown", SILENCE)
CONFIG = TrainConfig.from_dict(
    {
        "labels": list(LABELS),
        "model": {
            "streaming": True,
            "pool_frames": 60,
            "step_frames": 20,
            "blocks": 2,
            "channels": 8,
            "prologue_filters": 16,
            "kernels": [13, 5],
            "epilogue_filters": 16,
        },
    }
)
# An untrained network's logits lie closer together than a trained one's.
LOOSE = Bounds(largest_float_error=1e-4, least_same_label=0.5, largest_int8_rms=0.5)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three words, eight clips each, two of them for each list."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for number, word in enumerate(("cat", "left", "right")):
        (root / word).mkdir()
        for clip in range(8):
            wave = np.sin(np.arange(16000) * (0.1 + 0.2 * number + 0.01 * clip)) * np.hanning(16000)
            name = f"{word}/{clip:02d}_nohash_0.wav"
            soundfile.write(root / name, (wave * 6000 + rng.normal(0, 50, 16000)).astype(np.int16), 16000)
            if clip < 4:
                lists["validation_list.txt" if clip < 2 else "testing_list.txt"].append(name)
    for list_name, names in lists.items():
        (root / list_name).write_text("\n".join(names) + "\n")
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_/hum.wav", rng.normal(0, 500, 160000).astype(np.int16), 16000)
    return root


@pytest.fixture(scope="module")
def features(data_root: Path) -> SplitFeatures:
    return SplitFeatures(data_root, LABELS, CONFIG.frontend, streaming=True)


@pytest.fixture(scope="module")
def module(features: SplitFeatures) -> MatchboxNet:
    """An untrained network whose statistics are the data's, and whose logits differ from clip to clip."""
    torch.manual_seed(7)
    net = build_matchboxnet(CONFIG.model)
    inputs = to_inputs(natural_units(features.draw("training", 16)))
    with torch.no_grad():
        net.train()
        for _ in range(30):
            net(inputs)
        net.eval()
        net.decoder.weight.mul_(4.0 / net(inputs).std(dim=0)[:, None])
        net.decoder.bias.sub_(net(inputs).mean(dim=0))
    return net


@pytest.fixture(scope="module")
def exported(module: MatchboxNet, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    save_checkpoint(folder / "model.pt", module, CheckpointInfo(CONFIG.model, CONFIG.frontend, LABELS, {"epochs": 0}))
    export_checkpoint(folder / "model.pt", data_root, folder / "model.tflite", ranges="minmax", bounds=LOOSE)
    return folder / "model.tflite"


def test_no_bound_of_a_slice_is_a_node(module: MatchboxNet) -> None:
    """onnx2tf cuts another axis of one whose bounds are."""
    import onnx

    graph = onnx.load_from_string(export_onnx(module, CONFIG.model.input_frames, 64)).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Slice") == 2
    assert "Constant" not in kinds


def test_the_file_is_the_window(exported: Path) -> None:
    network = parse_tflite(exported.read_bytes(), "x")
    assert network.tensors[network.input].shape == (1, 1, CONFIG.model.window_frames, 64)
    slices = [op for op in network.ops if isinstance(op, ir.Slice)]
    assert [(op.begin, op.stride) for op in slices] == [((0, 0, 12, 0), (1, 1, 1, 1)), ((0, 0, 4, 0), (1, 1, 1, 1))]
    for op in network.ops:
        if isinstance(op, ir.Conv2D | ir.DepthwiseConv2D):
            frames = [network.tensors[index].shape[2] for index in (op.input, op.output)]
            taps = network.tensors[op.weights].shape[2]
            assert frames[1] == frames[0] - op.dilation[1] * (taps - 1)
    for op in slices:
        one, other = network.tensors[op.input], network.tensors[op.output]
        assert (one.scale, one.zero_point) == (other.scale, other.zero_point)


def test_its_metadata_say_how_it_streams(exported: Path) -> None:
    found = read_metadata(exported.read_bytes())
    assert found is not None
    receptive = CONFIG.model.receptive_frames()
    assert found["streaming"] == {
        "receptive_frames": receptive,
        "pool_frames": 60,
        "step_frames": 20,
        "tail_frames": (receptive - 1) // 2 + 30,
    }
    decision = found["decision"]
    assert [each > 32768 for each in decision["thresholds_q15"]] == [False, False, True, True]
    for low, high in zip(decision["release_q15"][:2], decision["thresholds_q15"][:2], strict=True):
        assert 0 < low < high <= 32768
    assert FrontendConfig.from_dict(found["frontend"]).num_frames == receptive - 1 + 60
    json.dumps(found)


def test_tflite_micro_the_references_and_the_simulator_agree(exported: Path, features: SplitFeatures) -> None:
    micro = pytest.importorskip("tflite_micro")
    data = exported.read_bytes()
    first, _ = io_quantization(data)
    x = quantize_features(features.draw("validation", 8), first.scale, first.zero_point)
    expected = reference_logits(data, x)
    program = lower(parse_tflite(data, "x"))
    interpreter = micro.runtime.Interpreter.from_bytes(data)
    for clip, logits in zip(x, expected, strict=True):
        interpreter.set_input(clip[None, None], 0)
        interpreter.invoke()
        assert np.array_equal(interpreter.get_output(0)[0], logits)
        assert np.array_equal(sim_model.logits(clip, program), logits)
    assert len(np.unique(expected, axis=0)) > 3


def test_int8_says_what_float_says(module: MatchboxNet, exported: Path, features: SplitFeatures) -> None:
    found = read_metadata(exported.read_bytes())
    assert found is not None
    assert found["accuracy"]["clips"] == 6 + 2
    assert abs(found["accuracy"]["commands_float"] - found["accuracy"]["commands_int8"]) <= 0.5


def test_qat_is_refused(module: MatchboxNet, data_root: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="streaming"):
        export_checkpoint(exported.with_name("model.pt"), data_root, tmp_path / "x.tflite", qat=QatOptions())


def test_context_leaves_the_clip_at_the_end_and_comes_before_it() -> None:
    clips = np.stack([np.full(16000, level, np.int16) for level in (1000, 2000, 300)])
    spoken = np.array([True, True, False])
    windows = in_context(clips, spoken, (), 33760)
    for number in (0, 1):
        own = np.flatnonzero(windows[number] == clips[number, 0])
        quiet = 33760 - 1 - own[-1]
        assert 0 <= quiet <= 0.3 * 16000
        assert len(own) >= 16000
        assert np.any(windows[number, : 33760 - 16000 - quiet])
    assert np.all(windows[2] == 300)
    assert np.array_equal(windows, in_context(clips, spoken, (), 33760))
    assert not np.array_equal(windows[:2], in_context(clips, spoken, (), 33760, seed=1)[:2])


def test_each_layer_is_measured_in_running_audio(exported: Path, data_root: Path) -> None:
    report = measure_model(exported, data_root, exported.with_name("model.pt"), clips=8)
    assert report.clips >= 6
    assert report.worst.own_db is not None
    assert report.worst.own_db > 15
