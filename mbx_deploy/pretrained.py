"""The models that are shipped with the package."""

import os
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
