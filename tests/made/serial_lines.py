"""Devices at the other end of a line: the application compiled for this machine, or in QEMU; a line that damages."""

import os
import re
import select
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.firmware.folder import Build
from mbx_deploy.serial.link import Line
from mbx_deploy.system.tools import compile_program

PARTS = (
    "application",
    "report",
    "light",
    "audio_queue",
    "link",
    "frame",
    "remote",
    "board",
    "session",
    "session_recognizer",
)


def device_program(recognizer: CompiledModel, flags: Sequence[str], microphone: bool = False) -> Path:
    """Return the cortex-m4's firmware compiled for this machine, its port stdin and stdout.

    microphone: it has one, which hears a sawtooth.
    """
    files = generate_project(recognizer, find_target("cortex-m4"))
    portable = generate_project(recognizer, find_target("host"))
    kept = {name: text for name, text in portable.items() if name.startswith(("src/", "include/", "generated/"))}
    kept |= {name: text for name, text in files.items() if name.startswith("board/mbx_") and _part(name) in PARTS}
    main = files["board/main.c"]
    assert isinstance(main, str)
    assert ".host_microphone = 1," in main
    kept["board/main.c"] = main.replace(".host_microphone = 1,", f".host_microphone = {0 if microphone else 1},")
    flags = (*flags, f"-DHAS_MICROPHONE={int(microphone)}")
    kept["board/piped_board.c"] = (Path(__file__).parent / "piped_board.c").read_text() + (
        '\n#include "mbx_session.h"\nint mbx_session_waits(void) { return 0; }\n'
        "int mbx_session_read(void *data, uint32_t bytes) { (void)data; (void)bytes; return 0; }\n"
        "int mbx_session_write(const void *data, uint32_t bytes) { (void)data; (void)bytes; return 0; }\n"
    )
    sources = {name: text for name, text in kept.items() if isinstance(text, str) and name.endswith((".c", ".h"))}
    return compile_program(sources, ("-D_POSIX_C_SOURCE=200809L", "-DMBX_AUDIO_QUEUE_SAMPLES=512u", *flags))


def _part(name: str) -> str:
    return name.removeprefix("board/mbx_").split(".")[0]


class PipedDevice:
    """A line to a program of device_program()."""

    path = Path("a program")

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen(
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived within a time."""
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, timeout_s))
        return os.read(self.process.stdout.fileno(), 4096) if ready else b""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        assert self.process.stdin
        self.process.stdin.write(data)

    def close(self) -> tuple[int, str]:
        """End it; return its exit code and what it wrote to stderr, where a sanitizer writes."""
        assert self.process.stdin and self.process.stderr
        self.process.stdin.close()
        try:
            while self.read(1.0):
                pass
            return self.process.wait(10), self.process.stderr.read().decode()
        finally:
            self.process.kill()


@contextmanager
def emulated(build: Build, folder: Path) -> Generator[Path]:
    """Run a build's firmware in QEMU; yields the pseudo-terminal that its UART is."""
    command = ["qemu-system-arm", "-M", str(build.target.machine), "-nographic", "-monitor", "none", "-serial", "pty"]
    command += ["-kernel", str(build.elf.resolve())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder)
    assert process.stdout
    try:
        line = process.stdout.readline()
        found = re.search(r"/dev/\S+", line)
        assert found, line
        yield Path(found[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class DamagingLine:
    """A line that loses, changes, repeats and swaps bytes, both ways; seeded."""

    def __init__(self, line: Line, seed: int, rates: dict[str, float]) -> None:
        """rates: of bytes that are "lost", "changed", "repeated", and of chunks that are "swapped"."""
        self.line = line
        self.path = line.path
        self.random = np.random.default_rng(seed)
        self.rates = rates
        self.held = b""

    def _damage(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            draw = self.random.random()
            for kind, rate in self.rates.items():
                draw -= rate if kind != "swapped" else 0.0
                if draw < 0 and kind != "swapped":
                    out += {
                        "lost": b"",
                        "changed": bytes([byte ^ self.random.integers(1, 256)]),
                        "repeated": bytes([byte] * 2),
                    }[kind]
                    break
            else:
                out.append(byte)
        if len(out) > 1 and self.random.random() < self.rates.get("swapped", 0.0):
            at = int(self.random.integers(1, len(out)))
            out = out[at:] + out[:at]
        return bytes(out)

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived, damaged."""
        return self._damage(self.line.read(timeout_s))

    def write(self, data: bytes) -> None:
        """Send bytes, damaged."""
        self.line.write(self._damage(data))
