"""The models that are shipped with the package."""

import os
from collections.abc import Callable
from pathlib import Path

from mbx_deploy.errors import InputError
from mbx_deploy.resources import models_folder

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
