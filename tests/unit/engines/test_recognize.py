"""Recordings in, words out: through each engine that needs no emulator, and the features file."""

import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.data.audio import fit_clip
from mbx_deploy.engines import recognize as simulator
from mbx_deploy.engines.session import FRONTEND_STAGES
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.sim import recognizer as sim_model
from mbx_deploy.system.resources import shipped_model_path
from tests.made.tflite import small_artifact

INTEGER_ENGINES = ["sim", "c", "tflm"]
RATE_HZ = 16000


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def answers(*arguments: object) -> list[dict[str, Any]]:
    result = call("simulate", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return list(json.loads(result.stdout))


def noise(seed: int, samples: int = RATE_HZ, loudness: float = 2000.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, loudness, samples).astype(np.int16)


def write(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ) -> Path:
    soundfile.write(path, samples, rate_hz)
    return path


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Five recordings that the network tells apart."""
    samples = [noise(0), noise(1, loudness=20), np.zeros(RATE_HZ, np.int16), noise(2, 9000), noise(3, loudness=9e3)]
    return [write(tmp_path / f"{number}.wav", values) for number, values in enumerate(samples)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of an uncommon front end: no centring, log-mel, a window of half a second."""
    config = FrontendConfig(
        clip_samples=8000, window_length=480, hop_length=320, center=False, n_mels=20, n_mfcc=0, high_hz=7000.0
    )
    path = tmp_path_factory.mktemp("models") / "small.tflite"
    path.write_bytes(small_artifact(config, ("a", "b", "c")))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("engine", [*INTEGER_ENGINES, "float"])
def test_an_answer_is_complete_and_consistent(engine: str, clips: list[Path], shipped: CompiledModel) -> None:
    found = answers("kws10", *clips, "--engine", engine)
    assert [answer["file"] for answer in found] == [str(path) for path in clips]
    for answer in found:
        assert answer["engine"] == engine
        assert answer["labels"] == list(shipped.labels)
        assert answer["label"] == answer["labels"][int(np.argmax(answer["logits"]))]
        assert answer["score"] == max(answer["scores"]) == answer["scores"][answer["labels"].index(answer["label"])]
        assert sum(answer["scores"]) == pytest.approx(1, abs=1e-3)
        whole = all(isinstance(value, int) and -128 <= value <= 127 for value in answer["logits"])
        assert whole == (engine != "float")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["c", "tflm"])
def test_engines_give_the_simulators_numbers(engine: str, clips: list[Path], small: Path) -> None:
    for model in ("kws10", small):
        want, got = answers(model, *clips), answers(model, *clips, "--engine", engine)
        assert [answer["logits"] for answer in got] == [answer["logits"] for answer in want]
        assert [answer["scores"] for answer in got] == [answer["scores"] for answer in want]
        assert len({tuple(answer["logits"]) for answer in want}) == len(clips), "the clips are told apart"


def test_float_scores_are_the_softmax_of_its_logits(clips: list[Path]) -> None:
    for answer in answers("kws10", *clips, "--engine", "float"):
        weights = np.exp(answer["logits"])
        np.testing.assert_allclose(answer["scores"], weights / weights.sum(), rtol=1e-9)


def test_trace_is_a_line_a_stage_in_the_order_of_the_road(clips: list[Path], shipped: CompiledModel) -> None:
    stages = [*FRONTEND_STAGES, "features", *(call.name for call in shipped.program.calls)]
    lines = call("simulate", "kws10", *clips[:2], "--trace").stdout.splitlines()
    assert len(lines) == 2 * (1 + len(stages))
    for start in (0, 1 + len(stages)):
        told = [line.split()[0] for line in lines[start + 1 : start + 1 + len(stages)]]
        assert told == stages
    assert re.search(r"^  features +int8 +101 x 64 +[0-9a-f]{8}  -?\d+ -?\d+", lines[7])


def test_trace_in_json_is_of_the_values_that_the_stage_has(clips: list[Path], shipped: CompiledModel) -> None:
    traced = answers("kws10", clips[0], "--trace")[0]
    plain = answers("kws10", clips[0])[0]
    stages = {stage["name"]: stage for stage in traced.pop("stages")}
    assert traced == plain
    samples, _ = soundfile.read(clips[0], dtype="int16")
    features = sim_model.features(samples, shipped.tables, shipped.program)
    assert stages["features"] == {
        "name": "features",
        "shape": [101, 64],
        "dtype": "int8",
        "first": features.ravel()[:6].tolist(),
        "crc32": f"{zlib.crc32(features.tobytes()):08x}",
    }
    last = stages[shipped.program.calls[-1].name]
    assert last["crc32"] == f"{zlib.crc32(np.array(plain['logits'], np.int8).tobytes()):08x}"


@pytest.mark.slow
def test_traces_of_simulator_and_c_are_equal_in_every_stage(clips: list[Path], small: Path) -> None:
    for model in ("kws10", small):
        want = answers(model, *clips[2:4], "--trace")
        got = answers(model, *clips[2:4], "--trace", "--engine", "c")
        assert [answer["stages"] for answer in got] == [answer["stages"] for answer in want]


def test_traces_of_simulator_and_tflm_are_equal_from_the_features_on(clips: list[Path]) -> None:
    want = answers("kws10", clips[0], "--trace")[0]["stages"]
    got = answers("kws10", clips[0], "--trace", "--engine", "tflm")[0]["stages"]
    assert got == want[len(FRONTEND_STAGES) :]


def test_float_is_traced_too(clips: list[Path]) -> None:
    stages = answers("kws10", clips[0], "--trace", "--engine", "float")[0]["stages"]
    assert [(stage["name"], stage["dtype"]) for stage in stages] == [("features", "float64"), ("logits", "float64")]


def test_a_stereo_file_is_converted_with_a_note_and_json_stays_clean(tmp_path: Path) -> None:
    mono = write(tmp_path / "mono.wav", noise(5))
    stereo = write(tmp_path / "stereo.wav", np.stack([noise(5)] * 2, axis=1))
    result = call("simulate", "kws10", mono, stereo, "--json")
    first, second = json.loads(result.stdout)
    assert first["logits"] == second["logits"]
    assert result.stderr == f"note: {stereo}: converted from stereo to mono (mean)\n"


def test_another_rate_is_converted_with_a_note(tmp_path: Path, shipped: CompiledModel) -> None:
    time = np.arange(44100) / 44100
    tone = 8000 * np.sin(2 * np.pi * 440 * time)
    path = write(tmp_path / "cd.wav", np.stack([tone, tone], axis=1).astype(np.int16), 44100)
    same = write(tmp_path / "same.wav", (8000 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.int16))
    result = call("simulate", "kws10", path, "--json")
    notes = result.stderr.splitlines()
    assert len(notes) == 2 and all(note.startswith(f"note: {path}: converted from ") for note in notes)
    assert "44100 Hz to 16000 Hz" in notes[1]
    found, expected = json.loads(result.stdout)[0], answers("kws10", same)[0]
    assert found["label"] == expected["label"]
    # Resampled and rounded anew: alike, not equal.
    assert np.abs(np.subtract(found["logits"], expected["logits"])).max() <= 8


@pytest.mark.slow
@pytest.mark.parametrize("engine", INTEGER_ENGINES)
def test_a_recording_of_8_samples_is_followed_by_silence(engine: str, tmp_path: Path) -> None:
    samples = np.array([9000, -9000, 20000, 5, -32768, 32767, 1, 77], np.int16)
    short = write(tmp_path / "short.wav", samples)
    whole = write(tmp_path / "whole.wav", np.concatenate([samples, np.zeros(RATE_HZ - 8, np.int16)]))
    result = call("simulate", "kws10", short, whole, "--engine", engine, "--json")
    first, second = json.loads(result.stdout)
    assert first["logits"] == second["logits"]
    assert result.stderr == ""


@pytest.mark.parametrize("engine", INTEGER_ENGINES)
def test_of_a_long_recording_the_loudest_window_is_used(engine: str, tmp_path: Path) -> None:
    long = np.concatenate([noise(1, 4000, 5), noise(2, RATE_HZ, 5000), noise(3, 4000, 5)])
    path = write(tmp_path / "long.wav", long)
    window = write(tmp_path / "window.wav", fit_clip(long, RATE_HZ))
    assert np.array_equal(fit_clip(long, RATE_HZ), long[4000:20000])
    result = call("simulate", "kws10", path, window, "--engine", engine, "--json")
    first, second = json.loads(result.stdout)
    assert first["logits"] == second["logits"]
    assert result.stderr == f"note: {path}: 1.50 s long, its loudest 1 s are used\n"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sim", "c"])
def test_more_recordings_than_go_at_once_keep_their_order(
    engine: str, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    single = [answers("kws10", path, "--engine", engine)[0] for path in clips]
    monkeypatch.setattr(simulator, "ITEMS_AT_ONCE", 2)
    order = [4, 0, 0, 3, 2, 1, 4]
    assert answers("kws10", *(clips[i] for i in order), "--engine", engine) == [single[i] for i in order]


def test_an_answer_names_the_three_best_scores_first(clips: list[Path]) -> None:
    answer = answers("kws10", clips[0])[0]
    line = simulator.render_answer(answer)
    told = [float(score) for score in re.findall(r"(?<= )\d\.\d{3}", line)]
    assert told == [float(f"{score:.3f}") for score in sorted(answer["scores"], reverse=True)[:3]]


def test_a_checkpoint_is_for_the_float_engine_only(clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"anything")
    for engine in INTEGER_ENGINES:
        result = call("simulate", tmp_path / "model.pt", clips[0], "--engine", engine)
        assert result.exit_code == 2
        assert "takes a .tflite model" in result.stderr and "--engine float" in result.stderr


@pytest.mark.parametrize("model", ["kws10", "small"])
def test_features_are_the_simulators(
    model: str, clips: list[Path], small: Path, shipped: CompiledModel, tmp_path: Path
) -> None:
    recognizer = shipped if model == "kws10" else load_model(small)
    output = tmp_path / "folder" / "features.npz"
    result = call("features", model if model == "kws10" else small, *clips, "-o", output)
    config = recognizer.config
    assert result.stdout == (
        f"{output}: {len(clips)} x {config.num_frames} x {config.num_coefficients} (clips x frames x coefficients)\n"
    )
    with np.load(output, allow_pickle=False) as stored:
        assert set(stored) == {"features", "scale", "zero_point", "files"}
        assert stored["features"].dtype == np.int8
        assert stored["features"].shape == (len(clips), config.num_frames, config.num_coefficients)
        assert float(stored["scale"]) == float(np.float32(recognizer.program.input_scale))
        assert int(stored["zero_point"]) == recognizer.program.input_zero_point
        assert stored["files"].tolist() == [str(path) for path in clips]
        for path, row in zip(clips, stored["features"], strict=True):
            samples = fit_clip(soundfile.read(path, dtype="int16")[0], config.clip_samples)
            np.testing.assert_array_equal(row, sim_model.features(samples, recognizer.tables, recognizer.program))


def test_features_twice_are_the_same_bytes_and_nothing_else_is_left(clips: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    files = []
    for _ in range(2):
        assert call("features", "kws10", clips[0], "-o", folder / "f.npz").exit_code == 0
        files.append((folder / "f.npz").read_bytes())
    assert files[0] == files[1]
    assert [path.name for path in folder.iterdir()] == ["f.npz"]


def test_features_of_a_bad_recording_leave_the_old_file(clips: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "f.npz").write_bytes(b"old")
    (tmp_path / "bad.wav").write_text("no sound")
    result = call("features", "kws10", clips[0], tmp_path / "bad.wav", "-o", folder / "f.npz")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("f.npz", b"old")]


def test_a_model_by_name_and_by_path_is_the_same(clips: list[Path]) -> None:
    assert answers("kws10", clips[0]) == answers(shipped_model_path(), clips[0])


def test_a_folder_and_one_that_can_not_be_read(tmp_path: Path) -> None:
    """The good ones are answered, the bad one is told, and the exit code is 2."""
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "c.wav"):
        write(tmp_path / "in" / name, np.zeros(16000, np.int16))
    (tmp_path / "in" / "b.wav").write_text("no sound")
    result = CliRunner().invoke(cli, ["simulate", "kws10", str(tmp_path / "in"), "--engine", "sim", "--json"])
    assert result.exit_code == 2
    assert [Path(answer["file"]).name for answer in json.loads(result.stdout)] == ["a.wav", "c.wav"]
    assert "b.wav" in result.stderr
    (tmp_path / "empty").mkdir()
    empty = CliRunner().invoke(cli, ["simulate", "kws10", str(tmp_path / "empty")])
    assert empty.exit_code == 2 and "no recordings in the folder" in empty.stderr
