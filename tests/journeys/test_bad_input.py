"""Bad input, each kind: one line that begins with `error:`, a hint, exit code 2, and nothing half-written."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.metadata import read_metadata, write_metadata
from mbx_deploy.system.resources import shipped_model_path, targets_folder
from tests.made.tflite import Network, metadata_for, small_artifact

CONFIG = FrontendConfig(clip_samples=4000, window_length=256, hop_length=128, n_fft=256, n_mels=16, n_mfcc=10)
LABELS = ("no", "yes", "silence")
RANDOM_SEED = 3


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def assert_refused(result: Result, pattern: str, told: str = "") -> None:
    """The user's error: exit code 2, one line that matches the pattern, a hint, and on stdout what told matches."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2, result.output
    assert re.fullmatch(told, result.stdout), result.stdout
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("error: ") and re.search(pattern, lines[0]), lines[0]
    assert re.match("  hint: .", lines[1]), lines[1]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "input"
    folder.mkdir()
    samples = np.random.default_rng(RANDOM_SEED).normal(0, 2000, 16000).astype(np.int16)
    soundfile.write(folder / "clip.flac", samples, 16000)
    return folder / "clip.flac"


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def text_called_wav(path: Path, clip: Path) -> None:
    path.with_suffix(".wav").write_text("This is no recording.\n" * 100)


def empty_file(path: Path, clip: Path) -> None:
    path.with_suffix(".wav").write_bytes(b"")


def truncated_flac(path: Path, clip: Path) -> None:
    data = clip.read_bytes()
    path.with_suffix(".flac").write_bytes(data[: len(data) * 2 // 3])


def header_of_a_flac(path: Path, clip: Path) -> None:
    path.with_suffix(".flac").write_bytes(clip.read_bytes()[:60])


def truncated_wav(path: Path, clip: Path) -> None:
    soundfile.write(path.with_suffix(".wav"), soundfile.read(clip, dtype="int16")[0], 16000)
    data = path.with_suffix(".wav").read_bytes()
    path.with_suffix(".wav").write_bytes(data[: len(data) // 2])


def wav_of_no_samples(path: Path, clip: Path) -> None:
    soundfile.write(path.with_suffix(".wav"), np.zeros(0, np.int16), 16000)


def wav_of_nan(path: Path, clip: Path) -> None:
    soundfile.write(path.with_suffix(".wav"), np.full(100, np.nan), 16000, subtype="FLOAT")


def folder_called_wav(path: Path, clip: Path) -> None:
    path.with_suffix(".wav").mkdir()


def dangling_link(path: Path, clip: Path) -> None:
    path.with_suffix(".wav").symlink_to("nowhere")


def no_file(path: Path, clip: Path) -> None:
    pass


def a_pipe(path: Path, clip: Path) -> None:
    os.mkfifo(path.with_suffix(".wav"))


BAD_RECORDINGS = [
    text_called_wav,
    empty_file,
    truncated_flac,
    header_of_a_flac,
    truncated_wav,
    wav_of_no_samples,
    wav_of_nan,
    folder_called_wav,
    dangling_link,
    no_file,
    a_pipe,
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", BAD_RECORDINGS)
def test_a_bad_recording(make: Callable[[Path, Path], None], clip: Path, tmp_path: Path) -> None:
    make(clip.parent / "bad", clip)
    bad = next(iter(clip.parent.glob("bad.*")), clip.parent / "bad.wav")
    before = snapshot(tmp_path) if make is not a_pipe else {}
    output = tmp_path / "f.npz"
    for command in (
        ["simulate", "kws10", bad, "--json", "--engine", "c"],
        ["simulate", "kws10", bad, "--engine", "float"],
        ["features", "kws10", clip, bad, "-o", output],
    ):
        assert_refused(call(*command), re.escape(bad.name))
    beside = call("simulate", "kws10", bad, clip)
    assert_refused(beside, re.escape(bad.name), rf"{re.escape(str(clip))}: silence .*\n")
    assert not output.exists()
    if make is not a_pipe:
        assert snapshot(tmp_path) == before


def network(op: str = "", weights: type = np.int8) -> bytes:
    """Return a small artifact with one thing that is not ours: an op, or a type of weights."""
    rng = np.random.default_rng(RANDOM_SEED)
    made = Network()
    x = made.activation((1, 1, CONFIG.num_frames, CONFIG.num_coefficients), 0.6, 11)
    if op == "CUSTOM":
        x = made.op("CUSTOM", [x], made.activation(made.shape(x), 0.6, 11))
    elif op:
        x = made.op(op, [x], made.activation(made.shape(x), 1 / 256, -128), "SoftmaxOptions", beta=1.0)
    x = made.mean(x, 0.3, -5)
    if weights is np.int8:
        filters = rng.integers(-127, 128, (len(LABELS), CONFIG.num_coefficients), dtype=np.int8)
        x = made.fully_connected(x, filters, [0.01], None, 0.3, 4)
    else:
        floats = made.constant(rng.normal(size=(len(LABELS), CONFIG.num_coefficients)).astype(weights))
        x = made.op("FULLY_CONNECTED", [x, floats], made.activation((1, len(LABELS)), 0.3, 4), "FullyConnectedOptions")
    return made.build(x, metadata_for(CONFIG, LABELS))


def float_network() -> bytes:
    made = Network()
    x = made.tensor((1, 1, CONFIG.num_frames, CONFIG.num_coefficients), "FLOAT32")
    axes = made.constant(np.array([1, 2], np.int32))
    y = made.op("MEAN", [x, axes], made.tensor((1, CONFIG.num_coefficients), "FLOAT32"), "ReducerOptions")
    weights = made.constant(np.ones((len(LABELS), CONFIG.num_coefficients), np.float32))
    y = made.op("FULLY_CONNECTED", [y, weights], made.tensor((1, len(LABELS)), "FLOAT32"), "FullyConnectedOptions")
    return made.build(y, metadata_for(CONFIG, LABELS))


def with_metadata(**changes: Any) -> bytes:
    data = small_artifact(CONFIG, LABELS)
    metadata = read_metadata(data)
    assert metadata is not None
    return write_metadata(data, metadata | changes)


def network_with_softmax() -> bytes:
    made = Network()
    x = made.mean(made.activation((1, 1, CONFIG.num_frames, CONFIG.num_coefficients), 0.6, 11), 0.3, -5)
    weights = np.ones((len(LABELS), CONFIG.num_coefficients), np.int8)
    x = made.softmax(made.fully_connected(x, weights, [0.01], None, 0.3, 4))
    return made.build(x, metadata_for(CONFIG, LABELS))


def without_metadata() -> bytes:
    made = Network()
    x = made.mean(made.activation((1, 1, CONFIG.num_frames, CONFIG.num_coefficients), 0.6, 11), 0.3, -5)
    weights = np.ones((len(LABELS), CONFIG.num_coefficients), np.int8)
    return made.build(made.fully_connected(x, weights, [0.01], None, 0.3, 4))


def frontend(**changes: Any) -> dict[str, Any]:
    return CONFIG.to_dict() | changes


OTHER = FrontendConfig.from_dict(frontend(n_mfcc=12))

BAD_MODELS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a foreign op": (lambda: network("CUMSUM"), "not supported .*CUMSUM, need one of ADD, "),
    "a custom op": (lambda: network("CUSTOM"), "custom one .*of no name, need one of TFLite's own"),
    "float weights": (lambda: network(weights=np.float32), "float32"),
    "all in float": (float_network, "float32"),
    "no logits": (network_with_softmax, "ends in SOFTMAX"),
    "no metadata": (without_metadata, "no metadata of mbx-deploy"),
    "empty": (lambda: b"", "not a TFLite model"),
    "text": (lambda: b"I am a model, believe me.\n" * 50, "not a TFLite model"),
    "random bytes": (lambda: np.random.default_rng(RANDOM_SEED).bytes(5000), "not a TFLite model"),
    "random behind the identifier": (
        lambda: b"\x1c\0\0\0TFL3" + np.random.default_rng(RANDOM_SEED).bytes(5000),
        "damaged|not a",
    ),
    "truncated": (lambda: shipped_model_path().read_bytes()[:50_000], "damaged"),
    "without its last byte": (lambda: shipped_model_path().read_bytes()[:-1], "damaged"),
    "half a header": (lambda: shipped_model_path().read_bytes()[:12], "damaged|not a"),
    "too few labels": (lambda: with_metadata(labels=["a", "b"]), "labels do not fit .*got 2, need 3"),
    "one label twice": (lambda: with_metadata(labels=["a", "b", "a"]), "one stands twice"),
    "a label of control characters": (lambda: with_metadata(labels=["a", "b", "\x1b[31m"]), "bad labels"),
    "another front end's digest": (lambda: with_metadata(frontend_digest="0" * 64), "digest"),
    "an unknown key of the front end": (lambda: with_metadata(frontend=frontend(n_nonsense=1)), "n_nonsense"),
    "a front end that does not fit": (
        lambda: with_metadata(frontend=OTHER.to_dict(), frontend_digest=OTHER.digest()),
        "does not fit the network .*of 12, need .* of 10",
    ),
    "an absurd front end": (lambda: with_metadata(frontend=frontend(hop_length=0)), "hop_length"),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_a_bad_model(kind: str, clip: Path, tmp_path: Path) -> None:
    make, pattern = BAD_MODELS[kind]
    model = tmp_path / "bad model.tflite"
    model.write_bytes(make())
    before = snapshot(tmp_path)
    for command in (
        ["simulate", model, clip, "--engine", "sim"],
        ["simulate", model, clip, "--engine", "tflm", "--json"],
        ["simulate", model, clip, "--engine", "float"],
        ["features", model, clip, "-o", tmp_path / "f.npz"],
        ["build", "--target", "cortex-m4", "--model", model, "-o", tmp_path / "b"],
    ):
        result = call(*command)
        assert_refused(result, pattern)
        assert "bad model.tflite" in result.stderr, "the file is named"
    assert snapshot(tmp_path) == before


def test_the_models_above_are_bad_for_one_reason_only(clip: Path, tmp_path: Path) -> None:
    for number, data in enumerate((network(), small_artifact(CONFIG, LABELS), with_metadata(labels=["a", "b", "c"]))):
        (tmp_path / f"{number}.tflite").write_bytes(data)
        assert call("simulate", tmp_path / f"{number}.tflite", clip).exit_code == 0


@pytest.mark.parametrize(
    ("model", "pattern"),
    [
        ("missing.tflite", "can't read the model .*missing.tflite.*: no such file"),
        ("folder", "can't read the model .*folder.*: is a directory"),
        ("kws99", "no shipped model of that name: got 'kws99'"),
        ("n" * 300, "n" * 300),
        ("folder/" + "n" * 300 + ".tflite", "name too long"),
        ("clip.flac/model.tflite", "can't read the model"),
    ],
)
def test_no_model(model: str, pattern: str, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clip.parent / "folder").mkdir()
    monkeypatch.chdir(clip.parent)
    before = snapshot(clip.parent)
    for command in (["simulate", model, clip], ["build", "--target", "host", "--model", model, "-o", "b"]):
        assert_refused(call(*command), pattern)
    assert snapshot(clip.parent) == before


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04" + bytes(50)], ids=["none", "", "text", "zip"])
def test_a_bad_checkpoint(content: bytes | None, clip: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "bad.pt"
    if content is not None:
        checkpoint.write_bytes(content)
    assert_refused(call("simulate", checkpoint, clip, "--engine", "float"), "bad.pt")


BAD_TARGETS: dict[str, tuple[bytes, bytes, str]] = {
    "missing": (b"", b"", "can't read the target"),
    "no TOML": (b"name =", b"name = =", "can't read the target"),
    "no UTF-8": (b"name =", b"\xff\xfe =", "can't read the target"),
    "an unknown key": (b"name =", b"nonsense = 1\nname =", "unknown key .*'nonsense'"),
    "a missing key": (b"board =", b"# board =", "a key is missing .*need board"),
    "an unknown key of the memory": (b"ram_bytes =", b"nonsense = 1\nram_bytes =", "unknown key .*'nonsense'"),
    "another name than its file": (b'"own"', b'"other"', "bad value .*name"),
    "a negative size": (b"ram_bytes = ", b"ram_bytes = -", "bad value .*ram_bytes"),
    "text for a number": (b"stack_bytes = 4096", b'stack_bytes = "4096"', "bad value .*stack_bytes"),
}


@pytest.mark.parametrize("kind", BAD_TARGETS)
def test_a_bad_target_file(kind: str, tmp_path: Path) -> None:
    old, new, pattern = BAD_TARGETS[kind]
    target = tmp_path / "own.toml"
    if kind != "missing":
        text = (targets_folder() / "cortex-m4.toml").read_bytes().replace(b'"cortex-m4"', b'"own"', 1)
        assert old in text
        target.write_bytes(text.replace(old, new, 1))
    before = snapshot(tmp_path)
    result = call("build", "--target", target, "-o", tmp_path / "b")
    assert_refused(result, pattern)
    assert "own.toml" in result.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("place", ["folder", "file/f.npz", "n" * 300, "/proc/f.npz"])
def test_features_that_cannot_be_written(place: str, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    before = snapshot(tmp_path)
    assert_refused(call("features", "kws10", clip, "-o", tmp_path / place), "can't write ")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["train", "--data", "missing", "-o", "out"], "missing"),
        (["train", "--data", "empty", "-o", "out"], "empty"),
        (["train", "--data", "empty", "-o", "out", "--config", "missing.toml"], "missing.toml"),
        (["train", "--data", "empty", "-o", "out", "--config", "bad.toml"], "bad.toml|nonsense"),
        (["export", "missing.pt", "--data", "empty", "-o", "out.tflite"], "missing.pt"),
        (["export", "bad.pt", "--data", "empty", "-o", "out.tflite"], "bad.pt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_of_training_and_export(
    arguments: list[str], pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.toml").write_text("nonsense = 1\n")
    (tmp_path / "bad.pt").write_text("no zip")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    assert_refused(call(*arguments), pattern)
    assert snapshot(tmp_path) == before
