"""What is to be written: a build's firmware, checked before any board is touched."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mbx_deploy.codegen.layouts import CMAKE
from mbx_deploy.codegen.target import WASM, Probe, Target
from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.firmware.compile import compile_project, missing_tools
from mbx_deploy.firmware.folder import Build, load_build, read_manifest
from mbx_deploy.firmware.image import FlashImage, read_flash_image, to_bin, to_hex, to_uf2


@dataclass(frozen=True)
class Firmware:
    """image: what the target's flash holds afterwards."""

    folder: Path
    target: Target
    probe: Probe
    image: FlashImage

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.image.data).hexdigest()

    def content(self, kind: str) -> bytes:
        """Return the file of a kind that tools take: "bin", "hex" or "uf2"."""
        if kind == "hex":
            return to_hex(self.image).encode()
        return to_uf2(self.image) if kind == "uf2" else to_bin(self.image)


def load_firmware(folder: Path) -> Firmware:
    """Return the firmware of a build; one that holds none is compiled now.

    Raises InputError for a folder that is no build, a build for no board, one of another layout, or a damaged one;
    ToolMissing where it would have to be compiled and can't be.
    """
    manifest = read_manifest(folder)
    if manifest.get("network_only"):
        what = f"the build holds a network without an application ({folder}): there is nothing for a board to run"
        raise InputError(what, "build the model without --network-only")
    build = load_build(folder)
    target = build.target
    if target.probe is None or target.memory is None:
        place = "in a browser" if target.toolchain == WASM else "on this machine"
        runs = f"it runs in an emulator ({target.machine})" if target.machine else f"it runs {place}"
        hint = "mbx-deploy run takes it; to write a board, build with --target BOARD (mbx-deploy targets lists them)"
        raise InputError(f"a build for {target.name} can't be written to a board: {runs}", hint)
    elf = _elf(build, manifest.get("files"))
    try:
        image = read_flash_image(elf)
    except ValueError as error:
        raise InputError(f"the build is damaged ({folder}): firmware.elf: {error}", "build it again") from None
    flash = range(target.memory.flash_origin, target.memory.flash_origin + target.memory.flash_bytes + 1)
    if image.origin not in flash or image.origin + len(image.data) not in flash:
        what = f"the firmware ({folder}) lies at {image.origin:#x}, {len(image.data):,} bytes: not in the flash of"
        raise InputError(f"{what} {target.name}", "build it again")
    return Firmware(folder, target, target.probe, image)


def _elf(build: Build, digests: object) -> bytes:
    folder = build.folder
    if build.layout == CMAKE and build.runtime == "c" and not (folder / "firmware.elf").is_file():
        return _compile(build, digests)
    try:
        data = build.elf.read_bytes()
    except OSError as error:
        raise InputError(
            f"can't read {build.elf}: {(error.strerror or str(error)).lower()}", "build it again"
        ) from None
    if not isinstance(digests, dict) or digests.get("firmware.elf") != hashlib.sha256(data).hexdigest():
        raise InputError(f"the build is damaged ({folder}): firmware.elf is not what it was built as", "build it again")
    return data


def _compile(build: Build, digests: object) -> bytes:
    """Return the ELF of a project that was generated where there was no compiler; the folder stays as it is."""
    missing = missing_tools(build.target)
    if missing:
        what = f"the build holds no firmware ({build.folder}), and {' and '.join(missing)} is not installed"
        raise ToolMissing(what, "mbx-deploy doctor names the line that installs it")
    files: dict[str, str | bytes] = {}
    try:
        for name, digest in digests.items() if isinstance(digests, dict) else ():
            path = build.folder / name
            if path.resolve().is_relative_to(build.folder.resolve()) and path.is_file():
                files[name] = path.read_bytes()
                if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                    raise InputError(f"the build is damaged ({build.folder}): {name} was changed", "build it again")
    except OSError as error:
        raise InputError(f"the build is damaged ({build.folder}): {error}", "build it again") from None
    binaries, _ = compile_project(files, build.target)
    elf = binaries["firmware.elf"]
    assert isinstance(elf, bytes)
    return elf
