"""What a project says of itself: its manifest, and the digest that every file of a set carries."""

import hashlib
import json
from typing import Any

from mbx_deploy.codegen.layouts import CMAKE
from mbx_deploy.codegen.target import Target
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.network import ir
from mbx_deploy.system.version import __version__

RUNTIME_VERSION = 2


def make_manifest(
    files: dict[str, str | bytes],
    model: CompiledModel,
    target: Target,
    prefix: str,
    stride_frames: int | None,
    layout: str = CMAKE,
    runtime: str = "c",
) -> str:
    """Return manifest.json: what the project was made from, and the SHA-256 of every file in it.

    stride_frames: between the windows of continuous audio, None for a network alone.
    """
    manifest: dict[str, Any] = {
        "format": 1,
        "generator": f"mbx-deploy {__version__}",
        "target": target.name,
        "prefix": prefix,
        "layout": layout,
        "runtime": runtime,
        "model_sha256": model.digest,
        "files": file_digests(files),
    }
    if model.hearing is not None:
        manifest |= {
            "stride_frames": stride_frames,
            "labels": list(model.hearing.labels),
            "frontend_sha256": model.hearing.config.digest(),
        }
    else:
        manifest |= {
            "network_only": True,
            "input": describe_side(model.network, "inputs"),
            "output": describe_side(model.network, "outputs"),
        }
        for side in ("inputs", "outputs"):
            ends = describe_ends(model.network, side)
            if len(ends) > 1:
                manifest[side] = ends
    if model.keeps_state:
        manifest["variables"] = len(model.program.variables)
    if model.streaming is not None:
        manifest["step_frames"] = model.streaming.step_frames
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"


def describe_tensor(tensor: ir.Tensor) -> dict[str, Any]:
    """Return an input or output of a network as the manifest and the header tell it."""
    return {
        "shape": list(tensor.shape),
        "bytes": tensor.size,
        "scale": _decimal(float(tensor.scale)),
        "zero_point": tensor.zero_point,
    }


def _decimal(value: float) -> str:
    """Return a float32 in digits, with a point or an exponent, so that C takes it with an f behind it."""
    text = f"{value:.9g}"
    return text if set(text) & {".", "e", "n"} else f"{text}.0"


def describe_ends(network: ir.Model, side: str) -> list[dict[str, Any]]:
    """Return the ends of a network one by one. side: inputs or outputs.

    number, offset: which it is, and where it begins among the bytes that a run takes or gives. type_in_file: what the
    file has there.
    """
    found: list[dict[str, Any]] = []
    for number, end in enumerate(getattr(network, side)):
        offset = sum(other["bytes"] for other in found)
        described = describe_tensor(network.tensors[end.tensor])
        found.append(described | {"number": number, "offset": offset, "type_in_file": end.dtype})
    return found


def describe_side(network: ir.Model, side: str) -> dict[str, Any]:
    """Return an end of a network; of several that they lie behind each other, with the first one's quantization."""
    ends = describe_ends(network, side)
    described = {key: ends[0][key] for key in ("shape", "bytes", "scale", "zero_point", "type_in_file")}
    total = sum(end["bytes"] for end in ends)
    return described if len(ends) == 1 else described | {"shape": [1, total], "bytes": total}


def file_digests(files: dict[str, str | bytes]) -> dict[str, str]:
    """Return the SHA-256 of every file, by path."""
    return {
        name: hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
        for name, content in files.items()
    }


def build_digest(model: CompiledModel, target: Target, prefix: str, stride_frames: int | None) -> int:
    """Return the 32 bits by which a firmware tells which build it is of, as its header has them."""
    what: Any = stride_frames if model.hearing else "network"
    if model.streaming is not None:
        what = ["windows" if model.streaming.in_windows else "stream", model.streaming.step_frames]
    identity = json.dumps([__version__, RUNTIME_VERSION, model.digest, prefix, what, target.name])
    return int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16)
