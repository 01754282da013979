"""The front end in C against the simulator, over any valid configuration and hostile samples; and its proven ranges."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.frontend.tables import FrontendTables, build_tables, feature_multiplier, fold_dct
from mbx_deploy.sim import frontend as sim

INT32 = 1 << 31


@st.composite
def configs(draw: st.DrawFn, most_frames: int = 40) -> FrontendConfig:
    """Draw a valid configuration with few frames: every size of transform, odd mels, no DCT, hop up to the window."""
    n_fft = draw(st.sampled_from((64, 128, 256, 512, 1024, 2048)))
    window = 2 * draw(st.integers(1, n_fft // 2) | st.just(n_fft // 2))
    hop = draw(st.sampled_from((1, window, max(1, window // 2))) | st.integers(1, window))
    clip = window + draw(st.integers(1, hop * most_frames))
    rate = draw(st.sampled_from((8000, 16000, 44100, 48000)))
    low = draw(st.sampled_from((0.0, 20.0, 300.0)) | st.floats(0, rate / 2 - 400))
    high = draw(st.sampled_from((rate / 2,)) | st.floats(low + 200, rate / 2))
    n_mels = draw(st.sampled_from((1, 2, 3, 13, 40, 41, 64, 127, 128)) | st.integers(1, 128))
    n_mfcc = draw(st.sampled_from((0, n_mels)) | st.integers(0, n_mels))
    offset = draw(st.sampled_from((1e-9, 1e-6, 1.0)))
    pads = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    center = draw(st.booleans())
    return FrontendConfig(rate, clip, window, hop, n_fft, center, n_mels, low, high, offset, n_mfcc, *pads)


SIGNALS = ("noise", "quiet", "silence", "lowest", "square", "nyquist", "impulse", "sine", "worst")


def signal(kind: str, length: int, config: FrontendConfig, seed: int) -> np.ndarray:
    """Return hostile or ordinary samples, int16 (length,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(length)
    if kind == "noise":
        return rng.integers(-32768, 32768, length).astype(np.int16)
    if kind == "quiet":
        return rng.integers(-2, 3, length).astype(np.int16)
    if kind in ("silence", "lowest"):
        return np.full(length, 0 if kind == "silence" else -32768, np.int16)
    if kind in ("square", "nyquist"):
        half = 1 if kind == "nyquist" else int(rng.integers(2, 200))
        return np.where(time // half % 2 == 0, 32767, -32768).astype(np.int16)
    if kind == "impulse":
        samples = np.zeros(length, np.int16)
        samples[rng.integers(length)] = rng.choice((-32768, 32767))
        return samples
    phase = 2 * np.pi * rng.integers(config.n_fft // 2 + 1) * time / config.n_fft + rng.uniform(0, 7)
    if kind == "sine":
        return np.rint(32767 * np.cos(phase)).astype(np.int16)
    return np.where(np.cos(phase) >= 0, 32767, -32768).astype(np.int16)  # the largest |X[k]| that there is


seeds = st.integers(0, 2**32 - 1)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(configs(), st.lists(st.sampled_from(SIGNALS), min_size=2, max_size=4), seeds)
@example(FrontendConfig(), list(SIGNALS), 0)
@example(
    FrontendConfig(clip_samples=3000, window_length=480, hop_length=320, center=False, n_mels=40, n_mfcc=10),
    list(SIGNALS),
    1,
)
def test_c_gives_the_simulators_bytes(config: FrontendConfig, kinds: list[str], seed: int) -> None:
    tables = build_tables(config)
    clips = np.stack([signal(kind, config.clip_samples, config, seed) for kind in kinds])
    got = HostFrontend(config, tables).coefficients(clips)
    assert got.shape == (len(clips), config.num_frames, config.num_coefficients)
    for kind, clip, row in zip(kinds, clips, got, strict=True):
        np.testing.assert_array_equal(row, sim.coefficients(clip, tables), kind)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(configs(), st.lists(st.sampled_from(SIGNALS), min_size=2, max_size=4), seeds)
def test_c_gives_the_simulators_bytes_often(config: FrontendConfig, kinds: list[str], seed: int) -> None:
    tables = build_tables(config)
    clips = np.stack([signal(kind, config.clip_samples, config, seed) for kind in kinds])
    expected = np.stack([sim.coefficients(clip, tables) for clip in clips])
    np.testing.assert_array_equal(HostFrontend(config, tables).coefficients(clips), expected)


@settings(max_examples=60, deadline=None)
@given(configs(), st.sampled_from(SIGNALS), seeds)
@example(FrontendConfig(), "worst", 0)
@example(FrontendConfig(n_fft=2048, window_length=2048), "worst", 0)
@example(FrontendConfig(n_fft=64, window_length=64, hop_length=32), "worst", 0)
def test_no_stage_leaves_its_type(config: FrontendConfig, kind: str, seed: int) -> None:
    """The simulator computes in 64 bits; every value that the C keeps in 32 bits must fit there."""
    tables = build_tables(config)  # prove_ranges() runs in it
    frames = sim.clip_frames(signal(kind, config.clip_samples, config, seed), tables)[:4]
    windowed = sim.apply_window(frames, tables)
    assert np.abs(windowed).max() <= 1 << 28
    real, imag = fft_checked(windowed, tables)
    np.testing.assert_array_equal(sim.fft(windowed, tables), (real, imag))
    need_int32(real[:, 1:] + real[:, :0:-1], imag[:, 1:] + imag[:, :0:-1], real[:, 1:] - real[:, :0:-1])
    spectrum = sim.split_spectrum(real, imag, tables)
    need_int32(*spectrum)
    power = sim.power_spectrum(*spectrum)
    assert int(power.max()) < 1 << 61
    exact = power.astype(object)
    mel = sim.mel_energies(power, tables)
    offset = 0
    for m, (first, count) in enumerate(zip(tables.mel_first.tolist(), tables.mel_count.tolist(), strict=True)):
        weights = [int(w) for w in tables.mel_weights_q32[offset : offset + count]]
        offset += count
        sums = [
            sum(int(p) * w >> 32 for p, w in zip(row[first : first + count], weights, strict=True)) for row in exact
        ]
        assert sums == mel[:, m].tolist() and max(sums) < 1 << 63
    log_mel = sim.log_mel_energies(mel, tables)
    need_int32(log_mel, log_mel + log_mel[:, ::-1], log_mel - log_mel[:, ::-1])
    need_int32(sim.dct(log_mel, tables))
    sums = log_mel + log_mel[:, ::-1]
    for fold in range(fold_dct(tables)[0]):  # none where the number of mels is odd
        half = log_mel.shape[1] >> (fold + 2)
        left, right = sums[:, :half], sums[:, half : 2 * half][:, ::-1]
        need_int32(left - right, left + right)
        sums = left + right


def test_the_dct_is_folded_as_far_as_its_rows_and_int32_allow() -> None:
    tables = build_tables(FrontendConfig())
    folds, weights = fold_dct(tables)
    assert folds == 2 and weights.size == 32 * 32 + 16 * 16 + 16 * 8
    assert fold_dct(build_tables(FrontendConfig(n_mels=41, n_mfcc=41)))[0] == 0
    assert fold_dct(build_tables(FrontendConfig(log_offset=2.0**-24)))[0] == 1  # larger logarithms: sums of eight leave
    changed = tables.dct_q31.copy()
    changed[4, 3] += 1  # of a row that is folded twice, by its symmetry
    uneven = replace(tables, dct_q31=changed)
    assert fold_dct(uneven)[0] == 0
    clips = np.stack([signal(kind, 16000, tables.config, 1) for kind in SIGNALS])
    expected = np.stack([sim.coefficients(clip, uneven) for clip in clips])
    np.testing.assert_array_equal(HostFrontend(uneven.config, uneven).coefficients(clips), expected)


def need_int32(*values: np.ndarray) -> None:
    """Fail where a value does not fit int32; its negative must fit too, since the C negates."""
    for array in values:
        assert array.size == 0 or np.abs(array).max() < INT32


def fft_checked(windowed: np.ndarray, tables: FrontendTables) -> tuple[np.ndarray, np.ndarray]:
    """Return what sim.fft() gives, each stage's values checked."""
    half = tables.config.n_fft // 2
    packed = np.zeros((len(windowed), 2 * half), np.int64)
    packed[:, : windowed.shape[1]] = windowed
    order = sim.bit_reversal(half)
    real, imag = sim.fft_first_pass(packed[:, 0::2][:, order], packed[:, 1::2][:, order])
    need_int32(real, imag)
    size = 4
    while size < half:
        real, imag = sim.fft_stage(real, imag, size, tables.twiddle_q31)
        need_int32(real, imag)
        size *= 2
    return real, imag


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from((64, 128, 256, 512, 1024, 2048)),
    st.floats(1e-9, 1.0),
    st.integers(1, 128),
    st.floats(0, 24000),
    st.floats(0, 24000),
    st.sampled_from((8000, 16000, 22050, 48000)),
)
@example(512, 1e-6, 64, 1000.0, 1000.0000000000001, 16000)
@example(512, 1e-6, 64, 0.0, 5e-324, 16000)
def test_every_valid_configuration_has_tables(
    n_fft: int, offset: float, n_mels: int, low: float, high: float, rate: int
) -> None:
    """Whatever __post_init__ accepts must build, with finite tables, or be refused as the user's mistake."""
    try:
        config = FrontendConfig(
            sample_rate_hz=rate, n_fft=n_fft, window_length=n_fft, hop_length=n_fft, clip_samples=3 * n_fft,
            n_mels=n_mels, low_hz=low, high_hz=high, log_offset=offset, n_mfcc=n_mels,
        )  # fmt: skip
        with np.errstate(all="raise", under="ignore"):
            tables = build_tables(config)
    except InputError:
        assume(not low + 100 < high <= rate / 2)
        return
    ends = tables.mel_first.astype(int) + tables.mel_count
    assert ends.max() <= n_fft // 2 + 1
    assert tables.mel_weights_q32.size == tables.mel_count.astype(int).sum()
    assert tables.log_offset >= 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-INT32, INT32 - 1), min_size=1, max_size=20),
    st.floats(2.0**-12, 2.0**12),
    st.sampled_from((-128, 0, 127)) | st.integers(-128, 127),
)
def test_quantized_features_are_rounded_once(values: list[int], scale: float, zero_point: int) -> None:
    """Against exact integers, with the multiplier as it is; and the multiplier is within half a unit of 1 / scale."""
    multiplier, shift = feature_multiplier(scale)
    assert 1 << 30 <= multiplier < 1 << 31 and 33 <= shift <= 62
    assert abs(multiplier / 2.0**shift * scale * 2.0**16 - 1) <= 2.0**-31
    got = sim.quantize_features(np.array(values, np.int32), scale, zero_point)
    exact = [(value * multiplier * 2 + (1 << shift)) // (1 << (shift + 1)) + zero_point for value in values]
    assert got.tolist() == [min(127, max(-128, value)) for value in exact]
