"""What augmentation does to clips and features, and that every draw of an epoch follows from its seed and place."""

from typing import Any

import numpy as np
import pytest
import torch

from mbx_deploy.data.dataset import Split
from mbx_deploy.data.noise import mix
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.train.augment import (
    AugmentConfig,
    NoiseSources,
    add_room,
    augment_clip,
    bend_silence,
    change_channel,
    change_speed,
    close_gate,
    coloured_noise,
    mask_features,
    noise_sources,
    shift,
    slack,
)
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.plan import EpochBatches, epoch_places, round_clips

RATE_HZ = 16000
ALL_OF_IT = AugmentConfig(
    slack_shift_probability=0.5,
    room_probability=0.5,
    coloured_noise_share=0.3,
    babble_share=0.3,
    cutouts=2,
    channel_probability=0.5,
    gate_probability=0.5,
    silence_speed_percent=30.0,
)


def some_clips(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(-3000, 3000, (count, RATE_HZ)).astype(np.int16)


def some_noise() -> NoiseSources:
    background = np.random.default_rng(1).integers(-500, 500, 40000).astype(np.int16)
    return NoiseSources([background], [background[::-1].copy()], some_clips())


@pytest.mark.parametrize("config", [AugmentConfig(), ALL_OF_IT])
def test_augmentation_follows_its_seed(config: AugmentConfig) -> None:
    clip = some_clips()[0]
    for seed in range(20):
        one, same, other = (
            augment_clip(clip, some_noise(), config, np.random.default_rng(s)) for s in (seed, seed, seed + 1)
        )
        assert one.shape == clip.shape
        assert one.dtype == np.int16
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()


@pytest.mark.parametrize("value", [-32768, 32767, 0])
def test_augmentation_of_the_edges_saturates(value: int) -> None:
    clip = np.full(RATE_HZ, value, np.int16)
    noise = NoiseSources([np.full(RATE_HZ, -32768, np.int16)])
    for seed in range(20):
        out = augment_clip(clip, noise, AugmentConfig(), np.random.default_rng(seed))
        assert out.shape == clip.shape
        # Nothing wraps round: a constant keeps its sign, or is buried by the noise's.
        if value < 0:
            assert out.max() <= 32768 * 0.02
        augment_clip(clip, noise, ALL_OF_IT, np.random.default_rng(seed))


def test_nothing_to_augment_changes_nothing() -> None:
    clip = some_clips()[0]
    config = AugmentConfig(
        shift_ms=0.0,
        speed_probability=0.0,
        gain_db=(0.0, 0.0),
        noise_probability=0.0,
        white_noise_probability=0.0,
        coefficient_masks=0,
        time_masks=0,
    )
    np.testing.assert_array_equal(augment_clip(clip, some_noise(), config, np.random.default_rng(0)), clip)
    features = np.ones((101, 64), np.float32)
    features[0] = 2.0
    before = features.copy()
    mask_features(features, config, np.random.default_rng(0))
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize("share", [{}, {"coloured_noise_share": 1.0}, {"babble_share": 1.0}])
def test_noise_without_a_source_is_left_out(share: dict[str, float]) -> None:
    quiet = {"shift_ms": 0.0, "speed_probability": 0.0, "gain_db": [0.0, 0.0], "white_noise_probability": 0.0}
    config = AugmentConfig.from_dict({**quiet, "noise_probability": 1.0, **share})
    clip = some_clips()[0]
    np.testing.assert_array_equal(augment_clip(clip, NoiseSources(), config, np.random.default_rng(0)), clip)
    assert (augment_clip(clip, some_noise(), config, np.random.default_rng(0)) != clip).any()


def test_noise_falls_off_as_its_colour_says() -> None:
    for slope in (0.0, 1.0, 2.0):
        wave = coloured_noise(np.random.default_rng(0), 1 << 17, slope).astype(np.float64)
        power = np.abs(np.fft.rfft(wave)) ** 2
        octaves = [power[1 << n : 2 << n].mean() for n in range(8, 15)]
        fall_db = -np.diff(10 * np.log10(octaves)).mean()
        assert fall_db == pytest.approx(slope * 3.01, abs=0.3)
    first, again = (noise_sources([], some_clips()).coloured for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


def test_slack_keeps_the_loud_part_inside() -> None:
    wave = np.zeros(RATE_HZ, np.float32)
    wave[4000:8000] = 1000.0
    earliest, latest = slack(wave)
    # Half their like in front and behind stay, too: five times 10 ms.
    assert (earliest, latest) == (-(4000 - 800), 16000 - 8000 - 800)
    for by in (earliest, latest):
        assert (shift(wave, by) != 0).sum() == 4000
    assert slack(np.zeros(RATE_HZ, np.float32)) == (0, 0)
    assert slack(np.ones(RATE_HZ, np.float32)) == (0, 0)


def test_a_room_echoes_and_decays() -> None:
    impulse = np.zeros(RATE_HZ, np.float32)
    impulse[100] = 1000.0
    heard = add_room(impulse, 0.3, 6.0, np.random.default_rng(0))
    assert heard.dtype == np.float32
    assert not heard[:99].any() or np.abs(heard[:99]).max() < 1e-2
    echo = heard.astype(np.float64)
    echo[100] -= 1000.0
    ratio_db = 10 * np.log10(1000.0**2 / np.sum(echo[100:] ** 2))
    assert ratio_db == pytest.approx(6.0, abs=0.5)
    levels = [np.mean(echo[100 + start : 100 + start + 480] ** 2) for start in (0, 2400, 4300)]
    # 60 dB in 0.3 s: 30 dB in half of it.
    assert 10 * np.log10(levels[0] / levels[1]) == pytest.approx(30.0, abs=2.0)
    assert np.abs(heard[5000:]).max() < 1e-2


def test_shift() -> None:
    wave = np.array([1, 2, 3], np.float32)
    assert list(shift(wave, 0)) == [1, 2, 3]
    assert list(shift(wave, 1)) == [0, 1, 2]
    assert list(shift(wave, -2)) == [3, 0, 0]
    assert list(shift(wave, 3)) == list(shift(wave, -5)) == [0, 0, 0]


def test_mix_reaches_the_ratio() -> None:
    rng = np.random.default_rng(0)
    wave, noise = (rng.standard_normal(RATE_HZ).astype(np.float32) * level for level in (100, 7))
    for snr_db in (-5.0, 0.0, 40.0):
        added = mix(wave, noise, snr_db) - wave
        ratio = float(np.mean(wave**2) / np.mean(added**2))
        assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.05)
    silence = np.zeros_like(wave)
    np.testing.assert_array_equal(mix(silence, noise, 10.0), silence)
    np.testing.assert_array_equal(mix(wave, silence, 10.0), wave)


def test_speed_moves_the_pitch_about_the_middle() -> None:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = np.sin(2 * np.pi * 1000.0 * time_s).astype(np.float32)
    np.testing.assert_allclose(change_speed(tone, 1.0), tone, atol=1e-6)
    for speed in (0.9, 1.1):
        spectrum = np.abs(np.fft.rfft(change_speed(tone, speed)))
        assert abs(int(spectrum.argmax()) - 1000 * speed) <= 1
    impulse = np.zeros(101, np.float32)
    impulse[50] = 1.0
    assert int(change_speed(impulse, 1.1).argmax()) == 50


def test_masks_are_bands_of_the_mean() -> None:
    config = AugmentConfig(coefficient_masks=0, time_masks=1, time_mask_width=20)
    for seed in range(5):
        original = np.random.default_rng(seed).standard_normal((101, 64)).astype(np.float32)
        clip = original.copy()
        mask_features(clip, config, np.random.default_rng(seed))
        changed = np.flatnonzero((clip != original).any(axis=1))
        assert 0 <= len(changed) <= 20
        if len(changed):
            assert changed[-1] - changed[0] == len(changed) - 1
            np.testing.assert_allclose(clip[changed[0]], original.mean(axis=0), atol=1e-6)


def test_a_cutout_is_a_rectangle() -> None:
    config = AugmentConfig(coefficient_masks=0, time_masks=0, cutouts=1, cutout_coefficients=15, cutout_frames=25)
    original = np.random.default_rng(0).standard_normal((101, 64)).astype(np.float32)
    clip = original.copy()
    mask_features(clip, config, np.random.default_rng(3))
    rows, columns = (np.flatnonzero((clip != original).any(axis=axis)) for axis in (1, 0))
    assert 0 < len(rows) <= 25
    assert 0 < len(columns) <= 15
    assert (clip != original).sum() == len(rows) * len(columns)


@pytest.mark.parametrize(
    "change",
    [
        {"gain_db": [6.0, -20.0]},
        {"gain_db": 6.0},
        {"gain_db": [0.0, float("inf")]},
        {"noise_snr_db": ["a", "b"]},
        {"noise_probability": 1.5},
        {"speed_percent": 100.0},
        {"time_masks": 1.5},
        {"cutouts": 0.5},
        {"room_probability": 2.0},
        {"room_decay_s": [-0.1, 0.5]},
        {"babble_share": 0.6, "coloured_noise_share": 0.6},
        {"shift_ms": -1.0},
        {"shift_ms": float("nan")},
        {"shift": 100.0},
    ],
)
def test_bad_augmentation_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        AugmentConfig.from_dict(change)


def test_augmentation_goes_through_a_dict() -> None:
    config = AugmentConfig(gain_db=(-1.0, 2.0), time_masks=3, room_decay_s=(0.2, 0.3))
    assert AugmentConfig.from_dict(config.to_dict()) == config


LABELS = ("low", "high", "unknown", "silence")


def a_split(counts: tuple[int, int, int]) -> Split:
    classes = np.repeat(np.arange(3), counts)
    samples = np.random.default_rng(0).integers(-3000, 3000, (len(classes), RATE_HZ)).astype(np.int16)
    noise = (np.random.default_rng(1).integers(-500, 500, 40000).astype(np.int16),)
    return Split(LABELS, samples, classes, ("x",) * len(classes), noise)


def a_config(**change: Any) -> TrainConfig:
    return TrainConfig.from_dict({"labels": list(LABELS), "batch_size": 10, **change})


def test_an_epoch_draws_every_word_and_its_share_of_the_rest() -> None:
    classes = np.array([0] * 30 + [1] * 50 + [2] * 500)
    split = Split(LABELS, np.zeros((580, 1), np.int16), classes, ("x",) * 580, ())
    config = a_config(unknown_ratio=1.5, silence_ratio=0.5)
    drawn = round_clips(config, split, 0)
    assert (drawn < 0).sum() == 20
    clips = drawn[drawn >= 0]
    assert len(set(clips)) == len(clips)
    assert set(range(80)) <= set(clips)
    assert (clips >= 80).sum() == 60
    np.testing.assert_array_equal(drawn, round_clips(config, split, 0))
    assert set(round_clips(config, split, 1)) != set(drawn)
    for epoch in range(3):
        places = epoch_places(config, len(drawn), epoch)
        assert places.shape == (16, 10)
        assert set(places.ravel()) == set(range(160))
    assert (epoch_places(config, 160, 0) != epoch_places(config, 160, 1)).any()


def collect(source: EpochBatches, epoch: int, rank: int = 0, processes: int = 1) -> list[tuple[Any, Any]]:
    return [(inputs.numpy().copy(), classes.numpy()) for inputs, classes in source.batches(epoch, rank, processes)]


@pytest.mark.slow
@pytest.mark.parametrize("feature_epochs", [1, 2])
def test_batches_depend_on_seed_epoch_and_place_alone(feature_epochs: int) -> None:
    split = a_split((12, 12, 12))
    config = a_config(feature_epochs=feature_epochs, augment=ALL_OF_IT.to_dict())
    front_end = HostFrontend(config.frontend)
    source = EpochBatches(config, split, front_end)
    whole = [collect(source, epoch) for epoch in range(3)]
    assert len(whole[0]) == source.steps()
    # Another process that begins in the middle, or takes every second clip, meets the same clips.
    for epoch in (1, 2):
        for alone, (inputs, classes) in zip(
            collect(EpochBatches(config, split, front_end), epoch), whole[epoch], strict=True
        ):
            np.testing.assert_array_equal(alone[0], inputs)
            np.testing.assert_array_equal(alone[1], classes)
    shared = EpochBatches(config, split, front_end)
    for rank in range(2):
        for part, (inputs, classes) in zip(collect(shared, 1, rank, 2), whole[1], strict=True):
            np.testing.assert_array_equal(part[0], inputs[rank::2])
            np.testing.assert_array_equal(part[1], classes[rank::2])
    # And no epoch is like another.
    for a, b in ((0, 1), (1, 2)):
        assert not np.array_equal(np.sort(whole[a][0][0], axis=0), np.sort(whole[b][0][0], axis=0))


@pytest.mark.slow
def test_a_variant_serves_its_round_with_other_masks() -> None:
    split = a_split((12, 12, 12))
    plain = {"coefficient_masks": 0, "time_masks": 0}
    config = a_config(feature_epochs=2, augment=plain, batch_size=48)
    source = EpochBatches(config, split, HostFrontend(config.frontend))
    sums = [np.sort(collect(source, epoch)[0][0].sum(axis=(1, 2, 3))) for epoch in range(4)]
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-5)
    np.testing.assert_allclose(sums[2], sums[3], rtol=1e-5)
    assert not np.allclose(sums[1], sums[2])
    config = a_config(feature_epochs=2, batch_size=48)
    source = EpochBatches(config, split, HostFrontend(config.frontend))
    masked = [np.sort(collect(source, epoch)[0][0].sum(axis=(1, 2, 3))) for epoch in range(2)]
    assert not np.allclose(masked[0], masked[1])


def test_inputs_are_what_the_network_takes() -> None:
    config = a_config(batch_size=8)
    source = EpochBatches(config, a_split((8, 8, 8)), HostFrontend(config.frontend))
    inputs, classes = next(source.batches(0))
    assert inputs.shape == (8, 64, 1, 101)
    assert inputs.dtype == torch.float32
    assert classes.dtype == torch.int64


def test_channel_is_linear_keeps_length_and_stays_near_the_stated_range() -> None:
    wave = np.random.default_rng(1).standard_normal(16000).astype(np.float32)
    first = change_channel(wave, 12.0, np.random.default_rng(5))
    louder = change_channel(4.0 * wave, 12.0, np.random.default_rng(5))
    assert first.shape == wave.shape and first.dtype == np.float32
    np.testing.assert_allclose(louder, 4.0 * first, rtol=1e-4, atol=1e-4)
    assert not np.allclose(first, wave, atol=0.1)
    bins = np.fft.rfftfreq(16000, 1 / 16000)
    middle = (bins > 500) & (bins < 2000)  # within all cut-offs
    for seed in range(20):
        heard = change_channel(wave, 12.0, np.random.default_rng(seed))
        power = np.abs(np.fft.rfft(heard))[middle] ** 2
        change_db = 10 * np.log10(power.sum() / (np.abs(np.fft.rfft(wave))[middle] ** 2).sum())
        assert abs(change_db) < 12.0 + 4 * 3.0


def test_gate_silences_what_is_quiet_and_leaves_what_is_loud() -> None:
    wave = np.full(1600, 0.001, np.float32)
    wave[640:960] = 1.0
    gated = close_gate(wave, 30.0)
    np.testing.assert_array_equal(gated[640:960], wave[640:960])
    assert not gated[:640].any() and not gated[960:].any()
    np.testing.assert_array_equal(close_gate(wave, 90.0), wave)


def test_bent_silence_is_the_same_noise_at_another_speed() -> None:
    tone = np.rint(8000 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.int16)
    same = bend_silence(tone, AugmentConfig(), np.random.default_rng(0))
    np.testing.assert_array_equal(same, tone)
    config = AugmentConfig(silence_speed_percent=40.0)
    peaks = {
        int(np.abs(np.fft.rfft(bend_silence(tone, config, np.random.default_rng(seed)))).argmax()) for seed in range(20)
    }
    assert len(peaks) > 10 and min(peaks) >= 600 and max(peaks) <= 1400
