"""The numpy simulator as an engine: the definition of what all others compute."""

from collections.abc import Sequence

import numpy as np

from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES
from mbx_deploy.compiler.model import CompiledModel
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
from mbx_deploy.sim.frontend import Observer
from mbx_deploy.sim.kernels import posteriors


class SimEngine:
    """The numpy simulator."""

    name = "sim"

    def __init__(self, model: CompiledModel, stride_frames: int = DEFAULT_STRIDE_FRAMES) -> None:
        """stride_frames: between the windows of a stream."""
        self.model = model
        self.stride_frames = stride_frames
        self.exponentials_q15 = sim_model.exponential_table(model.program.output_scale) if model.hearing else None

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item. Only a clip has the front end's stages."""
        return [self._run(item, trace) for item in items]

    def _run(self, item: Item, trace: int) -> list[Result]:
        stages: dict[str, np.ndarray] = {}
        observe = stages.__setitem__ if trace == TRACE_STAGES and item.kind == ITEM_CLIP else None
        return [self._infer(window, dict(stages), trace) for window in self.windows(item, observe)]

    def windows(self, item: Item, observe: Observer | None = None) -> np.ndarray:
        """Return the int8 inputs of the network that an item gives.

        Of a recogniser the features of each window, (windows, num_frames, num_coefficients); of a network alone
        (1, values). Raises InputError for an item that a network alone does not take.
        """
        hearing, program = self.model.hearing, self.model.program
        if hearing is None:
            need_items(self.model, [item])
            return item.values.reshape(1, -1)
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

    def posteriors(self, logits: np.ndarray) -> np.ndarray:
        """Return the scores of logits, Q15, int32 (classes,); of a network alone none."""
        return NO_POSTERIORS if self.exponentials_q15 is None else posteriors(logits, self.exponentials_q15)


def pad_clip(samples: np.ndarray, model: CompiledModel) -> np.ndarray:
    """Return a clip of the model's length: zeros behind a short one, the end of a long one cut off.

    The C does the same.
    """
    length = model.config.clip_samples
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
