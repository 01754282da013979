"""What a model card measures: accuracies by hand, noise at its ratio, intervals over speakers."""

import numpy as np
import pytest

from mbx_deploy.data.accuracy import (
    command_interval,
    confusion_matrix,
    measure,
    noisy_clips,
    speakers,
)
from mbx_deploy.data.dataset import Split
from mbx_deploy.errors import InputError

RATE_HZ = 16000
LABELS = ("go", "stop", "unknown", "silence")


def test_measure_by_hand() -> None:
    labels = ("go", "stop", "unknown", "silence")
    classes = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    chosen = [0, 0, 0, 2, 1, 0, 2, 1]
    split = Split(labels, np.zeros((8, 1), np.int16), classes, ("x",) * 8, ())
    found = measure(np.eye(4, dtype=np.float32)[chosen], split)
    assert found.command_clips == 6
    assert found.command_accuracy == pytest.approx(4 / 6)
    assert found.recall == {"go": 0.75, "stop": 0.5, "unknown": 0.5}
    assert found.balanced_accuracy == pytest.approx(1.75 / 3)
    assert found.clips == 8
    assert found.score == pytest.approx((4 / 6 + 1.75 / 3) / 2)


def a_split(samples: np.ndarray, classes: list[int], names: list[str] | None = None) -> Split:
    noise = np.random.default_rng(1).integers(-2000, 2000, 3 * RATE_HZ).astype(np.int16)
    names = names or [f"go/{number}_nohash_0.wav" for number in range(len(samples))]
    return Split(LABELS, samples, np.array(classes), tuple(names), (noise,))


def test_noise_is_at_its_ratio_and_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    split = a_split(rng.integers(-1000, 1000, (3, RATE_HZ)).astype(np.int16), [0, 2, 3])
    for snr_db in (20.0, 0.0, -10.0):
        noisy = noisy_clips(split, snr_db)
        np.testing.assert_array_equal(noisy, noisy_clips(split, snr_db))
        added = noisy.astype(np.float64) - split.samples
        for number in (0, 1):
            ratio = np.mean(split.samples[number].astype(np.float64) ** 2) / np.mean(added[number] ** 2)
            assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.1)
        assert not added[2].any()
    assert (noisy_clips(split, 0.0, seed=2) != noisy_clips(split, 0.0)).any()


def test_noise_never_wraps_round() -> None:
    loud = np.tile(np.array([32767, -32768], np.int16), (1, RATE_HZ // 2))
    noisy = noisy_clips(a_split(loud, [0]), -10.0).astype(np.float64)
    assert np.abs(noisy).max() == 32767
    assert (np.sign(noisy[0, ::2]) == -np.sign(noisy[0, 1::2])).mean() > 0.3


def test_without_noise_there_is_nothing_to_measure_in() -> None:
    split = Split(LABELS, np.zeros((1, RATE_HZ), np.int16), np.array([0]), ("go/a_nohash_0.wav",), ())
    with pytest.raises(InputError, match="background"):
        noisy_clips(split, 0.0)


def test_confusion_by_hand() -> None:
    split = a_split(np.zeros((4, 1), np.int16), [0, 0, 1, 3])
    matrix = confusion_matrix(np.eye(4)[[0, 2, 1, 0]], split)
    assert matrix.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_the_interval_draws_speakers() -> None:
    names = [f"go/s{number // 10}_nohash_{number}.wav" for number in range(100)]
    split = a_split(np.zeros((100, 1), np.int16), [0] * 100, names)
    right = np.eye(4)[[0] * 100]
    assert command_interval(right, split) == (1.0, 1.0)
    # Ten errors: one hard voice's, or one of each voice. Only the first leaves doubt.
    one_voice, every_voice = right.copy(), right.copy()
    one_voice[:10] = np.eye(4)[1]
    every_voice[::10] = np.eye(4)[1]
    low, high = command_interval(one_voice, split)
    assert low <= 0.75
    assert high == 1.0
    assert command_interval(every_voice, split) == pytest.approx((0.9, 0.9))
    spoken = ("silence/0001", "go/abc_nohash_0.wav", "go/rec-1.wav")
    split = Split(LABELS, np.zeros((3, 1), np.int16), np.array([0, 0, 0]), spoken, ())
    assert speakers(split) == {"abc", "go/rec-1.wav"}
