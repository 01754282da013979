"""libFuzzer on the generated C and the parts of its firmware: compiled with clang's sanitizers, seeds made here."""

import base64
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, load_model, parse_model
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, ITEM_STREAM, Item, encode_request
from mbx_deploy.serial import messages
from mbx_deploy.serial.frames import encode_frame
from mbx_deploy.system.cache import cached
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.scratch import scratch_folder
from mbx_deploy.system.tools import C_STANDARD_FLAGS, find_tool, run_tool
from tests.fuzz.campaign import FOLDER, Finding, Outcome, kept_finding
from tests.fuzz.readers import FRONTEND
from tests.made.tflite import small_artifact

HARNESSES = Path(__file__).parent / "harnesses"
SANITIZERS = "address,undefined,float-divide-by-zero,float-cast-overflow,implicit-integer-sign-change,local-bounds"
FLAGS = ("-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-D_POSIX_C_SOURCE=200809L")
MOST_INPUT_BYTES = 8192
SERIAL_PARTS = ("frame", "link", "remote", "audio_queue", "application", "board", "session", "session_recognizer")


@dataclass(frozen=True)
class Harness:
    """source: in harnesses/. model: that it is compiled with. parts: of a board's firmware that it takes, .c files."""

    name: str
    source: str
    model: Callable[[], CompiledModel]
    parts: tuple[str, ...]
    seeds: Callable[[CompiledModel], list[bytes]]


def small() -> CompiledModel:
    """Return a small recogniser."""
    return parse_model(small_artifact(FRONTEND), "small.tflite")


def streaming() -> CompiledModel:
    """Return the shipped recogniser that streams."""
    return load_model(shipped_model_path("kws10s"))


def _noise(count: int) -> np.ndarray:
    return np.random.default_rng(4).normal(0, 9000, count).clip(-32768, 32767).astype("<i2")


def _api_seeds(model: CompiledModel) -> list[bytes]:
    def feed(count: int) -> bytes:
        return b"\x08" + struct.pack("<H", count) + _noise(count).tobytes()

    clip = feed(500) * 2 + b"\x02\x03"
    return [
        clip,
        feed(1000) + b"\x03" + feed(333) + b"\x03\x01" + clip,
        b"\x05\x01\0\0\x40" + feed(64) + b"\x06\xff\xff\0\0",
    ]


def _frame_seeds(model: CompiledModel) -> list[bytes]:
    bodies = (b"", b"\0" * 8, bytes(range(256)), b"\x01" * 254)
    frames = [encode_frame(kind, 300 * kind, body) for kind, body in enumerate(bodies)]
    return [*frames, b"".join(frames), b"noise" + frames[1][:-4] + frames[2]]


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind, len(body)]) + body


def _link_seeds(model: CompiledModel) -> list[bytes]:
    data = _noise(1000).tobytes()
    pieces = [data[at : at + 240] for at in range(0, len(data), 240)]
    clip = _message(messages.PING, messages.ping(1)) + _message(messages.BEGIN, messages.begin(9, ITEM_CLIP, 160))
    for number, piece in enumerate(pieces):
        clip += _message(messages.VALUES, messages.values(9, 0, 240 * number, piece))
    clip += _message(messages.FINISH, messages.finish(9, 0, len(data), zlib.crc32(data)))
    for what in range(4):
        clip += _message(messages.READ, messages.read(9, 1, what, 0))
    live = _message(messages.PING, messages.ping(2)) + _message(messages.RECORD, b"\1")
    live += _message(messages.LIVE, messages.live(0, _noise(100))) + _message(0xFE, _noise(100).tobytes())
    live += _message(0xFD, b"\x07") + _message(messages.END, messages.end(9)) + _message(messages.BYE, b"")
    return [clip, live + b"\1", live + clip, _message(0xFF, encode_frame(messages.PING, 1, messages.ping(3)))]


def _remote_seeds(model: CompiledModel) -> list[bytes]:
    data = _noise(1000).tobytes()
    pieces = [data[at : at + 240] for at in range(0, len(data), 240)]
    taken = b"".join(b"\x03" + bytes([len(piece)]) + piece + bytes(3) for piece in pieces)
    return [b"\0\x05" + bytes([kind]) + b"\xa0\0" + taken + b"\x01" + bytes(4) + b"\x02" for kind in range(3)]


def _session_seeds(model: CompiledModel) -> list[bytes]:
    features = np.random.default_rng(5).integers(-128, 128, model.input.size).astype(np.int8)
    items = [Item(ITEM_CLIP, _noise(1000).astype(np.int16), 160), Item(ITEM_STREAM, _noise(1500).astype(np.int16), 37)]
    return [encode_request([item], trace) for item in (*items, Item(ITEM_FEATURES, features)) for trace in range(3)]


ALL = (
    Harness("c-api", "api.c", small, (), _api_seeds),
    Harness("c-api-stream", "api.c", streaming, (), _api_seeds),
    Harness("c-frames", "frames.c", small, ("frame",), _frame_seeds),
    Harness("c-link", "link.c", small, ("frame", "link", "remote", "audio_queue"), _link_seeds),
    Harness("c-link-stream", "link.c", streaming, ("frame", "link", "remote", "audio_queue"), _link_seeds),
    Harness("c-remote", "remote.c", small, ("frame", "remote"), _remote_seeds),
    Harness("c-remote-stream", "remote.c", streaming, ("frame", "remote"), _remote_seeds),
    Harness("c-session", "session.c", small, ("session", "session_recognizer"), _session_seeds),
)
NAMES = tuple(harness.name for harness in ALL)


def is_installed() -> bool:
    """Return whether clang is here with libFuzzer."""
    if find_tool("clang") is None:
        return False
    command = ["clang", "-fsanitize=fuzzer", "-x", "c", "-", "-o", "/dev/null"]
    source = "int LLVMFuzzerTestOneInput(const char *d, long n) { return !d || !n; }"
    return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0


def find(name: str) -> Harness:
    """Return the harness of a name."""
    return next(harness for harness in ALL if harness.name == name)


def compiled(harness: Harness) -> Path:
    """Return the fuzzer, compiled once. Raises MbxError with the compiler's first error."""
    model = harness.model()
    files = generate_project(model, find_target("host"), stride_frames=3)
    board = generate_project(model, find_target("cortex-m4"), stride_frames=3)
    kept = {name: text for name, text in files.items() if name.startswith(("src/", "include/", "generated/"))}
    headers = {name: text for name, text in board.items() if name.startswith("board/mbx_") and name.endswith(".h")}
    kept |= headers | {f"board/mbx_{part}.c": board[f"board/mbx_{part}.c"] for part in harness.parts}
    kept["fuzz.c"] = (HARNESSES / harness.source).read_text()
    kept = {name: text for name, text in kept.items() if name.endswith((".c", ".h"))}
    key = hashlib.sha256(repr((sorted(kept.items()), SANITIZERS, FLAGS)).encode()).hexdigest()[:32]

    def make() -> bytes:
        with scratch_folder() as folder:
            for name, text in kept.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(str(text))
            includes = [f"-I{name}" for name in sorted({str(Path(name).parent) for name in kept})]
            units = sorted(name for name in kept if name.endswith(".c"))
            flags = [*C_STANDARD_FLAGS, *FLAGS, f"-fsanitize=fuzzer,{SANITIZERS}", *includes]
            objects = [f"{number}.o" for number in range(len(units))]
            for unit, made in zip(units, objects, strict=True):
                run_tool(["clang", *flags, "-c", "-o", made, unit], cwd=folder, what="compiling a fuzzer")
            run_tool(["clang", *flags, "-o", "made", *objects], cwd=folder, what="linking a fuzzer")
            return (folder / "made").read_bytes()

    return cached(f"fuzz{key}", ".elf", make, program=True)


def run(name: str, seed: int, runs: int | None, seconds: float | None) -> Outcome:
    """Return the outcome of a harness: at most one finding, as libFuzzer ends with the first."""
    harness = find(name)
    program, work = compiled(harness), FOLDER / name
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("seeds", "corpus"):
        (work / folder).mkdir(parents=True)
    for number, data in enumerate(harness.seeds(harness.model())):
        (work / "seeds" / str(number)).write_bytes(data)
    command = [str(program), f"-seed={seed % (1 << 31) or 1}", f"-max_len={MOST_INPUT_BYTES}", "-timeout=10"]
    # Not libFuzzer's own limit: a process's peak begins with that of the one that started it, pytest's.
    command += ["-rss_limit_mb=0", "-malloc_limit_mb=64", "-print_final_stats=1", f"-artifact_prefix={work}/"]
    command.append(f"-runs={runs}" if runs is not None else f"-max_total_time={max(1, round(seconds or 1))}")
    done = subprocess.run(
        [*command, str(work / "corpus"), str(work / "seeds")],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"ASAN_OPTIONS": "hard_rss_limit_mb=1024"},
    )
    counted = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    outcome = Outcome(name, int(counted[1]) if counted else 0)
    outcome.taken = outcome.cases
    if done.returncode != 0:
        outcome.findings.append(_finding(name, work, done.stderr))
    return outcome


def _finding(name: str, work: Path, told: str) -> Finding:
    files = [path for kind in ("crash", "timeout", "oom", "leak") for path in sorted(work.glob(f"{kind}-*"))]
    data = files[0].read_bytes() if files else b""
    lines = [line for line in told.splitlines() if re.search(r"ERROR|runtime error|SUMMARY|^\s+#\d", line)]
    shown = [re.sub(r" \(/.*", "", line) for line in lines if "fuzzer::" not in line]
    detail = "\n".join([*shown[:10], f"the input, base64: {base64.b64encode(data).decode():.1000}"])
    return kept_finding(name, "input.bin", data, (lines or ["its process failed"])[0], detail)


def again(name: str, path: Path) -> int:
    """Run one input, and print what is told of it."""
    done = subprocess.run([str(compiled(find(name))), str(path)], stdout=sys.stdout, stderr=sys.stderr)
    return int(done.returncode != 0)
