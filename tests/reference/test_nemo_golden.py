"""The real NeMo's own output: features, logits, and what int8 makes of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler.model import CompiledModel, load_model
from mbx_deploy.data.audio import fit_clip, read_recording
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.float import float_engine
from mbx_deploy.engines.session import ITEM_CLIP, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.nemo.conversion import artifact_of, read_nemo
from mbx_deploy.nemo.float_features import clip_features
from mbx_deploy.nemo.masked import nemo_features

# (saved by, computed by)
PASSES = [("221", "221"), ("221", "262"), ("262", "262")]
IDS = [f"of {model}, by {forward}" for model, forward in PASSES]
FORWARD = {"221": "crop", "262": "no-crop"}
REAL_CLIPS = 40
REFUSED = {"055", "056", "058"}
CROPPED_AT_RANDOM = {"049", "050", "052"}
LISTED_COMMANDS = 1454


def nemo_path(folder: Path, model: str) -> Path:
    return folder / f"matchboxnet_3x1x64_8w_nemo{model}.nemo"


def golden(folder: Path, model: str, forward: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"matchboxnet_3x1x64_8w_nemo{model}__fwd{forward}.npz") as file:
        return {name: file[name] for name in file}


@pytest.fixture(scope="module", params=PASSES, ids=IDS)
def case(request: pytest.FixtureRequest, shared_nemo: Path) -> tuple[Path, str, dict[str, np.ndarray]]:
    """(path of the .nemo, forward pass, golden vectors)."""
    model, forward = request.param
    return nemo_path(shared_nemo, model), FORWARD[forward], golden(shared_nemo, model, forward)


Case = tuple[Path, str, dict[str, np.ndarray]]


def test_features_and_logits(case: Case) -> None:
    path, forward, vectors = case
    engine = float_engine(path, forward)
    config = engine.config
    model, _, _ = read_nemo(path, forward)
    worst = {"mfcc": 0.0, "encoder input": 0.0, "logits": 0.0}
    compared = 0
    for number in range(59):
        name = f"{number:03d}"
        samples = vectors[f"{name}_samples"]
        if not engine.takes(len(samples)):
            assert name in REFUSED | (CROPPED_AT_RANDOM if forward == "crop" else set())
            assert engine.takes(len(fit_clip(samples, config.clip_samples)))
            continue
        compared += 1
        found = {
            "mfcc": (clip_features(samples, config).T, vectors[f"{name}_mfcc"]),
            "encoder input": (nemo_features(model, samples)[0].T, vectors[f"{name}_enc_in"]),
            "logits": (engine.logits(samples), vectors[f"{name}_logits"]),
        }
        for stage, (got, want) in found.items():
            assert got.shape == want.shape, (name, stage)
            worst[stage] = max(worst[stage], float(np.abs(got - want).max()))
    print(worst)
    assert compared == (53 if forward == "crop" else 56)
    assert worst["mfcc"] < 1e-3 and worst["encoder input"] < 1e-3
    assert worst["logits"] < 2e-4


def test_which_forward_pass_a_file_is_taken_for(shared_nemo: Path) -> None:
    for model in ("221", "262"):
        engine = float_engine(nemo_path(shared_nemo, model))
        vectors = golden(shared_nemo, model, model)
        np.testing.assert_allclose(engine.logits(vectors["000_samples"]), vectors["000_logits"], rtol=0, atol=2e-4)


def test_labels(shared_nemo: Path) -> None:
    for model, forward in PASSES:
        told = json.loads((shared_nemo / f"matchboxnet_3x1x64_8w_nemo{model}__fwd{forward}.json").read_text())
        assert list(float_engine(nemo_path(shared_nemo, model), FORWARD[forward]).labels) == told["labels"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_int8_names_nemos_label_and_keeps_the_accuracy(case: Case, speech_commands: Path) -> None:
    pytest.importorskip("onnx2tf")
    path, forward, vectors = case
    recognizer, engine = load_model(artifact_of(path, forward)), float_engine(path, forward)
    check_labels(recognizer, vectors)
    names = [
        name
        for name in (speech_commands / "testing_list.txt").read_text().split()
        if name.split("/")[0] in recognizer.labels
    ]
    assert len(names) == LISTED_COMMANDS
    truth = np.array([recognizer.labels.index(name.split("/")[0]) for name in names])
    clips = [fit_clip(read_recording(speech_commands / name).samples, 16000) for name in names]
    in_float = np.array([engine.logits(clip).argmax() for clip in clips])
    host = HostEngine(recognizer)
    in_int8 = np.concatenate(
        [
            [w[0].label for w in host.run([Item(ITEM_CLIP, c) for c in clips[i : i + 200]])]
            for i in range(0, len(clips), 200)
        ]
    )
    float_share, int8_share = np.mean(in_float == truth), np.mean(in_int8 == truth)
    print(f"float {float_share:.4f}, int8 {int8_share:.4f}, the same label on {np.mean(in_float == in_int8):.4f}")
    assert abs(float_share - int8_share) <= 0.005


def check_labels(recognizer: CompiledModel, vectors: dict[str, np.ndarray]) -> None:
    """Of NeMo's own clips the int8 network names the label that NeMo names; the simulator agrees with the C."""
    clips = [vectors[f"{number:03d}_samples"] for number in range(REAL_CLIPS)]
    items = [Item(ITEM_CLIP, fit_clip(clip, recognizer.config.clip_samples)) for clip in clips]
    results = [windows[0] for windows in HostEngine(recognizer).run(items)]
    simulated = [windows[0] for windows in SimEngine(recognizer).run(items[::8])]
    for left, right in zip(results[::8], simulated, strict=True):
        np.testing.assert_array_equal(left.logits, right.logits)
    want = [int(vectors[f"{number:03d}_logits"].argmax()) for number in range(REAL_CLIPS)]
    same = sum(result.label == label for result, label in zip(results, want, strict=True))
    print(f"int8 names NeMo's label on {same} of {REAL_CLIPS}")
    assert same >= 39


def test_on_the_command_line(shared_nemo: Path, tmp_path: Path) -> None:
    vectors = golden(shared_nemo, "221", "262")
    names = ("000", "046", "049", "051")
    for name in names:
        soundfile.write(tmp_path / f"{name}.wav", vectors[f"{name}_samples"], 16000, subtype="PCM_16")
    soundfile.write(tmp_path / "refused.wav", vectors["055_samples"], 16000, subtype="PCM_16")
    files = [str(tmp_path / f"{name}.wav") for name in (*names, "refused")]
    command = ["simulate", str(nemo_path(shared_nemo, "221")), *files, "--engine", "float", "--json"]
    done = CliRunner().invoke(cli, [*command, "--forward", "no-crop"])
    assert done.exit_code == 0, done.stderr
    assert "no-crop" in done.stderr
    answers = json.loads(done.stdout)
    for name, answer in zip(names, answers, strict=False):
        np.testing.assert_allclose(answer["logits"], vectors[f"{name}_logits"], rtol=0, atol=2e-4)
    assert len(answers) == 5
