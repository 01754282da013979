"""What a page is tested with when it opens: noise by a recipe, and the checksum of what the simulator makes of it.

Twin: firmware_templates/browser/self_test.js, the same recipe and the same checksum of what the page's C makes of it.
"""

import zlib
from collections.abc import Iterator

import numpy as np

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.sim import recognizer, stream
from mbx_deploy.sim.decision import decide, silent_decision
from mbx_deploy.sim.kernels import posteriors

SEED = 2463534242
QUIETER_BITS = (0, 3, 7, 12)  # by which one part after another of the noise is quieter
PARTS = 8
DECISIONS = {False: 4, True: 16}  # by whether the model streams
NO_WORD = 0xFFFF
WORD_MASK = 0xFFFFFFFF

Stages = dict[str, np.ndarray]


def test_samples(model: CompiledModel, stride_frames: int) -> int:
    """Return how many samples of noise a page hears: enough for some decisions."""
    config = model.config
    window = config.audio_frames if model.streaming is None else 0
    frames = window + DECISIONS[model.streaming is not None] * stride_frames
    return frames * config.hop_length + config.window_length


def test_signal(count: int) -> np.ndarray:
    """Return the noise, int16 (count,): George Marsaglia's xorshift of 32 bits, loud and quiet in turns."""
    values, x = np.empty(count, np.int64), SEED
    for place in range(count):
        x ^= (x << 13) & WORD_MASK
        x ^= x >> 17
        x ^= (x << 5) & WORD_MASK
        values[place] = x - (1 << 32) if x >> 31 else x
    parts = np.arange(count) * PARTS // max(1, count)
    quieter = np.array(QUIETER_BITS)[parts % len(QUIETER_BITS)]
    samples: np.ndarray = (values >> (16 + quieter)).astype(np.int16)
    return samples


def test_checksum(model: CompiledModel, stride_frames: int) -> int:
    """Return the CRC-32 of what the simulator makes of the noise: features, every layer, scores and words.

    Of each decision follow features, layers in the order of the C's calls, logits int8, posteriors u16, and of the
    event its word u16 and score u16.
    """
    assert model.hearing is not None
    samples = test_signal(test_samples(model, stride_frames))
    rule, exponentials = model.hearing.decision, recognizer.exponential_table(model.program.output_scale)
    state, checksum, hop = silent_decision(rule), 0, model.config.hop_length
    for number, (logits, stages) in enumerate(_decisions(model, samples, stride_frames)):
        scores_q15 = posteriors(logits, exponentials)
        state, event = decide(rule, state, scores_q15, (number + 1) * stride_frames * hop)
        said = (NO_WORD, 0) if event is None else (event.word, event.score_q15)
        layers = [stages[call.name] for call in model.c_program.calls if call.name in stages]
        for values, kind in (
            *((layer, "i1") for layer in (stages["features"], *layers, logits)),
            (scores_q15, "<u2"),
            (np.array(said), "<u2"),
        ):
            checksum = zlib.crc32(values.astype(kind).tobytes(), checksum)
    return checksum


def _decisions(model: CompiledModel, samples: np.ndarray, stride_frames: int) -> Iterator[tuple[np.ndarray, Stages]]:
    """Yield logits and stages of each decision, as the C tells them."""
    program, tables, streaming = model.program, model.tables, model.streaming
    if streaming is None:
        for window in recognizer.stream_features(samples, tables, program, stride_frames):
            stages: Stages = {"features": window}
            yield recognizer.logits(window, program, stages.__setitem__), stages
        return
    rows = recognizer.rows_from_silence(samples, tables, program)
    state = stream.silent_state(program, streaming.time, streaming.silence)
    step = streaming.step_frames
    for start in range(0, len(rows) - step + 1, step):
        stages = {"features": rows[start : start + step]}
        state, logits = stream.step(program, streaming.time, state, stages["features"], stages.__setitem__)
        yield logits, stages
