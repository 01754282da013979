"""The models that are shipped with the package."""

from typing import TYPE_CHECKING, Any

from mbx_deploy.system.resources import DEFAULT_MODEL, resolve_model

if TYPE_CHECKING:
    import numpy as np

    from mbx_deploy.compiler.model import CompiledModel


def from_pretrained(model: str = DEFAULT_MODEL) -> "Pretrained":
    """Return a shipped model by its name, or the model of a file, ready to hear. Raises InputError for a bad one."""
    from mbx_deploy.compiler.model import load_model

    return Pretrained(load_model(resolve_model(model)))


class Pretrained:
    """A model that says which word a recording holds, by the simulator: the bytes of the firmware."""

    def __init__(self, recognizer: "CompiledModel") -> None:
        from mbx_deploy.engines.sim import SimEngine

        self.model = recognizer
        self.labels = recognizer.labels
        self.card: dict[str, Any] = recognizer.metadata.get("card", {})
        self.sample_rate_hz = recognizer.config.sample_rate_hz
        self._engine = SimEngine(recognizer)

    def recognize(self, samples: "np.ndarray") -> tuple[str, float]:
        """Return (label, score) of a recording, int16 (n,) at sample_rate_hz; audio.fit_clip() sets its length."""
        from mbx_deploy.data.audio import fit_clip
        from mbx_deploy.engines.session import ITEM_CLIP, Item
        from mbx_deploy.sim.decision import answer

        clip = samples if self.model.streaming else fit_clip(samples, self.model.config.clip_samples)
        results = self._engine.run([Item(ITEM_CLIP, clip)])[0]
        label, scores = results[0].label, results[0].posteriors_q15
        if self.model.streaming is not None and self.model.hearing is not None:
            label, scores = answer(self.model.hearing.decision, [result.posteriors_q15 for result in results])
        return self.labels[label], int(scores[label]) / 32768
