"""Where the files that are not Python lie: in a checkout (editable or not), or in a wheel."""

import os
from pathlib import Path

from mbx_deploy.errors import InputError, ToolMissing

_PACKAGE = Path(__file__).resolve().parent.parent
# A wheel carries the top-level folders here; a checkout has no such folder.
_PACKED = _PACKAGE / "_data"


def runtime_file(name: str) -> Path:
    """Return a file of the firmware's runtime by its name: of all folders below runtime/, one has it.

    Raises ValueError for a name that no folder has, or two.
    """
    found = [path for path in (firmware_templates_folder() / "runtime").rglob(name) if path.is_file()]
    if len(found) != 1:
        raise ValueError(f"{len(found)} files of the runtime are called {name}")
    return found[0]


def part_folders() -> dict[str, Path]:
    """Return the folders that a target may name, by name: parts of an application, chips and boards."""
    root = firmware_templates_folder()
    return {path.name: path for kind in ("parts", "chips", "boards") for path in sorted((root / kind).iterdir())}


def firmware_templates_folder() -> Path:
    """Return the folder with src/, generated/ and boards/."""
    return _find(_PACKED / "firmware_templates", _PACKAGE.parent / "firmware_templates")


def targets_folder() -> Path:
    """Return the folder with one TOML a CPU and a board."""
    return _find(_PACKED / "targets", _PACKAGE.parent / "targets")


def models_folder() -> Path:
    """Return the folder with the shipped models, one .tflite each."""
    return _find(_PACKAGE / "models")


def constraints_file() -> Path:
    """Return the file with the exact versions that were tested together, for pip's -c."""
    return _find(_PACKED / "constraints.txt", _PACKAGE.parent / "constraints.txt")


def checkout_folder() -> Path | None:
    """Return the top of the checkout that this package runs from, None where it is installed."""
    return _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").is_file() else None


def _find(*places: Path) -> Path:
    # The packed place comes first: beside an installed package, `targets` may be somebody else's.
    for place in places:
        if place.exists():
            return place
    raise ToolMissing(
        f"the installation is incomplete ({_PACKAGE}): got no {places[-1].name}, "
        f"need {' or '.join(str(place) for place in places)}",
        "install mbx-deploy again",
    )


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
