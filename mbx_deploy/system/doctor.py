"""What is installed on this machine, what is missing, and the line that installs it.

The table below is the only list of tools: scripts/setup.sh asks this module what to install.
Nothing heavy is imported, and nothing outside the standard library: a machine that lacks
everything can still be asked.
"""

import ctypes.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from mbx_deploy.system import resources

Source = Literal["apt", "pip", "other"]  # other: neither brings one that does, the finding says where it is

# Arduino's build of bossac knows the nRF52840, others don't.
BOSSAC_INSTALL = "arduino-cli core install arduino:mbed_nano"
ARDUINO_BOSSAC = ".arduino15/packages/arduino/tools/bossac/*/bossac"

ANSWER_SECONDS = 20  # a tool that does not give its version by then is taken as broken

# Each Python package, and the extra of pyproject.toml that it belongs to ("": the core).
PACKAGES = {
    "": ("click", "flatbuffers", "jinja2", "numpy", "soundfile", "soxr", "tflite"),
    "train": ("pytorch-lightning", "pyyaml", "torch"),
    "export": (
        "pyyaml",
        "torch",
        "tensorflow",
        "onnx",
        "onnxruntime",
        "onnx2tf",
        "ai-edge-litert",
        "onnx_graphsurgeon",
        "onnxscript",
        "onnxsim",
        "psutil",
        "sng4onnx",
        "tf_keras",
    ),
    "verify": ("tflite-micro",),
    "flash": ("pyocd",),
    "browser": ("wasmtime",),
    "listen": ("rich", "sounddevice"),
    "serve": ("cryptography", "segno"),
    "report": ("matplotlib",),
    "notebook": ("ipykernel", "matplotlib", "nbclient"),
    "docs": ("mkdocs", "mkdocs-click", "mkdocs-material", "mkdocstrings", "mkdocstrings-python"),
}
NEEDED_FOR = {
    "": "every command",
    "train": "train, the float engine",
    "export": "export",
    "verify": "the tflm engine",
    "flash": "flash, most boards",
    "browser": "running a build for the browser, without node",
    "listen": "listen",
    "serve": "serve --phone",
    "report": "report",
    "notebook": "the notebook in examples/",
    "docs": "the documentation as a site, make docs",
}


@dataclass(frozen=True)
class Finding:
    """One thing that mbx-deploy can use, and the version that is here."""

    name: str
    needed_for: str
    found: str | None  # the version; None: missing
    install: str  # the line that installs it
    required: bool  # build and run of the shipped model on an emulated board need it
    source: Source
    package: str  # what to ask `source` for: a Debian package, or an extra ("": the core)


def diagnose() -> list[Finding]:
    """Return one Finding for each thing, the required and the small first."""
    return [_python(), *_packages(), *_tools(), *_browser_tools(), *_board_tools()]


def render(findings: list[Finding]) -> str:
    """Return a table, and below it one line a package manager that installs all that is missing."""
    rows = [("", "what", "version", "needed for")]
    for finding in findings:
        mark = "ok" if finding.found else "MISSING" if finding.required else "-"
        rows.append((mark, finding.name, finding.found or "not found", finding.needed_for))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows
    ]
    missing = [finding for finding in findings if finding.found is None]
    if missing:
        lines += ["", "To install what is missing:"]
        lines += [f"  {line}" for line in install_lines(missing)]
    return "\n".join(lines)


def to_json(findings: list[Finding]) -> str:
    """Return the findings as a JSON list of objects with the fields of Finding."""
    return json.dumps([asdict(finding) for finding in findings], indent=2, sort_keys=True)


def install_lines(findings: Iterable[Finding]) -> list[str]:
    """Return the fewest commands that install these findings: one for apt, one for pip, or none."""
    wanted: dict[Source, set[str]] = {"apt": set(), "pip": set(), "other": set()}
    for finding in findings:
        wanted[finding.source].add(finding.package)
    lines = []
    if wanted["apt"]:
        lines.append(apt_line(sorted(wanted["apt"])))
    if wanted["pip"]:
        lines.append(pip_line(sorted(wanted["pip"] - {""})))
    return lines


def apt_line(debian_packages: Iterable[str]) -> str:
    """Return the command that installs these Debian packages, with sudo unless we are root."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install --no-install-recommends {' '.join(debian_packages)}"


def pip_line(extras: Iterable[str]) -> str:
    """Return the command that installs mbx-deploy with these extras, at the tested versions."""
    suffix = f"[{','.join(extras)}]" if extras else ""
    checkout = resources.checkout_folder()
    what = ["-e", f"{checkout}{suffix}"] if checkout else [f"mbx-deploy{suffix}"]
    constraints = str(resources.constraints_file())
    return shlex.join([sys.executable, "-m", "pip", "install", "-c", constraints, *what])


def _python() -> Finding:
    found = platform.python_version() if sys.version_info >= (3, 11) else None
    install = apt_line(["python3"])
    return Finding("python", "every command", found, install, True, "apt", "python3")


def _packages() -> list[Finding]:
    extras_of: dict[str, list[str]] = {}
    for extra, names in PACKAGES.items():
        for name in names:
            extras_of.setdefault(name, []).append(extra)
    findings = []
    for name, extras in extras_of.items():
        needed_for = ", ".join(NEEDED_FOR[extra] for extra in extras)
        extra = extras[0]  # the lightest that brings it
        install = pip_line([extra] if extra else [])
        version = _package_version(name)
        findings.append(Finding(name, needed_for, version, install, extra == "", "pip", extra))
    return findings


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _tools() -> list[Finding]:
    firmware = "building firmware"
    arm_gcc = "arm-none-eabi-gcc"
    tools = [
        ("gcc", "the c engine", False, "gcc", _tool_version("gcc")),
        # gcc only recommends the headers: a lean install has a compiler that compiles nothing.
        ("libc headers", "the c engine", False, "libc6-dev", _c_library("gcc", "__GLIBC")),
        (arm_gcc, firmware, True, "gcc-arm-none-eabi", _tool_version(arm_gcc)),
        ("newlib", firmware, True, "libnewlib-arm-none-eabi", _c_library(arm_gcc, "__NEWLIB")),
        ("C++ for Arm", "build --runtime tflm", False, "libstdc++-arm-none-eabi-newlib", _cpp_library(f"{arm_gcc}")),
        ("cmake", firmware, True, "cmake", _tool_version("cmake")),
        ("ninja or make", firmware, True, "make", _tool_version("ninja") or _tool_version("make")),
        (
            "qemu-system-arm",
            "run, verify",
            True,
            "qemu-system-arm",
            _tool_version("qemu-system-arm"),
        ),
    ]
    return [
        Finding(name, needed_for, found, apt_line([package]), required, "apt", package)
        for name, needed_for, required, package, found in tools
    ]


def _browser_tools() -> list[Finding]:
    """Return what --target browser and listen take; nothing else needs them, so set-up installs them for tests only."""
    tools = [
        ("clang", "build --target browser", "clang", _tool_version("clang")),
        ("wasm-ld", "build --target browser", "lld", _tool_version("wasm-ld")),
        ("node", "running a build for the browser, without wasmtime", "nodejs", _tool_version("node")),
        ("PortAudio", "listen, to a microphone", "libportaudio2", _library("portaudio")),
    ]
    return [
        Finding(name, needed_for, found, apt_line([package]), False, "apt", package)
        for name, needed_for, package, found in tools
    ]


def _library(name: str) -> str | None:
    """Return whether a shared library is here."""
    return "present" if ctypes.util.find_library(name) else None


def _board_tools() -> list[Finding]:
    """Return what writes to boards beside pyOCD; nothing else needs them, so set-up does not install them."""
    return [
        Finding("openocd", "flash", _tool_version("openocd"), apt_line(["openocd"]), False, "apt", "openocd"),
        Finding("bossac", "flash, Arduino's boards", _bossac(), BOSSAC_INSTALL, False, "other", ""),
        Finding("picotool", "flash, RP2040", _picotool(), "github.com/raspberrypi/picotool", False, "other", ""),
    ]


def find_bossac() -> Path | None:
    """Return the program bossac, Arduino's own before any other; None without one."""
    own = sorted(Path.home().glob(ARDUINO_BOSSAC))
    found = shutil.which("bossac")
    return own[-1] if own else Path(found) if found else None


def _bossac() -> str | None:
    """Return the version of Arduino's bossac; others tell it only in their help, with an exit code of failure."""
    found = find_bossac()
    if found is None:
        return None
    return found.parent.name if found.is_relative_to(Path.home() / ".arduino15") else "present"


def _picotool() -> str | None:
    number = re.search(r"\d+(\.\d+)+", _answer(["picotool", "version"]) or "")
    return number.group() if number else None


def _answer(command: list[str], text: str = "") -> str | None:
    """Return what the command prints when given `text`; None when it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _tool_version(tool: str) -> str | None:
    answer = _answer([tool, "--version"])
    if answer is None:
        return None
    # "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)": what stands in brackets is the packager's.
    first_line = re.sub(r"\(.*?\)", "", answer.partition("\n")[0])
    number = re.search(r"\d+(\.\d+)+", first_line)
    return number.group() if number else "present"


def _c_library(compiler: str, macro: str) -> str | None:
    """Return the version of the C library whose string.h the compiler finds.

    macro: __GLIBC or __NEWLIB, to which each library adds its ending for major and minor number.
    """
    macros = _answer([compiler, "-dM", "-E", "-x", "c", "-"], "#include <string.h>\n")
    if macros is None:
        return None
    major = re.search(rf"#define {macro}(?:__)? (\d+)", macros)
    minor = re.search(rf"#define {macro}_MINOR(?:__)? (\d+)", macros)
    return f"{major[1]}.{minor[1]}" if major and minor else "present"


def _cpp_library(compiler: str) -> str | None:
    """Return the version of libstdc++ that the compiler finds."""
    macros = _answer([compiler, "-dM", "-E", "-x", "c++", "-"], "#include <cstdint>\n")
    version = re.search(r"#define _GLIBCXX_RELEASE (\d+)", macros or "")
    return version[1] if version else None


if __name__ == "__main__":  # scripts/setup.sh reads this
    print(" ".join(dict.fromkeys(tool.package for tool in _tools() if tool.found is None)))
