"""NVIDIA's checkpoints by name: fetched from NGC once, kept with their digest."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from mbx_deploy.data.download import Remote, check_url, download, size_of, wait
from mbx_deploy.errors import InputError
from mbx_deploy.system.cache import cache_folder
from mbx_deploy.system.files import write_file
from mbx_deploy.system.resources import resolve_model

# Source: NeMo, EncDecClassificationModel.list_available_models().
BASE_URL = "https://api.ngc.nvidia.com/v2/models/nvidia/nemo"
VERSION = "1.0.0rc1"
NAMES = (
    *(f"commandrecognition_en_matchboxnet3x{r}x64_{data}" for data in ("v1", "v2", "v2_subset_task") for r in (1, 2)),
    "vad_marblenet",
    "vad_telephony_marblenet",
)
MAX_BYTES = 256 << 20

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


def _silent(done: int, of: int) -> None:
    """Tell nobody."""


def resolve_any_model(model: str | None, say: Say, progress: Progress = _silent) -> Path:
    """Return the path of a model: a file's, a shipped model's, or NVIDIA's by its name, fetched where it is not here.

    Raises InputError for another name, and where the download fails, with what to do without a network.
    """
    return fetch_nemo(model, say, progress) if model in NAMES else resolve_model(model)


def fetch_nemo(name: str, say: Say, progress: Progress = _silent) -> Path:
    """Return the path of one of NVIDIA's checkpoints in the cache. It is believed by the digest that was kept with it.

    MBX_NGC_URL names a mirror. Raises InputError.
    """
    folder = cache_folder()
    path, mark = folder / f"ngc-{name}.nemo", folder / f"ngc-{name}.sha256"
    known = mark.read_text().strip() if mark.is_file() else None
    if path.is_file() and known == _digest(path):
        return path
    base = os.environ.get("MBX_NGC_URL", BASE_URL).rstrip("/")
    url = f"{base}/{name}/versions/{VERSION}/files/{name}.nemo"
    part = folder / f"ngc-{name}.part"
    try:
        check_url(url)
        size = size_of(url)
        if size > MAX_BYTES:
            raise InputError(f"the file is too large ({url}): got {size} bytes, need at most {MAX_BYTES}")
        say(f"fetching {url} ({size} bytes)")
        download(Remote(url, size, known), part, say, progress, wait)
    except InputError as error:
        raise InputError(
            f"{name} can't be fetched: {error.what}",
            f"get {name}.nemo from catalog.ngc.nvidia.com by other means, and give its path with --model",
        ) from None
    digest = _digest(part)
    os.replace(part, path)
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    write_file(mark, f"{digest}\n")
    say(f"kept as {path}, SHA-256 {digest}")
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
