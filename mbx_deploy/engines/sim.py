"""The numpy simulator as an engine: the definition of what all others compute."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES
from mbx_deploy.compiler.model import CompiledModel, Streaming
from mbx_deploy.engines.session import (
    ITEM_CLIP,
    ITEM_FEATURES,
    NO_POSTERIORS,
    TRACE_RESULTS,
    TRACE_STAGES,
    Item,
    Result,
    need_items,
)
from mbx_deploy.sim import recognizer as sim_model
from mbx_deploy.sim import stateful, stream
from mbx_deploy.sim.decision import decide, silent_decision
from mbx_deploy.sim.frontend import Observer
from mbx_deploy.sim.kernels import posteriors


class SimEngine:
    """The numpy simulator."""

    name = "sim"

    def __init__(self, model: CompiledModel, stride_frames: int = DEFAULT_STRIDE_FRAMES) -> None:
        """stride_frames: between the windows of a stream; a model that streams has its own."""
        self.model = model
        self.stride_frames = stride_frames
        self.exponentials_q15 = sim_model.exponential_table(model.program.output_scale) if model.hearing else None

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Only a clip has the front end's stages."""
        return [with_events(self._run(item, trace), item, self.model, self.stride_frames) for item in items]

    def _run(self, item: Item, trace: int) -> list[Result]:
        streaming = self.model.streaming
        if streaming is not None:
            rows = stream_rows(item, self.model)
            if streaming.in_windows:
                return [self._infer(window, {}, trace) for window in rows_windows(rows, streaming)]
            return list(self._steps(rows, streaming, trace))
        if self.model.keeps_state:
            return list(self._runs(self.windows(item), trace))
        stages: dict[str, np.ndarray] = {}
        observe = stages.__setitem__ if trace == TRACE_STAGES and item.kind == ITEM_CLIP else None
        return [self._infer(window, dict(stages), trace) for window in self.windows(item, observe)]

    def windows(self, item: Item, observe: Observer | None = None) -> np.ndarray:
        """Return the int8 inputs of the network that an item gives.

        Of a recogniser the features of each window, (windows, num_frames, num_coefficients); of a network alone
        (1, values); of one that keeps state (runs, values); of one that streams the window of each step. Raises
        InputError for an item that a network alone does not take.
        """
        hearing, program = self.model.hearing, self.model.program
        if self.model.streaming is not None:
            return rows_windows(stream_rows(item, self.model), self.model.streaming)
        if hearing is None:
            need_items(self.model, [item])
            return item.values.reshape(-1, program.buffers[program.input].size_bytes)
        config, tables = hearing.config, hearing.tables
        if item.kind == ITEM_FEATURES:
            return item.values.reshape(1, config.num_frames, config.num_coefficients)
        if item.kind == ITEM_CLIP:
            return sim_model.features(pad_clip(item.values, self.model), tables, program, observe)[None]
        return sim_model.stream_features(item.values, tables, program, self.stride_frames)

    def _infer(self, values: np.ndarray, stages: dict[str, np.ndarray], trace: int) -> Result:
        if trace and self.model.hearing:
            stages["features"] = values
        observe = stages.__setitem__ if trace else None
        logits = sim_model.logits(values, self.model.program, observe)
        return Result(logits, self.posteriors(logits), stages)

    def _runs(self, inputs: np.ndarray, trace: int) -> Iterator[Result]:
        """Yield the result of each run of a network that keeps state; traced is what each call of the C computes."""
        told = {call.name for call in self.model.c_program.calls}
        state = stateful.initial_state(self.model.program)
        for values in inputs:
            stages: dict[str, np.ndarray] = {}
            state, output = stateful.run(self.model.program, state, values, stages.__setitem__ if trace else None)
            stages = {name: layer for name, layer in stages.items() if name in told}
            yield Result(output, self.posteriors(output), stages)

    def _steps(self, rows: np.ndarray, streaming: Streaming, trace: int) -> Iterator[Result]:
        """Yield the result of each step; traced is what each call of the C adds."""
        model = self.model
        told = {call.name for call in model.c_program.calls}
        state = stream.silent_state(model.program, streaming.time, streaming.silence)
        for start in range(0, len(rows) - streaming.step_frames + 1, streaming.step_frames):
            stages: dict[str, np.ndarray] = {}
            added = rows[start : start + streaming.step_frames]
            observe = stages.__setitem__ if trace else None
            state, logits = stream.step(model.program, streaming.time, state, added, observe)
            stages = {name: values for name, values in stages.items() if name in told}
            if trace and model.hearing:
                stages = {"features": added, **stages}
            yield Result(logits, self.posteriors(logits), stages)

    def posteriors(self, logits: np.ndarray) -> np.ndarray:
        """Return the scores of logits, Q15, int32 (classes,); of a network alone none."""
        return NO_POSTERIORS if self.exponentials_q15 is None else posteriors(logits, self.exponentials_q15)


def with_events(results: list[Result], item: Item, model: CompiledModel, stride_frames: int) -> list[Result]:
    """Return the results of an item with what the model's rule of decision makes of them."""
    if model.hearing is None:
        return results
    rule = model.hearing.decision
    state, decided = silent_decision(rule), []
    for result, samples in zip(results, decision_samples(item, model, stride_frames, len(results)), strict=True):
        state, event = decide(rule, state, result.posteriors_q15, samples)
        said = (-1, 0, samples) if event is None else (event.word, event.score_q15, event.samples)
        decided.append(replace(result, event=np.array(said, np.int64)))
    return decided


def decision_samples(item: Item, model: CompiledModel, stride_frames: int, count: int) -> list[int]:
    """Return after how many samples each of count decisions is due. Twin: the count of mbx_feed()."""
    config, streaming = model.config, model.streaming
    hop = config.hop_length
    if streaming is not None:
        step = streaming.step_frames
        if item.kind == ITEM_FEATURES:
            return [step * hop * (number + 1) for number in range(count)]
        before = (config.window_length - 1 - config.lead) // hop
        first = config.window_length - config.lead - before * hop
        return [first + ((number + 1) * step - 1) * hop for number in range(count)]
    if item.kind == ITEM_FEATURES:
        return [0] * count
    reach = config.window_length - config.lead
    frames = [config.audio_frames - 1 + number * stride_frames for number in range(count)]
    ends = [frame * hop + reach + (1 if frame == 0 and config.lead else 0) for frame in frames]
    return [min(end, config.clip_samples) for end in ends] if item.kind == ITEM_CLIP else ends


def stream_rows(item: Item, model: CompiledModel) -> np.ndarray:
    """Return the rows of the network's input that an item gives a model that streams, int8 (rows, values).

    A clip is followed by the silence that lets its end be heard out. Raises InputError for an item that a network alone
    does not take, and for values that fill no rows.
    """
    streaming, hearing = model.streaming, model.hearing
    assert streaming is not None
    if hearing is None or item.kind == ITEM_FEATURES:
        if hearing is None:
            need_items(model, [item])
        return item.values.reshape(-1, len(streaming.silence))
    samples = item.values
    if item.kind == ITEM_CLIP:
        samples = np.pad(samples, (0, streaming.tail_frames * hearing.config.hop_length))
    return sim_model.rows_from_silence(samples, hearing.tables, model.program)


def rows_windows(rows: np.ndarray, streaming: Streaming) -> np.ndarray:
    """Return the window of each step, int8 (steps, window_frames, values): its last rows, silence before the first."""
    frames, step = streaming.time.window_frames, streaming.step_frames
    heard = np.concatenate([np.repeat(streaming.silence[None], frames, axis=0), rows])
    ends = range(frames + step, len(heard) + 1, step)
    return np.array([heard[end - frames : end] for end in ends], np.int8).reshape(-1, frames, rows.shape[1])


def pad_clip(samples: np.ndarray, model: CompiledModel) -> np.ndarray:
    """Return a clip of the model's length: zeros behind a short one, the end of a long one cut off.

    The C does the same.
    """
    length = model.config.clip_samples
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
