"""The checkpoint of a .nemo: tensors by name. Nothing in it is executed."""

from pathlib import Path

import torch

from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError
from mbx_deploy.train.torch_file import read_torch

MAX_PARAMETERS = 1 << 26
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def load_weights(data: bytes, path: Path) -> dict[str, torch.Tensor]:
    """Return the checkpoint's tensors, floats as float32, others as they are.

    data: torch's zip or, from before torch 1.6, a bare pickle. path: of the .nemo, for messages.
    Raises InputError: damaged, unpacking to too much, or holding anything but plain finite tensors by name.
    """
    try:
        content = read_torch(data)
    except DocumentError as error:
        raise _bad(path, str(error)) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise _bad(path, f"it holds a {type(content).__name__}, need tensors by name")
    if sum(value.numel() for value in content.values() if isinstance(value, torch.Tensor)) > MAX_PARAMETERS:
        raise _bad(path, f"it holds more than {MAX_PARAMETERS} values")
    return {_name(key, path): _tensor(key, value, path) for key, value in content.items()}


def _name(key: object, path: Path) -> str:
    if not isinstance(key, str):
        raise _bad(path, f"a weight has the name {key!r:.60}, need text")
    return key


def _tensor(name: str, value: object, path: Path) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise _bad(path, f"{name!r:.80} is a {type(value).__name__}, need a tensor")
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
        raise _bad(path, f"{name!r:.80} is no plain tensor")
    if not value.is_floating_point():
        return value.detach()
    if value.dtype not in _FLOATS:
        raise _bad(path, f"{name!r:.80} is of the type {value.dtype}, need a float of 16 to 64 bits")
    value = value.detach().to(torch.float32).contiguous()
    if not bool(torch.isfinite(value).all()):
        raise _bad(path, f"{name!r:.80} is not finite")
    return value


def _bad(path: Path, reason: str) -> InputError:
    return InputError(f"can't use the checkpoint in the .nemo file ({path}): {reason}")
