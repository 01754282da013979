"""A network without a front end and a target -> the files of a C project, and what it needs. Pure, as codegen.py."""

import hashlib
import json
from dataclasses import replace
from typing import Any

from mbx_deploy.codegen.project import (
    RUNTIME_VERSION,
    board_files,
    check_prefix,
    file_digests,
    kernel_context,
    render_files,
    runtime_files,
    sources_below,
)
from mbx_deploy.codegen.target import SESSION_PART, Target
from mbx_deploy.compiler.network_model import Network
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.errors import InputError
from mbx_deploy.network import ir
from mbx_deploy.system.version import __version__

NETWORK_SESSION_PART = "network_session"
SOURCES = ("mbx_kernels.c", "mbx_network.c")
HEADERS = ("mbx_fixed_point.h", "mbx_kernels.h", "mbx_network.h", "mbx_runtime.h", "mbx_taps.h")


def generate_network_project(network: Network, target: Target, prefix: str = "kws") -> dict[str, str | bytes]:
    """Return {path: content} of a C project, without the reports that need a compiler.

    Raises InputError for a prefix that is no C identifier, or a board whose firmware listens.
    """
    check_prefix(prefix)
    if target.is_board:
        cpu = target.emulated_as or "its CPU"
        raise InputError(
            f"a network without a front end can't listen: {target.name} is a board with a microphone",
            f"build it for {cpu}, and link the library into a firmware of your own",
        )
    parts = tuple(NETWORK_SESSION_PART for part in target.parts if part == SESSION_PART)
    files, library = runtime_files(network.program, target, SOURCES, HEADERS)
    files |= board_files(replace(target, parts=parts), "board")
    identity = json.dumps([__version__, RUNTIME_VERSION, network.digest, prefix, "network", target.name])
    context = kernel_context(network, target, prefix) | {
        "digest": "0x" + hashlib.sha256(identity.encode()).hexdigest()[:8],
        "arena_bytes": plan_memory(network.program, target.kernels).arena_bytes,
        "input": _describe(network.input),
        "output": _describe(network.output),
        "emulator_sources": [],
        "tflm": None,
        "small_sources": [],
        "library_sources": [*library, f"generated/{prefix}.c", f"generated/{prefix}_data.c"],
        "board_sources": sources_below("board/", files),
    }
    rendered = {
        f"include/{prefix}.h": "network.h.j2",
        f"generated/{prefix}_data.h": "network_data.h.j2",
        f"generated/{prefix}_data.c": "network_data.c.j2",
        f"generated/{prefix}.c": "network.c.j2",
        "board/main.c": "network_main.c.j2",
        "README.md": "network_README.md.j2",
        "CMakeLists.txt": "CMakeLists.txt.j2",
    }
    if target.toolchain != "host":
        rendered |= {"toolchain.cmake": "toolchain.cmake.j2", "linker.ld": "linker.ld.j2"}
    files |= render_files(rendered, context)
    files["model.tflite"] = network.data
    files[f"{target.name}.toml"] = target.text
    return files


def _describe(tensor: ir.Tensor) -> dict[str, Any]:
    return {
        "shape": list(tensor.shape),
        "bytes": tensor.size,
        "scale": f"{float(tensor.scale):.9g}",
        "zero_point": tensor.zero_point,
    }


def make_network_manifest(files: dict[str, str | bytes], network: Network, target: Target, prefix: str) -> str:
    """Return manifest.json: what the project was made from, and the SHA-256 of every file in it."""
    manifest = {
        "format": 1,
        "generator": f"mbx-deploy {__version__}",
        "target": target.name,
        "prefix": prefix,
        "network_only": True,
        "input": _describe(network.input),
        "output": _describe(network.output),
        "model_sha256": network.digest,
        "files": file_digests(files),
    }
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"
