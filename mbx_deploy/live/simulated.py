"""The simulator as a listener: it keeps as much audio as its frames still see, and computes each decision anew."""

from collections.abc import Iterator

import numpy as np

from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.session import ITEM_STREAM, Item
from mbx_deploy.engines.sim import decision_samples
from mbx_deploy.live.decisions import Decision
from mbx_deploy.sim import recognizer, stream
from mbx_deploy.sim.decision import decide, silent_decision
from mbx_deploy.sim.kernels import posteriors


class SimListener:
    """The numpy simulator. It is slow: about as quick as speech."""

    name = "sim"

    def __init__(self, model: CompiledModel, stride_frames: int = DEFAULT_STRIDE_FRAMES) -> None:
        """stride_frames: between windows; a model that streams has its own."""
        assert model.hearing is not None
        self.model = model
        self.rule = model.hearing.decision
        self.stride = stride_frames if model.streaming is None else model.streaming.step_frames
        self.exponentials = recognizer.exponential_table(model.program.output_scale)
        self.decision = silent_decision(self.rule)
        if model.streaming is not None:
            self.state = stream.silent_state(model.program, model.streaming.time, model.streaming.silence)
        self.kept = np.zeros(0, np.int16)  # from sample kept_from on
        self.kept_from = self.arrived = self.lost = self.made = 0
        self.due = [0, 0]
        self.due[:] = decision_samples(Item(ITEM_STREAM, self.kept), model, self.stride, 2)

    def feed(self, samples: np.ndarray) -> list[Decision]:
        """Return the decisions that are due in these samples, int16 (n,)."""
        self.kept = np.concatenate([self.kept, samples])
        self.arrived += len(samples)
        return list(self._decisions())

    def lose(self, count: int) -> None:
        """Count samples that never arrived."""
        self.lost += count

    def _decisions(self) -> Iterator[Decision]:
        first, second = self.due
        while self.arrived >= (end := first + self.made * (second - first)):
            logits = self._logits(self.kept[: end - self.kept_from])
            self.made += 1
            scores_q15 = posteriors(logits, self.exponentials)
            self.decision, event = decide(self.rule, self.decision, scores_q15, end + self.lost)
            label = int(np.argmax(logits))
            yield Decision(end + self.lost, label, int(scores_q15[label]), logits, scores_q15, event)
            self._forget(end)

    def _logits(self, samples: np.ndarray) -> np.ndarray:
        """Return the network's output at a decision. samples: kept ones, up to it."""
        model, streaming = self.model, self.model.streaming
        program, tables = model.program, model.tables
        if streaming is None:
            windows = recognizer.stream_features(samples, tables, program, 1)
            return recognizer.logits(windows[-1], program)
        rows = recognizer.rows_from_silence(samples, tables, program)[-self.stride :]
        self.state, logits = stream.step(program, streaming.time, self.state, rows)
        return logits

    def _forget(self, end: int) -> None:
        """Drop whole frames that no decision to come sees, nor the beginning of what is kept."""
        config = self.model.config
        seen = self.stride if self.model.streaming is not None else config.audio_frames
        needed = (seen + 1) * config.hop_length + 3 * config.window_length
        over = max(0, end - needed - self.kept_from) // config.hop_length * config.hop_length
        self.kept, self.kept_from = self.kept[over:], self.kept_from + over
