"""What all boards share of their microphone's road: the decimator's bytes and its response, hand-over, overruns."""

import ctypes
import re

import numpy as np
import pytest

from mbx_deploy.sim import microphone
from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.tools import find_tool
from tests.made.c_microphone import QUEUE_SAMPLES, DoubleBuffer, Pcm, Pdm, Queue, audio_library, sigma_delta

pytestmark = pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")
AUDIO = firmware_templates_folder() / "parts" / "audio"
RATE = microphone.PDM_CLOCK_HZ


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return audio_library()


def hostile_bits(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    tone = 0.4 * np.sin(2 * np.pi * 1000 * np.arange(count) / RATE) + 0.05
    return {
        "all ones": np.ones(count, np.uint8),
        "all zeros": np.zeros(count, np.uint8),
        "alternating": np.arange(count).astype(np.uint8) & 1,
        "full-scale square wave": (np.arange(count) // 1024 % 2).astype(np.uint8),
        "white": random.integers(0, 2, count).astype(np.uint8),
        "a tone with an offset": sigma_delta(tone),
    }


def test_the_taps_in_c_are_those_of_the_design() -> None:
    text = (AUDIO / "mbx_pdm.c").read_text()
    found = re.search(r"taps_q14\[MBX_PDM_FIR_TAPS / 2\] = \{(.*?)\};", text, re.S)
    assert found
    taps = np.array([int(word) for word in found[1].replace("\n", " ").split(",") if word.strip()])
    np.testing.assert_array_equal(np.concatenate([taps, taps[::-1]]), microphone.fir_taps_q14())
    assert 2 * np.abs(taps).sum() * 32768 + (1 << 13) < 1 << 31


@pytest.mark.parametrize("name", list(hostile_bits(128)))
@pytest.mark.parametrize("gain_q4", [16, 160, 1023])
def test_the_decimator_gives_its_twins_bytes(name: str, gain_q4: int, library: ctypes.CDLL) -> None:
    bits = hostile_bits(128 * 700)[name]
    words = microphone.pdm_words(bits)
    expected = microphone.pdm_decimate(bits, gain_q4)
    np.testing.assert_array_equal(Pdm(library, gain_q4).decimate(words), expected)
    in_blocks = Pdm(library, gain_q4)
    parts = [in_blocks.decimate(part) for part in np.split(words, [8, 88, 2000, 2008])]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("gain_q4", [16, 40, 1023])
def test_conditioned_samples_are_the_twins(gain_q4: int, library: ctypes.CDLL) -> None:
    random = np.random.default_rng(4)
    for samples in (
        np.full(2000, -32768, np.int16),
        np.where(np.arange(2000) // 300 % 2, 32767, -32768).astype(np.int16),
        random.integers(-32768, 32768, 2000).astype(np.int16),
        random.integers(-3, 4, 2000).astype(np.int16),
    ):
        pcm = Pcm(library, gain_q4)
        got = np.concatenate([pcm.condition(part) for part in np.array_split(samples, 7)])
        np.testing.assert_array_equal(got, microphone.pcm_condition(samples, gain_q4))


def test_the_mean_is_removed() -> None:
    offset = np.full(16000, 1234, np.int16)
    assert np.abs(microphone.pcm_condition(offset, 16)[8000:]).max() <= 1
    bits = sigma_delta(np.full(128 * 8000, 0.1))
    assert np.abs(microphone.pdm_decimate(bits, 16)[6000:].astype(int)).max() <= 4


def filter_gain_db(frequency_hz: np.ndarray) -> np.ndarray:
    """Return the gain from bits to the samples' rate, before the folding, in dB."""
    taps = microphone.fir_taps_q14()
    phases = np.exp(-2j * np.pi * np.outer(frequency_hz, np.arange(len(taps))) * microphone.CIC_RATIO / RATE)
    gain = np.abs(phases @ taps) / 16384 * np.abs(microphone.cic_response(frequency_hz))
    return 20 * np.log10(np.maximum(gain, 1e-12))


def test_the_response() -> None:
    """Flat within 0.02 dB to 7 kHz; what folds back from above 9 kHz is 60 dB down. Bounds just above the measured."""
    assert np.abs(filter_gain_db(np.linspace(0, 7000, 2001))).max() < 0.02
    assert filter_gain_db(np.linspace(9000, RATE / 2, 20_001)).max() < -60
    assert -6.2 < filter_gain_db(np.array([8000.0]))[0] < -6.0


@pytest.mark.parametrize(("tone_hz", "low_db", "high_db"), [(300, -0.1, 0.1), (6500, -0.1, 0.1), (9500, -200, -60),
                                                            (57_000, -200, -60), (120_000, -200, -60)])  # fmt: skip
def test_a_tone_through_the_c(tone_hz: int, low_db: float, high_db: float, library: ctypes.CDLL) -> None:
    """A modulator's bits of a half-scale tone: the level where it belongs in the samples, or folds to."""
    count = 128 * 4800
    bits = sigma_delta(0.5 * np.sin(2 * np.pi * tone_hz * np.arange(count) / RATE))
    samples = Pdm(library, 16).decimate(microphone.pdm_words(bits))[1600:].astype(np.float64)
    folded = abs((tone_hz + 8000) % 16000 - 8000)
    phase = np.exp(-2j * np.pi * folded * np.arange(len(samples)) / 16000)
    level_db = 20 * np.log10(2 * abs(np.mean(samples * phase)) / 16384 + 1e-9)
    assert low_db < level_db < high_db


def test_gain_is_what_it_says(library: ctypes.CDLL) -> None:
    bits = sigma_delta(0.01 * np.sin(2 * np.pi * 1000 * np.arange(128 * 4800) / RATE))
    words = microphone.pdm_words(bits)
    quiet, loud = (Pdm(library, gain).decimate(words)[1600:].astype(float) for gain in (16, 160))
    assert abs(20 * np.log10(loud.std() / quiet.std()) - 20) < 0.1


# --- hand-over ---


def test_the_queue_against_a_list(library: ctypes.CDLL) -> None:
    """Random pushes and releases: nothing lost but what is counted, nothing twice, order kept, over several wraps; what
    was lost is told where it was lost.
    """
    random = np.random.default_rng(5)
    queue = Queue(written=2**32 - 100, read=2**32 - 100)  # the counts wrap, too
    model: list[int] = []  # values that wait; a loss before the next one is negative
    next_value = dropped_blocks = dropped_samples = told = 0
    lost_here, dropping = 0, False
    for _ in range(3000):
        if random.random() < 0.5:
            size = int(random.integers(1, QUEUE_SAMPLES // 4))
            block = np.arange(next_value, next_value + size).astype(np.int16) & 0x7FFF
            next_value += size
            room = QUEUE_SAMPLES - sum(value >= 0 for value in model)
            fits = size <= room and not (dropping and room < QUEUE_SAMPLES // 2)
            data = ctypes.c_void_p(block.ctypes.data)
            assert library.mbx_audio_queue_push(ctypes.byref(queue), data, size) == fits
            dropping = not fits
            if fits:
                model += ([-lost_here] if lost_here else []) + block.tolist()
                lost_here = 0
            else:
                dropped_blocks, dropped_samples, lost_here = (
                    dropped_blocks + 1,
                    dropped_samples + size,
                    lost_here + size,
                )
        else:
            lost = library.mbx_audio_queue_lost(ctypes.byref(queue))
            assert lost == (-model.pop(0) if model and model[0] < 0 else 0)
            told += lost
            count = ctypes.c_uint32()
            samples = library.mbx_audio_queue_peek(ctypes.byref(queue), ctypes.byref(count))
            assert samples[: count.value] == model[: count.value] and (count.value > 0) == bool(model)
            taken = int(random.integers(0, count.value + 1))
            library.mbx_audio_queue_release(ctypes.byref(queue), taken)
            del model[:taken]
        assert library.mbx_audio_queue_waiting(ctypes.byref(queue)) == sum(value >= 0 for value in model)
    assert dropped_blocks > 10 and told > 0
    assert (queue.overrun_blocks, queue.overrun_samples) == (dropped_blocks, dropped_samples)
    assert told == dropped_samples - lost_here + sum(value for value in model if value < 0)


def test_a_queue_that_is_full_takes_nothing_and_loses_nothing(library: ctypes.CDLL) -> None:
    queue = Queue()
    library.mbx_audio_queue_init(ctypes.byref(queue))
    block = np.arange(QUEUE_SAMPLES, dtype=np.int16)
    data = ctypes.c_void_p(block.ctypes.data)
    assert library.mbx_audio_queue_push(ctypes.byref(queue), data, QUEUE_SAMPLES) == 1
    assert library.mbx_audio_queue_push(ctypes.byref(queue), data, 1) == 0
    assert (queue.overrun_blocks, queue.overrun_samples) == (1, 1)
    assert list(queue.samples) == block.tolist()


def test_losses_are_told_even_where_there_are_more_gaps_than_places_for_them(library: ctypes.CDLL) -> None:
    queue = Queue()
    library.mbx_audio_queue_init(ctypes.byref(queue))
    data = ctypes.c_void_p(np.zeros(4, np.int16).ctypes.data)
    for missed in range(1, 7):
        library.mbx_audio_queue_miss(ctypes.byref(queue), missed)
        assert library.mbx_audio_queue_push(ctypes.byref(queue), data, 4) == 1
    told = []
    count = ctypes.c_uint32(1)
    while count.value:
        told.append(library.mbx_audio_queue_lost(ctypes.byref(queue)))
        library.mbx_audio_queue_peek(ctypes.byref(queue), ctypes.byref(count))
        library.mbx_audio_queue_release(ctypes.byref(queue), count.value)
    assert told == [1, 2, 3, 4, 0] and queue.missed_blocks == 6
    assert library.mbx_audio_queue_push(ctypes.byref(queue), data, 4) == 1
    assert library.mbx_audio_queue_lost(ctypes.byref(queue)) == 5 + 6


def test_double_buffering_counts_the_blocks_that_an_interrupt_missed(library: ctypes.CDLL) -> None:
    buffer, queue = DoubleBuffer(), Queue()
    library.mbx_double_buffer_init(ctypes.byref(buffer))
    library.mbx_audio_queue_init(ctypes.byref(queue))
    take = library.mbx_double_buffer_take
    taken = [take(ctypes.byref(buffer), active, ctypes.byref(queue), 160) for active in (1, 0, 1, 1, 0, 0, 1)]
    assert taken == [0, 1, 0, 0, 1, 1, 0]
    assert (queue.missed_blocks, queue.pending) == (2, 320)
