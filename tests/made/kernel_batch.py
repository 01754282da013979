"""Many kernel calls in one start of an emulator: what a core computes, alone, over any shapes. Twin: kernel_batch.c."""

import ctypes
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import Target
from mbx_deploy.codegen.templates import kernel_modules
from mbx_deploy.compiler.kernels.choice import select_kernel
from mbx_deploy.compiler.kernels.kernel import Chosen
from mbx_deploy.compiler.memory_plan import ALIGNMENT_BYTES
from mbx_deploy.compiler.model import parse_model
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.program import Buffer, Call, Program, call_inputs, lead_in_place, may_overwrite
from mbx_deploy.system.tools import need_tool, run_tool
from tests.made.c_kernels import fill
from tests.made.firmware import COMPILER, INCLUDES, LINKER_FLAGS, write_project
from tests.made.tflite import small_artifact

TIMEOUT_S = 120
CONFIG = FrontendConfig(clip_samples=700, window_length=50, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4)
PORTABLE = ("pointwise", "dense", "conv_2d", "depthwise_conv_2d", "depthwise_line", "add", "mean", "max")


@dataclass(frozen=True)
class Job:
    """A call and its inputs; its kernel is the target's, or the portable one that stands in."""

    call: Call
    source: Buffer
    target: Buffer
    inputs: list[np.ndarray]

    @property
    def program(self) -> Program:
        """A program of this call alone."""
        buffers = [self.source] * (1 + max(self.call.output, *call_inputs(self.call)))
        buffers[self.call.output] = self.target
        return Program(tuple(buffers), (self.call,), self.call.input, self.call.output, 1.0, 0, 1.0, 0)

    def kernel(self, kernel_set: str) -> Chosen:
        """The kernel that runs the call."""
        return select_kernel(self.program, self.call, kernel_set)


class KernelBatch:
    """A firmware that runs jobs with a target's kernels."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        files = generate_project(parse_model(small_artifact(CONFIG), "small"), target, stride_frames=1)
        write_project(files, folder)
        modules = kernel_modules(target)
        sources = [text for name, text in files.items() if name.startswith("src/mbx_kernels") and name.endswith(".h")]
        names = [f"mbx_{name}{suffix}" for name in PORTABLE for suffix in ("", "_dsp", "_thumb", "_helium")]
        self.kernels = [name for name in names if any(f" {name}(" in str(text) for text in sources)]
        table = "".join(f"    (kernel_function){name},\n" for name in self.kernels)
        headers = "".join(f'#include "{name}.h"\n' for name in ("mbx_kernels", *modules))
        program = (Path(__file__).parent / "kernel_batch.c").read_text()
        (folder / "batch.c").write_text(f"{headers}{program}\nconst kernel_function kernels[] = {{\n{table}}};\n")
        units = [name for name in files if name.startswith(("src/", "board/")) and name.endswith((".c", ".S"))]
        flags = ("-std=c99", target.optimization, *target.compile_flags, "-ffunction-sections", "-fdata-sections")
        units = [*(name for name in units if name != "board/main.c"), "batch.c"]
        run_tool([COMPILER, *flags, *INCLUDES, *units, *LINKER_FLAGS, "-o", "batch.elf"], cwd=folder)

    def run(self, jobs: Sequence[Job]) -> list[list[tuple[str, np.ndarray]]]:
        """Return for each job what its kernel gave: beside its inputs, and over each one where that is allowed.

        Fails where a kernel writes beside its output or its working memory, or into an input.
        """
        variants = [(job, over) for job in jobs for over in (0, *self._overwritable(job))]
        request = struct.pack("<I", len(variants)) + b"".join(self._encode(job, over) for job, over in variants)
        (self.folder / "mbx-request.bin").write_bytes(request)
        (self.folder / "mbx-response.bin").unlink(missing_ok=True)
        command = [need_tool("qemu-system-arm", "run kernels"), "-M", str(self.target.machine), "-nographic"]
        command += ["-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
        done = subprocess.run(
            [*command, "-kernel", "batch.elf"], cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        response = (self.folder / "mbx-response.bin").read_bytes()
        results: dict[int, list[tuple[str, np.ndarray]]] = {id(job): [] for job in jobs}
        at = 0
        for job, over in variants:
            name = f"{job.kernel(self.target.kernels).name}, {over=}"
            size = job.target.size_bytes
            (status,) = struct.unpack_from("<I", response, at)
            assert status == 0, f"{name}: wrote where it must not, {status:#x}"
            results[id(job)].append((name, np.frombuffer(response, np.int8, size, at + 4).reshape(job.target.shape)))
            at += 4 + size
        assert at == len(response)
        return [results[id(job)] for job in jobs]

    def _overwritable(self, job: Job) -> list[int]:
        indices = call_inputs(job.call)
        numbers = [number for number, index in enumerate(indices) if may_overwrite(job.program, job.call, index)]
        kernel = job.kernel(self.target.kernels).kernel
        return [2 - number if kernel.swaps_inputs(job.call) else 1 + number for number in numbers]

    def _lead(self, job: Job, overwritten: int) -> int:
        lead = lead_in_place(job.program, job.call, job.call.input) if overwritten else 0
        return -(-lead // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

    def _encode(self, job: Job, overwritten: int) -> bytes:
        kernel = job.kernel(self.target.kernels)
        keep: list[np.ndarray] = []
        structure = fill(kernel.kernel.struct(job.program, job.call), keep)
        addresses = {array.ctypes.data: number for number, array in enumerate(keep)}
        fields, pointers = _narrow(structure, addresses)
        constants = bytearray(fields)
        starts = []
        for array in keep:
            constants += bytes(-len(constants) % 16)
            starts.append(len(constants))
            constants += array.tobytes()
        inputs = job.inputs[::-1] if kernel.kernel.swaps_inputs(job.call) else job.inputs
        sizes = [values.size for values in inputs] + [0] * (2 - len(inputs))
        number = self.kernels.index(kernel.name)
        head = (number, len(constants), len(pointers), len(inputs), *sizes, job.target.size_bytes)
        parts = [struct.pack("<10I", *head, kernel.scratch_bytes, overwritten, self._lead(job, overwritten))]
        parts += [struct.pack("<2I", at, starts[array]) for at, array in pointers]
        return b"".join([*parts, bytes(constants), *(values.astype(np.int8).tobytes() for values in inputs)])


def _narrow(structure: ctypes.Structure, arrays: dict[int, int]) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a struct's bytes where pointers have 32 bits, and (offset, number of the array) of each pointer."""
    kind = _narrow_type(type(structure))
    narrow = kind()
    pointers: list[tuple[int, int]] = []

    def copy(source: ctypes.Structure, target: ctypes.Structure, base: int) -> None:
        for name, field, *_ in source._fields_:
            value, at = getattr(source, name), base + getattr(type(target), name).offset
            if isinstance(value, ctypes.Structure):
                copy(value, getattr(target, name), at)
            elif field is ctypes.c_void_p:
                if value is not None:
                    pointers.append((at, arrays[value]))
            else:
                setattr(target, name, value)

    copy(structure, narrow, 0)
    return bytes(narrow), pointers


def _narrow_type(kind: type[ctypes.Structure]) -> type[ctypes.Structure]:
    def field(what: type) -> type:
        if what is ctypes.c_void_p:
            return ctypes.c_uint32
        return _narrow_type(what) if issubclass(what, ctypes.Structure) else what

    fields = [(name, field(what)) for name, what, *_ in kind._fields_]
    return type(kind.__name__, (ctypes.Structure,), {"_fields_": fields})
