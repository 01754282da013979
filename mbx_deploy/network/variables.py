"""What a network remembers from one run to the next: TFLite's variables, resolved.

A file of others keeps state in variables: the main graph gets a handle of each (VAR_HANDLE), reads it, and assigns to
it what the next run is to read; a second graph, which CALL_ONCE runs before all else, assigns constants. What is left
of that here are an initial value, a tensor that nothing writes, and a tensor that the next run finds in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mbx_deploy.errors import InputError, visible
from mbx_deploy.network import ir
from mbx_deploy.network.foreign import QUANTIZE_HINT
from mbx_deploy.network.op_reader import OpInFile, Tensors

STATE_OPS = ("ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE")
MOST_SUBGRAPHS, MOST_VARIABLES = 16, 256
MOST_STATE_BYTES = 1 << 24  # of all variables
MAX_NAME_LENGTH = 100
HINT = "convert the model again, or take the network of a whole window, not the streaming one"
FLOAT_HINT = "convert it with converter._experimental_variable_quantization = True, or " + QUANTIZE_HINT.replace(
    "it:", "the float one:"
)

Key = tuple[bytes, bytes]  # container and shared name, by which graphs mean the same variable


@dataclass(frozen=True)
class Subgraph:
    """A graph of a file. constants: numbers of its tensors."""

    name: str
    ops: tuple[OpInFile, ...]
    tensors: Tensors
    constants: frozenset[int]


@dataclass(frozen=True)
class Resolved:
    """ops: without those of STATE_OPS, reading in the place of what was read once more, or behind an assignment.

    renamed: those tensors -> what they are. variables: of the main graph's tensors. initial_graphs: those that only set
    variables.
    """

    ops: tuple[OpInFile, ...]
    renamed: dict[int, int]
    variables: tuple[ir.Variable, ...]
    initial_graphs: frozenset[int] = frozenset()


@dataclass
class _Found:
    """What the graphs say of their variables while they are gone through."""

    handles: dict[int, Key] = field(default_factory=dict)
    initial: dict[Key, ir.Tensor] = field(default_factory=dict)
    read: dict[Key, int] = field(default_factory=dict)
    assigned: dict[Key, int] = field(default_factory=dict)


def resolve_variables(main: Subgraph, count: int, subgraph: Callable[[int], Subgraph]) -> Resolved:
    """Return the main graph without variables. count: of the file's graphs. subgraph: returns one, by its number.

    Raises InputError for variables that don't match: not set before the first run, not read or not assigned just once
    in each, in another graph, or of another shape, type or scale.
    """
    if not any(op.name in STATE_OPS for op in main.ops):
        return Resolved(main.ops, {}, ())
    if count > MOST_SUBGRAPHS:
        raise InputError(f"the model has {count} subgraphs: need at most {MOST_SUBGRAPHS}", HINT)
    found = _Found()
    graphs: set[int] = set()
    ops: list[OpInFile] = []
    renamed: dict[int, int] = {}
    for op in main.ops:
        op = replace(op, inputs=tuple(renamed.get(number, number) for number in op.inputs))
        match op.name:
            case "VAR_HANDLE":
                found.handles[_only(op, op.outputs)] = _key(op)
            case "CALL_ONCE":
                number = _initial_graph(op, count, found)
                graphs.add(number)
                _set_initial(found, subgraph(number))
            case "READ_VARIABLE":
                key, output = _variable(found, op), _only(op, op.outputs)
                known = found.assigned.get(key, found.read.setdefault(key, output))
                if known != output:
                    _check_same(key, main.tensors[output], main.tensors[known])
                    renamed[output] = known
            case "ASSIGN_VARIABLE":
                _assign(found, op)
            case _:
                ops.append(op)
    _check_other_graphs(subgraph, {*range(1, count)} - graphs)
    keys = dict.fromkeys((*found.read, *found.assigned))
    variables = tuple(_checked(found, key, main) for key in keys)
    total = sum(variable.initial.size for variable in variables)
    if len(keys) > MOST_VARIABLES or total > MOST_STATE_BYTES:
        raise InputError(
            f"the network's state is too large: got {len(keys)} variables of {total:,} bytes, need at most "
            f"{MOST_VARIABLES} of {MOST_STATE_BYTES:,}"
        )
    return Resolved(tuple(ops), renamed, variables, frozenset(graphs))


def _key(op: OpInFile) -> Key:
    import tflite

    if op.options is None:
        raise ValueError("VAR_HANDLE without options")
    options = tflite.VarHandleOptions()
    options.Init(op.options.Bytes, op.options.Pos)
    return (options.Container() or b"", options.SharedName() or b"")


def _initial_graph(op: OpInFile, count: int, found: _Found) -> int:
    import tflite

    if op.options is None:
        raise ValueError("CALL_ONCE without options")
    options = tflite.CallOnceOptions()
    options.Init(op.options.Bytes, op.options.Pos)
    number = options.InitSubgraphIndex()
    if not 1 <= number < count:
        raise InputError(
            f"the graph that is called once is none ({op.where}): got {number}, need 1 to {count - 1}", HINT
        )
    if found.read or found.assigned or found.initial:
        raise InputError(
            f"the state is set too late or twice ({op.where}): need one CALL_ONCE, before it is read", HINT
        )
    return int(number)


def _set_initial(found: _Found, graph: Subgraph) -> None:
    """Take the constants that a graph assigns."""
    handles: dict[int, Key] = {}
    for op in graph.ops:
        if op.name == "VAR_HANDLE":
            handles[_only(op, op.outputs)] = _key(op)
        elif op.name == "ASSIGN_VARIABLE" and len(op.inputs) == 2 and op.inputs[0] in handles:
            key, value = handles[op.inputs[0]], op.inputs[1]
            if key in found.initial:
                raise _fault(key, "two values at the start", "one")
            if value not in graph.constants:
                raise _fault(key, "a value at the start that an op computes", "a constant")
            found.initial[key] = graph.tensors[value]
        else:
            raise InputError(
                f"the graph that sets the state does more than that ({visible(graph.name)}, {op.where}): "
                f"got {op.name}, need VAR_HANDLE, and ASSIGN_VARIABLE of a constant",
                HINT,
            )


def _variable(found: _Found, op: OpInFile) -> Key:
    if not op.inputs or op.inputs[0] not in found.handles:
        raise InputError(f"the op is on no variable ({op.where}): need what a VAR_HANDLE before it gives", HINT)
    return found.handles[op.inputs[0]]


def _only(op: OpInFile, tensors: Sequence[int]) -> int:
    if len(tensors) != 1:
        raise InputError(f"the op has {len(tensors)} outputs ({op.where}): need 1")
    return tensors[0]


def _assign(found: _Found, op: OpInFile) -> None:
    key = _variable(found, op)
    if len(op.inputs) != 2:
        raise InputError(f"the op has {len(op.inputs)} inputs ({op.where}): need 2")
    if key in found.assigned:
        raise _fault(key, "two ASSIGN_VARIABLE in a run", "one")
    if key not in found.read:
        raise _fault(key, "an ASSIGN_VARIABLE without a READ_VARIABLE before it", "one that reads the last run's value")
    found.assigned[key] = op.inputs[1]


def _check_other_graphs(subgraph: Callable[[int], Subgraph], numbers: set[int]) -> None:
    for number in sorted(numbers):
        graph = subgraph(number)
        op = next((op for op in graph.ops if op.name in STATE_OPS), None)
        if op is not None:
            raise InputError(
                f"the network's state is used in a graph within the graph (subgraph {number}, {op.where}): "
                "need it read and assigned by the main one",
                HINT,
            )


def _checked(found: _Found, key: Key, main: Subgraph) -> ir.Variable:
    if key not in found.assigned:
        raise _fault(key, "a READ_VARIABLE without an ASSIGN_VARIABLE", "one that sets what the next run reads")
    if key not in found.initial:
        raise _fault(key, "no value before the first run", "a graph that CALL_ONCE runs, and that assigns a constant")
    read, assigned = (_at(main, found.read[key]), _at(main, found.assigned[key]))
    if read.dtype == "float32":
        fault = _fault(key, "float32", "int8")
        raise InputError(fault.what, FLOAT_HINT)
    _check_same(key, assigned, read)
    _check_same(key, found.initial[key], read)
    data = found.initial[key].data
    if data is None or read.dtype != "int8":
        raise _fault(key, f"values of type {read.dtype}", "int8")
    return ir.Variable(_name(key), found.read[key], found.assigned[key], data)


def _at(graph: Subgraph, number: int) -> ir.Tensor:
    if not 0 <= number < len(graph.tensors):
        raise ValueError(f"tensor {number} of {len(graph.tensors)}")
    return graph.tensors[number]


def _check_same(key: Key, got: ir.Tensor, need: ir.Tensor) -> None:
    """Raise InputError where a variable is not what is read of it, or is not set to that."""
    texts = [
        f"{tensor.dtype} {list(tensor.shape)} of scale {', '.join(map(str, tensor.scales)) or 'none'} "
        f"and zero point {tensor.zero_point}"
        for tensor in (got, need)
    ]
    if texts[0] != texts[1]:
        raise _fault(key, texts[0], f"{texts[1]}, which is read")


def _name(key: Key) -> str:
    return visible(key[1].decode("utf-8", "replace")[:MAX_NAME_LENGTH])


def _fault(key: Key, got: str, need: str) -> InputError:
    return InputError(f"the network's state does not match (variable {_name(key)!r}): got {got}, need {need}", HINT)
