"""What the template of the call list needs: a C struct a call, or a kind of its stripes, and the steps of cascades."""

from typing import Any

from mbx_deploy.codegen.languages import Verbatim, plain_text
from mbx_deploy.compiler.cascade import WORD_BYTES, Cascade, Shift, Stripe, row_bytes, row_count, stripe_view
from mbx_deploy.compiler.kernels.kernel import Array, Field, Layout, Struct
from mbx_deploy.compiler.memory_plan import MemoryPlan
from mbx_deploy.network.program import Call, KeepRows, Program, call_inputs

CASCADE_MODULE = "mbx_steps"
SHIFT_FUNCTION = "mbx_shift"
STEP_PREFIX = "step_"  # of the generated functions by which a step calls a kernel

Context = dict[str, Any]


def call_contexts(program: Program, plan: MemoryPlan, prefix: str) -> tuple[list[Context], list[Context]]:
    """Return what runs, a context a call or a cascade, and the C structs that it needs."""
    calls: list[Context] = []
    structs: list[Context] = []
    for part in plan.parts():
        if isinstance(part, Cascade):
            steps, made = _cascade_contexts(program, plan, part, prefix)
            names = (plain_text(program.calls[number].name) for number in (part.first, part.last))
            calls.append({"name": " to ".join(names), "steps": steps, "steps_name": f"cascade_{part.first}_steps"})
            structs += made
        else:
            number, call = part.call, program.calls[part.call]
            calls.append(_call_context(program, plan, number, call))
            made_of = plan.kernels[number].kernel.struct(program, call)
            own = _struct_context(f"call_{number}", made_of, _shapes(program, call), prefix, number)
            structs.append(own | {"is_free": plan.is_free(call)})
    return calls, structs


def runners(program: Program, plan: MemoryPlan) -> list[Context]:
    """Return for each kernel that runs in a cascade how it is called by a step."""
    found = {}
    for cascade in plan.cascades:
        for number in range(cascade.first, cascade.last + 1):
            kernel = plan.kernels[number]
            found[kernel.name] = {
                "name": _runner_name(kernel.name),
                "kernel": kernel.name,
                "other": len(call_inputs(program.calls[number])) > 1,
                "scratch": kernel.scratch_bytes > 0,
            }
    return [found[name] for name in sorted(found)]


def _runner_name(kernel: str) -> str:
    return f"{STEP_PREFIX}{kernel.removeprefix('mbx_')}"


def _cascade_contexts(
    program: Program, plan: MemoryPlan, cascade: Cascade, prefix: str
) -> tuple[list[Context], list[Context]]:
    """Return the steps of a cascade, and a struct for each kind of stripe that a call has."""
    made: dict[tuple[int | str, ...], Context] = {}
    steps = []
    for step in cascade.steps:
        if isinstance(step, Shift):
            steps.append(_shift(program, plan, cascade, step, made))
        else:
            kind = _stripe_kind(program, step)
            if kind not in made:
                name = f"call_v{sum(known[0] == step.call for known in made)}_{step.call}"
                call, kernel = program.calls[step.call], plan.kernels[step.call].kernel
                shapes = _shapes(*stripe_view(program, step))
                struct = kernel.struct_of_stripe(program, call, step)
                made[kind] = _struct_context(name, struct, shapes, prefix, step.call)
            steps.append(_stripe(program, plan, step, made[kind]))
    return steps, list(made.values())


def _shift(
    program: Program, plan: MemoryPlan, cascade: Cascade, step: Shift, made: dict[tuple[int | str, ...], Context]
) -> Context:
    row, start = row_bytes(program.buffers[step.buffer]), plan.offsets[step.buffer]
    size = step.count * row
    struct = made.setdefault(
        ("shift", size),
        _struct_context(
            f"cascade_{cascade.first}_shift_of_{size}_bytes",
            Struct("mbx_shift_call", {"bytes": size}),
            f"{size} bytes that a cascade still needs",
        ),
    )
    name = plain_text(next(call.name for call in program.calls if call.output == step.buffer))
    places = (start + step.first * row, start, start, start)
    return _step(SHIFT_FUNCTION, struct, places, 0, 0, f"{step.count} rows of {name}")


def _stripe_kind(program: Program, step: Stripe) -> tuple[int, ...]:
    """Return what stripes of one call have in common that share a struct."""
    call = program.calls[step.call]
    kind = (
        *(step.call, step.end - step.first),
        *(step.source_end - step.source_first, step.first - step.source_first),
    )
    if not call.keeps_sums:
        return kind
    return (*kind, step.first == 0, step.end == row_count(program.buffers[call.input]))


def _stripe(program: Program, plan: MemoryPlan, step: Stripe, struct: Context) -> Context:
    call, chosen = program.calls[step.call], plan.kernels[step.call]
    source, target = (row_bytes(program.buffers[buffer]) for buffer in (call.input, call.output))
    others = [plan.offsets[other] + step.other_at * source for other in call_inputs(call)[1:]]
    inputs = [plan.offsets[call.input] + step.input_at * source, *others]
    if chosen.kernel.swaps_inputs(call):
        inputs.reverse()
    output = plan.offsets[call.output] + step.output_at * target
    places = (*inputs, *[0] * (2 - len(inputs)), output, plan.scratch_offsets[step.call])
    observed = (step.end - step.first) * target
    if call.keeps_sums:
        last = step.end == row_count(program.buffers[call.input])
        observed = program.buffers[call.output].size_bytes if last else 0
    text = f"{plain_text(call.name)}, rows {step.first} to {step.end - 1}"
    return _step(_runner_name(chosen.name), struct, places, step.call, observed, text)


def _step(run: str, struct: Context, places: tuple[int, ...], layer: int, observed: int, comment: str) -> Context:
    """places: offsets of input, other, output and working memory, in bytes."""
    if any(place % WORD_BYTES for place in places):
        raise AssertionError(f"a step does not begin at a word ({comment}): {places}")
    words = dict(zip(("input", "other", "output", "scratch"), (p // WORD_BYTES for p in places), strict=True))
    return {
        **words,
        "run": run,
        "struct": struct["name_in_c"],
        "layer": layer,
        "observed_bytes": observed,
        "comment": comment,
    }


def _call_context(program: Program, plan: MemoryPlan, number: int, call: Call) -> Context:
    chosen = plan.kernels[number]
    inputs = [plan.offsets[buffer] for buffer in call_inputs(call)]
    if chosen.kernel.swaps_inputs(call):
        inputs.reverse()
    return {
        "number": number,
        "name_in_c": f"call_{number}",
        "steps": [],
        "name": plain_text(call.name),
        "kernel": chosen.name,
        "input_offsets": inputs,
        "output_offset": plan.offsets[call.output],
        "output_bytes": program.buffers[call.output].size_bytes,
        "is_free": plan.is_free(call),
        "is_hidden": isinstance(call, KeepRows),  # of no layer: an observer sees what it moves where it is made
        "scratch_offset": plan.scratch_offsets[number] if chosen.scratch_bytes else None,
    }


def _shapes(program: Program, call: Call) -> str:
    """Return a call's name and shapes, for a comment. program, call: as lowered, or a stripe as a whole call."""
    source, target = (program.buffers[buffer].shape for buffer in (call.input, call.output))
    return f"{plain_text(call.name)}: {' x '.join(map(str, source))} -> {' x '.join(map(str, target))}"


def _struct_context(name_in_c: str, struct: Struct, comment: str, prefix: str = "", number: int = 0) -> Context:
    """prefix, number: of the constants that the struct points to, as constants.constant_arrays() names them."""
    lines = [_line(name, value, prefix, number) for name, value in struct.fields.items()]
    return {"name_in_c": name_in_c, "type": struct.type, "comment": comment, "lines": lines, "is_free": False}


def _line(name: str, value: Field, prefix: str, number: int) -> Verbatim:
    at_start = isinstance(value, Struct) and value.layout is Layout.COLUMN
    return Verbatim(f"{'' if at_start else '    '}.{name} = {_text(name, value, prefix, number)},")


def _text(name: str, value: Field, prefix: str, number: int) -> str:
    """Return the C initialiser of a field."""
    match value:
        case Array():
            return f"{prefix}_{name}_{number}"
        case tuple():
            return f"{{{', '.join(map(str, value))}}}"
        case Struct():
            parts = [f".{key} = {_text(key, part, prefix, number)}" for key, part in value.fields.items()]
            match value.layout:
                case Layout.ROW:
                    return f"{{{', '.join(parts)}}}"
                case Layout.COLUMN:
                    return "{" + f",\n{' ' * len(f'    .{name} = ' + '{')}".join(parts) + "}"
                case Layout.LINES:
                    return "{\n" + "".join(f"    {part},\n" for part in parts) + "    }"
        case int():
            return str(value)
