"""Speech Commands' folder, its splits and its silence; and the augmentation of its clips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mbx_deploy.data.dataset import (
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
from mbx_deploy.errors import InputError

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


@pytest.mark.slow
def test_the_real_lists(speech_commands: Path) -> None:
    lists = {split: list_split(speech_commands, split) for split in SPLITS}
    assert [len(lists[split]) for split in SPLITS] == [8876, 930, 2035]
    words = set(command_words(LABELS))
    assert sum(name.split("/")[0] in words for name in lists["testing"]) == 1454
    speakers = [{n.split("/")[1].split("_")[0] for n in names} for names in lists.values()]
    assert not speakers[0] & speakers[1]
    assert not speakers[0] & speakers[2]
    assert not speakers[1] & speakers[2]
