"""Where the files that are not Python lie: in a checkout (editable or not), or in a wheel."""

from pathlib import Path

from mbx_deploy.errors import ToolMissing

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries the top-level folders here; a checkout has no such folder.
_PACKED = _PACKAGE / "_data"


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
