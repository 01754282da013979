"""Speech Commands' folder, its splits and its silence; and the augmentation of its clips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mbx_deploy.errors import InputError
from mbx_deploy.train.augment import (
    AugmentConfig,
    augment_clip,
    augment_clips,
    change_speed,
    mask_features,
    mix,
    shift,
)
from mbx_deploy.train.dataset import (
    LABELS,
    NOISE_PARTS,
    SPLITS,
    command_words,
    list_split,
    load_noise,
    load_speech_commands,
    load_split,
    noise_clip,
    silence_clips,
)

RATE_HZ = 16000
WORDS = ("go", "stop", "bed")
TINY_LABELS = ("go", "stop", "unknown", "silence")


def write_clip(path: Path, value: int, count: int = RATE_HZ) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(count, value, np.int16), RATE_HZ, subtype="PCM_16")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three words, six clips each, of which each list takes one; the samples say which it is."""
    for number, word in enumerate(WORDS):
        for clip in range(6):
            suffix = "flac" if clip % 2 else "wav"
            path = tmp_path / word / f"speaker{clip}_nohash_0.{suffix}"
            write_clip(path, 100 * number + clip + 1, count=8000 if clip == 5 else RATE_HZ)
    for split, clip in (("validation", 0), ("testing", 1)):
        # The data set's own lists say .wav, whatever the clips are kept as.
        lines = [f"{word}/speaker{clip}_nohash_0.wav\n" for word in WORDS]
        (tmp_path / f"{split}_list.txt").write_text("".join(lines))
    ramp = np.arange(1, 30001, dtype=np.int16)
    (tmp_path / "_background_noise_").mkdir()
    soundfile.write(tmp_path / "_background_noise_" / "ramp.wav", ramp, RATE_HZ, subtype="PCM_16")
    (tmp_path / "_background_noise_" / "README.md").write_text("not a sound")
    return tmp_path


def test_lists_divide_the_clips(root: Path) -> None:
    lists = {split: list_split(root, split) for split in SPLITS}
    assert [len(lists[split]) for split in SPLITS] == [12, 3, 3]
    assert lists["testing"] == [f"{word}/speaker1_nohash_0.flac" for word in sorted(WORDS)]
    every = [name for names in lists.values() for name in names]
    assert len(set(every)) == len(every) == 18


def test_a_split_is_held_in_memory_in_its_order(root: Path) -> None:
    split = load_split(root, "training", TINY_LABELS, progress=False)
    assert split.samples.shape == (12, RATE_HZ)
    assert split.samples.dtype == np.int16
    assert list(split.names) == list_split(root, "training")
    for name, samples, class_ in zip(split.names, split.samples, split.classes, strict=True):
        word, file = name.split("/")
        clip = int(file.removeprefix("speaker")[0])
        assert samples[0] == 100 * WORDS.index(word) + clip + 1
        assert TINY_LABELS[class_] == (word if word in TINY_LABELS else "unknown")
        # A short clip is continued by zeros.
        assert (samples[-1] == 0) == (clip == 5)
    assert list(split.indices_of("silence")) == []
    assert len(split.indices_of("unknown")) == 4
    assert list(split.indices_of("nothing")) == []


def test_measured_splits_hold_fixed_silence(root: Path) -> None:
    first, again = (load_split(root, "testing", TINY_LABELS, progress=False) for _ in range(2))
    assert list(first.names[3:]) == ["silence/0000"]
    assert len(first.indices_of("silence")) == 1
    np.testing.assert_array_equal(first.samples, again.samples)


def test_other_words_are_left_out_without_unknown(root: Path) -> None:
    split = load_split(root, "validation", ("go", "stop"), progress=False)
    assert [name.split("/")[0] for name in split.names] == ["go", "stop"]
    assert list(split.classes) == [0, 1]


def test_all_splits_at_once(root: Path) -> None:
    data = load_speech_commands(root, TINY_LABELS, progress=False)
    assert {split: len(data[split]) for split in data} == {
        "training": 12,
        "validation": 4,
        "testing": 4,
    }


def test_no_two_splits_share_noise(root: Path) -> None:
    parts = [load_noise(root, split)[0] for split in SPLITS]
    # Every sample of the ramp occurs once: the parts are disjoint, and nothing is lost.
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(1, 30001))
    assert len(parts[0]) == NOISE_PARTS["training"][1] * 30000


def test_noise_shorter_than_a_clip_is_repeated() -> None:
    clip = noise_clip([np.array([1, 2, 3], np.int16)], np.random.default_rng(0), 8)
    assert list(clip) == [1, 2, 3, 1, 2, 3, 1, 2]


def test_silence_is_seeded_and_of_many_levels() -> None:
    noise = [np.random.default_rng(0).integers(-2000, 2000, 40000).astype(np.int16)]
    clips = silence_clips(noise, 200, np.random.default_rng(7))
    np.testing.assert_array_equal(clips, silence_clips(noise, 200, np.random.default_rng(7)))
    assert (clips != silence_clips(noise, 200, np.random.default_rng(8))).any()
    peaks = np.abs(clips.astype(np.int32)).max(axis=1)
    assert 2 <= (peaks == 0).sum() <= 30
    assert 0 < (peaks < 100).sum() < 190
    assert peaks.max() <= 2000 * 1.42


def test_silence_without_noise_recordings() -> None:
    clips = silence_clips([], 50, np.random.default_rng(0))
    assert clips.any()
    assert np.abs(clips.astype(np.int32)).max() < 32768 // 10


def remove_list(root: Path) -> None:
    (root / "testing_list.txt").unlink()


def remove_listed_clip(root: Path) -> None:
    (root / "go" / "speaker1_nohash_0.flac").unlink()


def list_clip_twice(root: Path) -> None:
    (root / "testing_list.txt").write_text((root / "validation_list.txt").read_text())


def empty_list(root: Path) -> None:
    (root / "testing_list.txt").write_text("\n")


def binary_list(root: Path) -> None:
    (root / "testing_list.txt").write_bytes(b"\xff\xfe\x00")


def damage_clip(root: Path) -> None:
    (root / "go" / "speaker1_nohash_0.flac").write_text("no sound")


def remove_word(root: Path) -> None:
    for path in (root / "go").iterdir():
        path.unlink()
    (root / "go").rmdir()
    for split in SPLITS[1:]:
        path = root / f"{split}_list.txt"
        path.write_text("".join(x for x in path.read_text().splitlines(True) if "go/" not in x))


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (remove_list, "testing_list.txt"),
        (remove_listed_clip, "speaker1"),
        (list_clip_twice, "two splits"),
        (empty_list, "empty split"),
        (binary_list, "testing_list.txt"),
        (damage_clip, "speaker1"),
        (remove_word, "'go'"),
    ],
)
def test_a_broken_data_set_is_named(root: Path, harm: Any, named: str) -> None:
    harm(root)
    with pytest.raises(InputError, match=named):
        load_split(root, "testing", TINY_LABELS, progress=False)


def test_no_folder_and_no_such_split(root: Path) -> None:
    with pytest.raises(InputError, match="no data set"):
        load_split(root / "nowhere", "testing", progress=False)
    with pytest.raises(InputError, match="unknown split"):
        load_split(root, "test", progress=False)


def test_the_real_lists(speech_commands: Path) -> None:
    lists = {split: list_split(speech_commands, split) for split in SPLITS}
    assert [len(lists[split]) for split in SPLITS] == [8876, 930, 2035]
    words = set(command_words(LABELS))
    assert sum(name.split("/")[0] in words for name in lists["testing"]) == 1454
    speakers = [{n.split("/")[1].split("_")[0] for n in names} for names in lists.values()]
    assert not speakers[0] & speakers[1]
    assert not speakers[0] & speakers[2]
    assert not speakers[1] & speakers[2]


def test_augmentation_follows_its_seed() -> None:
    clips = np.random.default_rng(0).integers(-3000, 3000, (4, RATE_HZ)).astype(np.int16)
    noise = [np.random.default_rng(1).integers(-500, 500, 40000).astype(np.int16)]
    runs = [augment_clips(clips, noise, AugmentConfig(), np.random.default_rng(s)) for s in (3, 3, 4)]
    assert runs[0].shape == clips.shape
    assert runs[0].dtype == np.int16
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize("value", [-32768, 32767, 0])
def test_augmentation_of_the_edges_saturates(value: int) -> None:
    clip = np.full(RATE_HZ, value, np.int16)
    noise = [np.full(RATE_HZ, -32768, np.int16)]
    for seed in range(20):
        out = augment_clip(clip, noise, AugmentConfig(), np.random.default_rng(seed))
        assert out.shape == clip.shape
        # Nothing wraps round: a constant keeps its sign, or is buried by the noise's.
        if value < 0:
            assert out.max() <= 32768 * 0.02


def test_nothing_to_augment_changes_nothing() -> None:
    clip = np.random.default_rng(0).integers(-3000, 3000, RATE_HZ).astype(np.int16)
    config = AugmentConfig(
        shift_ms=0.0,
        speed_probability=0.0,
        gain_db=(0.0, 0.0),
        noise_probability=0.0,
        white_noise_probability=0.0,
    )
    np.testing.assert_array_equal(augment_clip(clip, [], config, np.random.default_rng(0)), clip)


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
    features = np.random.default_rng(0).standard_normal((3, 101, 64)).astype(np.float32)
    before = features.copy()
    config = AugmentConfig(coefficient_masks=0, time_masks=1, time_mask_width=20)
    masked = mask_features(features, config, np.random.default_rng(2))
    np.testing.assert_array_equal(features, before)
    for clip, original in zip(masked, features, strict=True):
        changed = np.flatnonzero((clip != original).any(axis=1))
        assert 0 <= len(changed) <= 20
        if len(changed):
            assert changed[-1] - changed[0] == len(changed) - 1
            np.testing.assert_allclose(clip[changed[0]], original.mean(axis=0), atol=1e-6)


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
        {"shift_ms": -1.0},
        {"shift_ms": float("nan")},
        {"shift": 100.0},
    ],
)
def test_bad_augmentation_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        AugmentConfig.from_dict(change)


def test_augmentation_goes_through_a_dict() -> None:
    config = AugmentConfig(gain_db=(-1.0, 2.0), time_masks=3)
    assert AugmentConfig.from_dict(config.to_dict()) == config
