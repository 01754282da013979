"""The models that are shipped with the package."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbx_deploy.errors import InputError
from mbx_deploy.resources import models_folder

if TYPE_CHECKING:
    import numpy as np

    from mbx_deploy.recognizer import Recognizer

DEFAULT_MODEL = "kws10"


def shipped_model_path(name: str = DEFAULT_MODEL) -> Path:
    """Return the .tflite of a shipped model. Raises InputError with the names that there are."""
    path = models_folder() / f"{name}.tflite"
    names = sorted(found.stem for found in models_folder().glob("*.tflite"))
    if name not in names:
        raise InputError(f"no shipped model of that name: got {name!r}", f"shipped: {', '.join(names)}")
    return path


def resolve_model(model: str | None) -> Path:
    """Return the path of a model: a file's, or a shipped model's by its name; without either the default one."""
    if model is None:
        return shipped_model_path()
    path = Path(model)
    if path.suffix or os.sep in model or os.path.exists(path):
        return path
    return shipped_model_path(model)


def artifact_of(model: Path, forward: str | None = None, note: Callable[[str], None] = lambda line: None) -> Path:
    """Return the .tflite of a model: the file itself, or what a .nemo converts to, kept for the next time.

    forward: which of NeMo's forward passes a .nemo is to be taken for, instead of what the file says. note hears of
    what was chosen. Raises InputError for an unusable .nemo, or for forward with another model.
    """
    if model.suffix == ".nemo":
        from mbx_deploy.nemo.conversion import cached_artifact

        return cached_artifact(model, forward, note)
    check_forward(model, forward)
    return model


def check_forward(model: Path, forward: str | None) -> None:
    """Raise InputError where a forward pass is chosen for a model that has only one."""
    if forward is not None and model.suffix != ".nemo":
        raise InputError(f"--forward is for .nemo models: got {model}", "leave it out")


def list_models() -> list[dict[str, Any]]:
    """Return what each shipped model's file says of it, as JSON takes it, by name."""
    return [describe_model(path.stem) for path in sorted(models_folder().glob("*.tflite"))]


def describe_model(model: str) -> dict[str, Any]:
    """Return what a shipped model's file, or another .tflite, says of it, as JSON takes it.

    "card": what was measured, see model_card.build_card(); empty where the file has none. Raises InputError.
    """
    from mbx_deploy.recognizer import load_recognizer

    path = resolve_model(model)
    recognizer = load_recognizer(path)
    metadata = recognizer.metadata
    entry = {"name": path.stem, "path": str(path), "labels": list(recognizer.labels), "bytes": len(recognizer.data)}
    found = {key: metadata.get(key, {}) for key in ("accuracy", "card", "training")}
    return {**entry, **found}


def model_card(model: str) -> str:
    """Return the model card of a shipped model, or of another .tflite, as text. Raises InputError for a bad one."""
    from mbx_deploy.model_card import render_card
    from mbx_deploy.recognizer import load_recognizer

    path = resolve_model(model)
    return render_card(path.stem, load_recognizer(path).metadata)


def render_models(models: list[dict[str, Any]]) -> str:
    """Return the list as text: a model's name, size, accuracy in int8, and labels."""
    lines = []
    for model in models:
        right = model["accuracy"].get("commands_int8")
        share = f", {right:.1%} of its words right in int8 ({model['accuracy']['split']})" if right else ""
        lines.append(f"{model['name']}: {model['bytes']:,} bytes{share}; {', '.join(model['labels'])}")
    return "\n".join(lines)


def from_pretrained(model: str = DEFAULT_MODEL) -> "Pretrained":
    """Return a shipped model by its name, or the model of a file, ready to hear. Raises InputError for a bad one."""
    from mbx_deploy.recognizer import load_recognizer

    return Pretrained(load_recognizer(resolve_model(model)))


class Pretrained:
    """A model that says which word a recording holds, by the simulator: the bytes of the firmware."""

    def __init__(self, recognizer: "Recognizer") -> None:
        from mbx_deploy.engines import SimEngine

        self.recognizer = recognizer
        self.labels = recognizer.labels
        self.card: dict[str, Any] = recognizer.metadata.get("card", {})
        self.sample_rate_hz = recognizer.config.sample_rate_hz
        self._engine = SimEngine(recognizer)

    def recognize(self, samples: "np.ndarray") -> tuple[str, float]:
        """Return (label, score) of a recording, int16 (n,) at sample_rate_hz; audio.fit_clip() sets its length."""
        from mbx_deploy.audio import fit_clip
        from mbx_deploy.session import ITEM_CLIP, Item

        clip = fit_clip(samples, self.recognizer.config.clip_samples)
        result = self._engine.run([Item(ITEM_CLIP, clip)])[0][0]
        return self.labels[result.label], int(result.posteriors_q15[result.label]) / 32768
