"""Front ends by name: the float64 reference is what their sources compute, and the integers stay near it.

The sound is generated: noises and voiced stretches at a microphone's levels. Bounds lie just above what was measured.
"""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.data.audio import fit_clip, read_recording
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.frontend.recipes import RECIPES, recipe_config
from mbx_deploy.frontend.tables import build_tables, mel_filterbank
from mbx_deploy.nemo.clips import synthetic_calibration
from mbx_deploy.sim import frontend as sim
from tests.reference.mfcc_float64 import mfcc, round_to_int8
from tests.reference.test_frontend_accuracy import hostile_clips

SHAPES = {"nemo": (101, 64), "mlperf-tiny": (49, 10), "arm-kws": (49, 10), "torchaudio": (63, 40)}
SCALES = {"nemo": 0.628, "mlperf-tiny": 0.5847, "arm-kws": 1.0, "torchaudio": 3.0}  # of int8 inputs, typical ones


@cache
def speech() -> np.ndarray:
    """Return clips that need no recording: int16 (20, 16000)."""
    return synthetic_calibration(16000, 16000, 20).clips


def reference(clip: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Return the float64 reference's coefficients, (frames, coefficients)."""
    options = asdict(config)
    del options["clip_samples"]
    return mfcc(clip, **options)


def mlperf_tiny(clip: np.ndarray, gain: float) -> np.ndarray:
    """mlcommons/tiny's get_dataset.py by TensorFlow, samples multiplied by a number that it makes 1 / the largest."""
    tf = pytest.importorskip("tensorflow", reason="the recipe's own operations need the extra export")
    lines = tf.abs(tf.signal.stft(tf.constant(clip / 32768.0 * gain), 480, 320, window_fn=tf.signal.hann_window))
    weights = tf.signal.linear_to_mel_weight_matrix(40, 257, 16000, 20.0, 4000.0, dtype=tf.float64)
    log_mel = tf.math.log(tf.tensordot(lines, weights, 1) + 1e-6)
    found: np.ndarray = tf.signal.mfccs_from_log_mel_spectrograms(log_mel)[..., :10].numpy()
    return found


def arm_kws(clip: np.ndarray, window: int = 640) -> np.ndarray:
    """ML-KWS-for-MCU's input_data.py by TensorFlow's ops, float32 within."""
    tf = pytest.importorskip("tensorflow", reason="the recipe's own operations need the extra export")
    samples = (clip / 32768.0)[:, None].astype(np.float32)
    power = tf.raw_ops.AudioSpectrogram(input=samples, window_size=window, stride=320, magnitude_squared=True)
    found: np.ndarray = tf.raw_ops.Mfcc(spectrogram=power, sample_rate=16000, dct_coefficient_count=10).numpy()[0]
    return found


def torchaudio(clip: np.ndarray, top_db: float | None = None, n_mels: int = 128) -> np.ndarray:
    """torchaudio.transforms.MFCC(melkwargs={"n_fft": 512}), written down from its functions, on torch's own stft."""
    torch = pytest.importorskip("torch", reason="torchaudio's transform needs torch.stft, of the extra train")
    window = torch.hann_window(512, dtype=torch.float64)
    samples = torch.tensor(clip / 32768.0)
    lines = torch.stft(samples, 512, 256, window=window, center=True, pad_mode="reflect", return_complex=True)
    frequencies = torch.linspace(0, 8000, 257, dtype=torch.float64)
    mels = torch.linspace(0, 2595.0 * np.log10(1.0 + 8000 / 700.0), n_mels + 2, dtype=torch.float64)
    points = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    slopes = points[None, :] - frequencies[:, None]
    widths = points[1:] - points[:-1]
    filters = torch.clamp(torch.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]), min=0.0)
    decibels = 10.0 * torch.log10(torch.clamp(lines.abs().pow(2).T @ filters, min=1e-10))
    if top_db is not None:
        decibels = torch.maximum(decibels, decibels.max() - top_db)
    rows = np.cos(np.pi / n_mels * (np.arange(n_mels) + 0.5)[:, None] * np.arange(40)) * np.sqrt(2.0 / n_mels)
    rows[:, 0] *= np.sqrt(0.5)
    found: np.ndarray = decibels.numpy() @ rows
    return found


def test_the_names() -> None:
    assert {name: (recipe_config(name).num_frames, recipe_config(name).num_coefficients) for name in RECIPES} == SHAPES
    assert recipe_config("nemo") == FrontendConfig()
    assert recipe_config("arm-kws", {"n_mfcc": 13}).num_coefficients == 13
    with pytest.raises(InputError, match="need one of nemo, mlperf-tiny, arm-kws, torchaudio"):
        recipe_config("kaldi")


@pytest.mark.slow
def test_the_reference_is_what_the_sources_compute() -> None:
    """float32's own noise in a logarithm of quiet filters is what the Mfcc op differs by."""
    for clip in speech()[4:8]:
        gain = recipe_config("mlperf-tiny").sample_gain
        assert np.abs(reference(clip, recipe_config("mlperf-tiny")) - mlperf_tiny(clip, gain)).max() < 1e-6
        assert np.abs(reference(clip, recipe_config("arm-kws")) - arm_kws(clip)).max() < 0.02
        changed = recipe_config("arm-kws", {"window_length": 480, "n_fft": 512})
        assert np.abs(reference(clip, changed) - arm_kws(clip, 480)).max() < 0.02
        assert np.abs(reference(clip, recipe_config("torchaudio")) - torchaudio(clip)).max() < 1e-6


@pytest.mark.slow
def test_silence_is_the_floor_of_the_source() -> None:
    """Digital silence: the logarithm of the floor in every filter."""
    silence = np.zeros(16000, np.int16)
    for name, source in (
        ("mlperf-tiny", mlperf_tiny(silence, 4.0)),
        ("arm-kws", arm_kws(silence)),
        ("torchaudio", torchaudio(silence)),
    ):
        front_end = HostFrontend(recipe_config(name))
        found = front_end.coefficients(silence[None])[0] * (front_end.tables.unit / 65536)
        assert np.abs(found - source).max() < 0.05, name  # of 124, 247 and 1131


# By recipe, of three levels: the largest error of a coefficient, in its own unit, its root of the mean square, and the
# share of int8 features that are equal; no other differs by more than 1. The transform's own rounding, 2^-22 of a full
# scale, shows where filters are quieter than that: in a power it hides below the offset, in a magnitude it does not.
BOUNDS = {
    "nemo": ((0.001, 0.0002, 0.9998), (0.001, 0.0002, 0.9998), (0.001, 0.0002, 0.9998)),
    "mlperf-tiny": ((0.001, 0.0001, 0.9999), (0.02, 0.001, 0.9998), (0.05, 0.002, 0.9993)),
    "arm-kws": ((0.03, 0.002, 0.9998), (0.03, 0.002, 0.9997), (0.03, 0.005, 0.9993)),
    "torchaudio": ((0.04, 0.002, 0.9997), (0.15, 0.01, 0.998), (0.25, 0.02, 0.998)),
}


def are_heard(clip: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Return which frames have more under the window than a step of 1, or nothing at all: bool (frames,)."""
    samples = np.diff(np.pad(clip.astype(np.float64), config.lead, mode="reflect"), append=0.0)
    frames = np.lib.stride_tricks.sliding_window_view(samples, config.window_length)[:: config.hop_length]
    energy = ((frames * np.hanning(config.window_length)) ** 2).sum(axis=1)
    heard: np.ndarray = (energy > 1.0) | (energy == 0.0)
    return heard


@pytest.mark.parametrize("name", RECIPES)
def test_the_integers_stay_near_the_reference(name: str) -> None:
    config = recipe_config(name)
    front_end, scale = HostFrontend(config), SCALES[name]
    for level_db, (largest, rms, share) in zip((0, -20, -40), BOUNDS[name], strict=True):
        clips = np.rint(speech()[::2] * 10.0 ** (level_db / 20)).astype(np.int16)
        found = front_end.coefficients(clips)
        wanted = np.stack([reference(clip, config) for clip in clips])
        heard = np.stack([are_heard(clip, config) for clip in clips])
        assert heard.mean() > 0.97
        found, wanted = found[heard], wanted[heard]
        error = found * (front_end.tables.unit / 65536.0) - wanted
        features = sim.quantize_features(found, scale, 20, front_end.tables.unit)
        distance = np.abs(features.astype(np.int16) - round_to_int8(wanted, scale, 20))
        measured = (np.abs(error).max(), np.sqrt(np.mean(error**2)), np.mean(distance == 0))
        print(f"{name} {level_db} dB: largest {measured[0]:.2g}, rms {measured[1]:.2g}, equal {measured[2]:.5f}")
        assert measured[0] < largest and measured[1] < rms
        assert measured[2] >= share and distance.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_recordings(speech_commands: Path, name: str) -> None:
    """As people recorded them: at least 99.9 % of the int8 features are equal, none differs by more than 1."""
    names = (speech_commands / "testing_list.txt").read_text().split()[::20]
    clips = np.stack([fit_clip(read_recording(speech_commands / path).samples, 16000) for path in names])
    config = recipe_config(name)
    front_end, scale = HostFrontend(config), SCALES[name]
    features = sim.quantize_features(front_end.coefficients(clips), scale, 20, front_end.tables.unit)
    wanted = np.stack([round_to_int8(reference(clip, config), scale, 20) for clip in clips])
    distance = np.abs(features.astype(np.int16) - wanted)
    print(f"{name}: {100 * np.mean(distance == 0):.3f} % equal")
    assert np.mean(distance == 0) >= 0.999 and distance.max() <= 1


@pytest.mark.parametrize("name", RECIPES)
def test_hostile_clips_give_the_simulators_bytes(name: str) -> None:
    config = recipe_config(name)
    tables, clips = build_tables(config), list(hostile_clips().items())[::3]
    computed = HostFrontend(config, tables).coefficients(np.stack([clip for _, clip in clips]))
    for (kind, clip), coefficients in zip(clips, computed, strict=True):
        np.testing.assert_array_equal(coefficients, sim.coefficients(clip, tables), err_msg=kind)


@pytest.mark.slow
def test_what_is_left_out_of_torchaudio() -> None:
    """top_db lifts what lies 80 dB below a clip's loudest filter: little of 40 mels, but of 128 some have no line."""
    share = {}
    for mels in (40, 128):
        difference = np.stack([torchaudio(clip, 80.0, mels) - torchaudio(clip, None, mels) for clip in speech()])
        share[mels] = np.mean(np.abs(difference) > 1.5)  # half a step of int8
    print(share, int((mel_filterbank(recipe_config("torchaudio")).sum(axis=1) == 0).sum()))
    assert share[40] < 0.02 and share[128] > 0.5


def test_the_filters_are_tensorflows() -> None:
    """Sides straight over mel, and the first line that the Mfcc op counts."""
    tf = pytest.importorskip("tensorflow", reason="the recipe's own operations need the extra export")
    weights = tf.signal.linear_to_mel_weight_matrix(40, 257, 16000, 20.0, 4000.0, dtype=tf.float64).numpy()
    config = recipe_config("mlperf-tiny")
    np.testing.assert_allclose(mel_filterbank(config), weights.T, atol=1e-9)
    weights[:2] = 0
    short = recipe_config("arm-kws", {"window_length": 480, "n_fft": 512})
    np.testing.assert_allclose(mel_filterbank(short), weights.T, atol=1e-9)
