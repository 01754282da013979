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

        clip = fit_clip(samples, self.model.config.clip_samples)
        result = self._engine.run([Item(ITEM_CLIP, clip)])[0][0]
        return self.labels[result.label], int(result.posteriors_q15[result.label]) / 32768
