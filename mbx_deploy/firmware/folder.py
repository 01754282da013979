"""The folder that a build writes, and how it is read back."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbx_deploy.codegen.layouts import CMAKE, NAMES
from mbx_deploy.codegen.project import DEFAULT_STRIDE_FRAMES, generate_project
from mbx_deploy.codegen.target import WASM, Target, read_target
from mbx_deploy.codegen.templates import session_main
from mbx_deploy.codegen.tflm import RUNTIMES
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError, read_document
from mbx_deploy.system.json_documents import parse_json

_AGAIN = "build it again"
MOST_MANIFEST_BYTES = 4 << 20
MOST_FILE_BYTES = 256 << 20
MOST_FRAMES = 100_000
DEFAULT_PREFIX = "kws"
PROGRAM_NAMES = ("firmware.elf", "firmware.wasm")
PAGE_NAME = "index.html"


@dataclass(frozen=True)
class Build:
    """A folder that build() wrote, read back. model: for the target's kernels. files: its C files by relative path.

    stride_frames: between the windows of continuous audio; of a network alone it says nothing.
    """

    folder: Path
    model: CompiledModel
    target: Target
    stride_frames: int
    files: dict[str, str | bytes]
    layout: str = CMAKE
    runtime: str = "c"
    prefix: str = DEFAULT_PREFIX

    @property
    def sources(self) -> dict[str, str | bytes]:
        """The C of the build; of one on TFLite Micro, that which the same model is without it."""
        if self.runtime == "c":
            return self.files
        return generate_project(self.model, self.target, self.prefix, self.stride_frames)

    @property
    def elf(self) -> Path:
        """The firmware: an ELF, or what takes its place. Raises InputError where the build has none."""
        if self.layout != CMAKE:
            what = (
                f"the build holds no firmware ({self.folder}): its layout, {self.layout}, is compiled by its own tools"
            )
            raise InputError(what, "build it again without --layout")
        return need_program(self.folder, self.target)

    @property
    def page(self) -> Path:
        """The page of a build for the browser. Raises InputError for another build, or one without it."""
        if self.target.toolchain != WASM:
            raise InputError(
                f"the build holds no page ({self.folder}): it is for {self.target.name}",
                "build it with --target browser",
            )
        return self.elf.with_name(PAGE_NAME)


def need_program(folder: Path, target: Target) -> Path:
    """Return the firmware of a build. Raises InputError where it has none."""
    path = folder / target.program_name
    if not path.is_file():
        raise InputError(
            f"the build holds no firmware ({folder}): it was made without a compiler",
            "mbx-deploy doctor names the line that installs one; then build again",
        )
    return path


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a build's manifest. Raises InputError for a folder that is no build, or a damaged one."""
    path = folder / "manifest.json"
    try:
        if not path.is_file():
            raise InputError(f"not a build ({folder}): it holds no manifest.json", "make one with mbx-deploy build")
        manifest = parse_json(read_document(path, MOST_MANIFEST_BYTES))
    except (OSError, ValueError) as error:
        raise InputError(f"the build is damaged ({folder}): {error}", _AGAIN) from None
    if not isinstance(manifest, dict):
        raise InputError(f"the build is damaged ({folder}): its manifest is no object", _AGAIN)
    _check_manifest(manifest, folder)
    return manifest


def _check_manifest(manifest: dict[str, Any], folder: Path) -> None:
    """Raise InputError for values that no build writes."""

    def need(condition: bool, key: str, what: str) -> None:
        if not condition:
            raise InputError(
                f"the build is damaged ({folder}, manifest.json, {key}): got {manifest.get(key)!r:.60}, need {what}",
                _AGAIN,
            )

    alone = manifest.get("network_only", False)
    need(manifest.get("format") == 1, "format", "1: another version of mbx-deploy wrote it, or nobody")
    need(isinstance(alone, bool), "network_only", "true or false")
    for key in ("target", "prefix"):
        need(isinstance(manifest.get(key), str) and 0 < len(manifest[key]) <= 100, key, "a name")
    need(manifest.get("layout", CMAKE) in NAMES, "layout", f"one of {', '.join(NAMES)}")
    need(manifest.get("runtime", "c") in RUNTIMES, "runtime", f"one of {', '.join(RUNTIMES)}")
    for key in ("stride_frames", "step_frames"):
        if key in manifest or (key == "stride_frames" and not alone):
            value = manifest.get(key)
            need(type(value) is int and 1 <= value <= MOST_FRAMES, key, f"1 to {MOST_FRAMES}")
    files = manifest.get("files")
    known = isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())
    need(known, "files", "the digest of each file")


def check_digests(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise InputError where a file of a build is not as it was written, or is not there: nothing of it is run then.

    A build may be without its firmware: need_program() says so.
    """
    for name, digest in manifest["files"].items():
        path = folder / name
        if name in PROGRAM_NAMES and not path.exists():
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"the build is damaged ({folder}): its manifest names {name!r:.60}, outside of it", _AGAIN)
        try:
            found = hashlib.sha256(read_document(path, MOST_FILE_BYTES)).hexdigest()
        except DocumentError as error:
            raise InputError(f"the build is damaged ({path}): {error}", _AGAIN) from None
        if found != digest:
            raise InputError(f"the build was changed ({path}): its digest is not the manifest's", _AGAIN)


def read_sources(folder: Path, manifest: dict[str, Any]) -> dict[str, str | bytes]:
    """Return {path: text} of a build's C files, those inside it. Raises OSError, ValueError, KeyError or TypeError."""
    names = [str(name) for name in manifest["files"] if str(name).endswith((".c", ".h"))]
    inside = [name for name in names if (folder / name).resolve().is_relative_to(folder.resolve())]
    return {name: (folder / name).read_text() for name in inside}


def load_build(folder: Path) -> Build:
    """Return the build in a folder, of a recogniser or of a network alone.

    Raises InputError for a folder that is none, or whose manifest is damaged.
    """
    manifest = read_manifest(folder)
    check_digests(folder, manifest)
    alone = bool(manifest.get("network_only"))
    try:
        target = read_target(folder / f"{manifest['target']}.toml")
        stride = DEFAULT_STRIDE_FRAMES if alone else int(manifest["stride_frames"])
        files = read_sources(folder, manifest)
        step = int(manifest["step_frames"]) if "step_frames" in manifest else None
        data, prefix = (folder / "model.tflite").read_bytes(), str(manifest["prefix"])
        layout, runtime = str(manifest.get("layout", CMAKE)), str(manifest.get("runtime", "c"))
        if layout != CMAKE:  # its examples have a main() of their own
            files["board/main.c"] = session_main(prefix, hears=not alone)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the build is damaged ({folder}): {error}", _AGAIN) from None
    model = parse_model(data, str(folder / "model.tflite"), alone, step).for_kernels(target.kernels)
    if runtime == "tflm":
        model = model.in_windows()
    return Build(folder, model, target, stride, files, layout, runtime, prefix)


def load_hearing_build(folder: Path) -> Build:
    """Return the build of a recogniser. Raises InputError as load_build(), and for a network alone."""
    build = load_build(folder)
    if build.model.hearing is None:
        raise InputError(
            f"the build holds a network without a front end ({folder}): it takes no recordings",
            "mbx-deploy verify compares it on inputs of int8",
        )
    return build
