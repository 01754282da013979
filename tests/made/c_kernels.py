"""The C kernels in this process, through ctypes: structs, calls, and guard bytes around every output."""

import ctypes
import re
from functools import cache
from typing import Any

import numpy as np

from mbx_deploy.compiler.cascade import Shift, Whole, row_bytes, row_count, stripe_view
from mbx_deploy.compiler.kernels.choice import KERNEL_SETS, NEEDED_SETS, select_kernel
from mbx_deploy.compiler.kernels.kernel import Array, Chosen, Field, Struct
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.compiler.planner import plan_memory
from mbx_deploy.network.program import Buffer, Call, Program, call_inputs, lead_in_place, may_overwrite
from mbx_deploy.system.resources import runtime_file
from mbx_deploy.system.tools import compile_shared_library

GUARD_BYTES = 64
GUARD = 0x5A
MODULES = ("mbx_combine", "mbx_elements", "mbx_pooling", "mbx_softmax", "mbx_steps")
HEADERS = ("mbx_kernels", *MODULES, *(f"mbx_kernels_{name}" for name in KERNEL_SETS if NEEDED_SETS[name]))
U32 = ctypes.c_uint32
TYPEDEF = re.compile(r"typedef struct (?:\w+ )?\{(.*?)\} (\w+);", re.DOTALL)


@cache
def c_struct(name: str) -> type[ctypes.Structure]:
    """Return a struct of the runtime's headers, its fields as they stand there."""
    text = "".join(runtime_file(f"{header}.h").read_text() for header in HEADERS)
    body = next(
        body for body, found in TYPEDEF.findall(re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)) if found == name
    )
    fields = []
    for line in filter(None, map(str.strip, body.split(";"))):
        kind, names = re.fullmatch(r"((?:const )?\w+ \*?)\s*(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
        for field in map(str.strip, names.split(",")):
            plain, _, length = field.rstrip("]").partition("[")
            of = ctypes.c_void_p if "*" in kind else _c_type(kind.strip())
            fields.append((plain, of * int(length) if length else of))
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def _c_type(name: str) -> Any:
    return getattr(ctypes, f"c_{name.removesuffix('_t')}", None) or c_struct(name)


def fill(struct: Struct, keep: list[np.ndarray]) -> ctypes.Structure:
    """Return a struct as C has it; keep owns the arrays that it points to. Fails where a value does not fit."""
    c = c_struct(struct.type)()
    for name, value in struct.fields.items():
        setattr(c, name, _filled(value, keep, getattr(c, name)))
        if isinstance(value, int):
            assert getattr(c, name) == value, f"{struct.type}.{name} does not hold {value}"
    return c


def _filled(value: Field, keep: list[np.ndarray], place: Any) -> Any:
    match value:
        case Array():
            keep.append(np.ascontiguousarray(value.values))
            return keep[-1].ctypes.data
        case tuple():
            assert len(place) == len(value)
            filled = type(place)(*value)
            assert tuple(filled) == value, f"a field does not hold {value}"
            return filled
        case Struct():
            return fill(value, keep)
        case int():
            return value


_library: ctypes.CDLL | None = None


def library() -> ctypes.CDLL:
    """Return the C kernels, every set of them, compiled once; on this machine those of a core are in plain C."""
    global _library
    if _library is None:
        names = ["mbx_fixed_point.h", "mbx_taps.h", "mbx_kernels.h", "mbx_kernels.c"]
        names += ["mbx_runtime.h", *(f"{name}{end}" for name in MODULES for end in (".h", ".c"))]
        for kernel_set in KERNEL_SETS[1:]:
            names += [f"mbx_kernels_{kernel_set}.{suffix}" for suffix in "hc"]
        _library = ctypes.CDLL(str(compile_shared_library({name: runtime_file(name).read_text() for name in names})))
    return _library


def run_c(
    call: Call, inputs: list[np.ndarray], source: Buffer, target: Buffer, kernel_set: str = "portable"
) -> np.ndarray:
    """Return what the C kernel writes, int8 of the target's shape.

    Where the kernel allows it the output is also written over each input, which must give the same. Fails where it
    writes beside its output or its working memory, or into an input.
    """
    buffers = [source] * (1 + max(call.output, *call_inputs(call)))
    buffers[call.output] = target
    program = Program(tuple(buffers), (call,), call.input, call.output, 1.0, 0, 1.0, 0)
    kernel = select_kernel(program, call, kernel_set)
    result = _run(program, call, kernel, inputs, None)
    for number, index in enumerate(call_inputs(call)):
        if may_overwrite(program, call, index):
            in_place = _run(program, call, kernel, inputs, number)
            np.testing.assert_array_equal(in_place, result, f"{kernel.name}, its output over input {number}")
    return result


class _Memory:
    """Bytes between guards."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.bytes = np.full(-(-size // 8) * 8 + 2 * GUARD_BYTES, GUARD, np.int8)
        self.address = self.bytes.ctypes.data + GUARD_BYTES

    @property
    def content(self) -> np.ndarray:
        return self.bytes[GUARD_BYTES : GUARD_BYTES + self.size]

    def check(self, what: str) -> None:
        around = (self.bytes[:GUARD_BYTES], self.bytes[GUARD_BYTES + self.size :])
        assert all((part == GUARD).all() for part in around), f"{what} is left"


def _run(program: Program, call: Call, kernel: Chosen, inputs: list[np.ndarray], overwritten: int | None) -> np.ndarray:
    """Return the output of a call. overwritten: the number of the input in whose place it lies, or None."""
    target = program.buffers[call.output]
    leads = [lead_in_place(program, call, b) if overwritten == i else 0 for i, b in enumerate(call_inputs(call))]
    sizes = [
        max(lead + values.size, target.size_bytes if overwritten == i else 0)
        for i, (values, lead) in enumerate(zip(inputs, leads, strict=True))
    ]
    places = [_Memory(size) for size in sizes]
    for place, values, lead in zip(places, inputs, leads, strict=True):
        place.content[lead : lead + values.size] = values.ravel()
    output = _Memory(target.size_bytes) if overwritten is None else places[overwritten]
    scratch = _Memory(kernel.scratch_bytes)
    addresses = [place.address + lead for place, lead in zip(places, leads, strict=True)]
    invoke(program, call, kernel, addresses, output.address, scratch.address)
    for what, memory in (("the output", output), ("the working memory", scratch)):
        memory.check(f"{kernel.name}: {what}")
    for i, (place, values) in enumerate(zip(places, inputs, strict=True)):
        place.check(f"{kernel.name}: input {i}")
        if i != overwritten:
            np.testing.assert_array_equal(place.content, values.ravel(), f"{kernel.name} changed its input {i}")
    return output.content[: target.size_bytes].copy().reshape(target.shape)


def invoke(program: Program, call: Call, chosen: Chosen, inputs: list[int], output: int, scratch: int) -> None:
    """Run the C kernel on addresses, as the generated call list does."""
    _invoke(chosen, call, chosen.kernel.struct(program, call), inputs, output, scratch)


def _invoke(chosen: Chosen, call: Call, struct: Struct, inputs: list[int], output: int, scratch: int) -> None:
    keep: list[np.ndarray] = []
    c = fill(struct, keep)
    inputs = inputs[::-1] if chosen.kernel.swaps_inputs(call) else inputs
    function = getattr(library(), chosen.name)
    function.restype = None
    rest = [scratch] if chosen.scratch_bytes else []
    function(ctypes.byref(c), *map(ctypes.c_void_p, [*inputs, output, *rest]))


def run_program_c(program: Program, values: np.ndarray, kernel_set: str = "portable") -> np.ndarray:
    """Return the network's output, every step run by its C kernel in one arena, laid out by the planner."""
    return run_plan_c(program, values, plan_memory(program, kernel_set))[-1]


def run_plan_c(program: Program, values: np.ndarray, plan: MemoryPlan) -> list[np.ndarray]:
    """Return the output of each call, put together of its stripes, as an observer sees it, and the network's."""
    arena = _Memory(plan.arena_bytes)
    first = plan.offsets[program.input]
    arena.content[first : first + values.size] = values.ravel()
    seen: list[list[np.ndarray]] = [[] for _ in program.calls]

    def place(buffer: int, at: int = 0) -> int:
        return plan.offsets[buffer] + at * row_bytes(program.buffers[buffer])

    for step in plan.steps():
        if isinstance(step, Shift):
            start, rows = place(step.buffer), step.count * row_bytes(program.buffers[step.buffer])
            source = place(step.buffer, step.first)
            shift(arena.address + source, arena.address + start, rows)
            continue
        call, chosen = program.calls[step.call], plan.kernels[step.call]
        ats = [0, 0, 0] if isinstance(step, Whole) else [step.input_at, step.other_at, step.output_at]
        inputs = [arena.address + place(index, at) for index, at in zip(call_inputs(call), ats, strict=False)]
        output = place(call.output, ats[2])
        scratch = arena.address + plan.scratch_offsets[step.call]
        if isinstance(step, Whole):
            struct, size = chosen.kernel.struct(program, call), program.buffers[call.output].size_bytes
        else:
            struct = chosen.kernel.struct_of_stripe(program, call, step)
            view, _ = stripe_view(program, step)
            ends = step.end == row_count(program.buffers[call.input])
            size = view.buffers[call.output].size_bytes if ends or not call.keeps_sums else 0
        _invoke(chosen, call, struct, inputs, arena.address + output, scratch)
        seen[step.call].append(arena.content[output : output + size].copy())
    arena.check("the arena")
    start = plan.offsets[program.output]
    last = arena.content[start : start + program.buffers[program.output].size_bytes].copy()
    return [*(np.concatenate(parts) for parts in seen), last]


def shift(source: int, target: int, count: int) -> None:
    """Run mbx_shift() on addresses."""
    operands = c_struct("mbx_operands")(source, None, target, None)
    library().mbx_shift(ctypes.byref(U32(count)), ctypes.byref(operands))
