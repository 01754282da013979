"""Networks that keep state: what is read of their variables, and what is refused, in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner

from mbx_deploy.codegen.tflm import used_ops
from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler.model import parse_model
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.reader import parse_tflite
from tests.made.stateful import StatefulNetwork
from tests.made.tflite import metadata_for, pack

SHAPE = (1, 2, 1, 4)
INITIAL = np.arange(8, dtype=np.int8).reshape(SHAPE)


def ring() -> tuple[StatefulNetwork, int]:
    """Return a network that keeps the last two rows, and its output."""
    network = StatefulNetwork()
    x = network.activation((1, 1, 1, 4), 0.1, -3)
    read = network.read("rows", INITIAL, 0.1, -3)
    joined = network.concatenation([read, x], 1)
    every = slice(None)
    network.assign("rows", network.strided_slice(joined, [every, slice(1, None), every, every]))
    return network, network.clamp(joined, "RELU")


def test_what_is_read_of_a_variable() -> None:
    network, output = ring()
    model = parse_tflite(network.build(output), "ring")
    (variable,) = model.variables
    assert variable.name == "rows" and not model.whole
    np.testing.assert_array_equal(variable.initial, INITIAL)
    assert model.tensors[variable.read].shape == model.tensors[variable.assigned].shape == SHAPE
    assert [type(op).__name__ for op in model.ops] == ["Concatenate", "Slice", "Clamp"]
    assert model.ops[1].output == variable.assigned


Change = Callable[[schema.ModelT], None]


def ops_of(model: schema.ModelT, name: str, graph: int = 0) -> list[schema.OperatorT]:
    """Return the ops of a name."""
    number = getattr(schema.BuiltinOperator, name)
    found = [i for i, code in enumerate(model.operatorCodes) if code.builtinCode == number]
    return [op for op in model.subgraphs[graph].operators if op.opcodeIndex in found]


def without(name: str, graph: int = 0) -> Change:
    """Return a change that takes the first op of a name out."""
    return lambda model: model.subgraphs[graph].operators.remove(ops_of(model, name, graph)[0])


def twice(name: str, graph: int = 0) -> Change:
    """Return a change that has an op of a name stand there twice, the second time at the end."""
    return lambda model: model.subgraphs[graph].operators.append(ops_of(model, name, graph)[0])


def moved(name: str, place: int) -> Change:
    """Return a change that moves an op."""

    def change(model: schema.ModelT) -> None:
        op = ops_of(model, name)[0]
        model.subgraphs[0].operators.remove(op)
        model.subgraphs[0].operators.insert(place, op)

    return change


def initial_tensor(model: schema.ModelT) -> schema.TensorT:
    """Return the constant that the second graph assigns."""
    graph = model.subgraphs[1]
    return graph.tensors[ops_of(model, "ASSIGN_VARIABLE", 1)[0].inputs[1]]


def read_tensor(model: schema.ModelT) -> schema.TensorT:
    """Return what is read."""
    return model.subgraphs[0].tensors[ops_of(model, "READ_VARIABLE")[0].outputs[0]]


def another_name(model: schema.ModelT) -> None:
    ops_of(model, "VAR_HANDLE", 1)[0].builtinOptions.sharedName = "others"


def another_shape(model: schema.ModelT) -> None:
    initial_tensor(model).shape = [1, 1, 2, 4]


def another_scale(model: schema.ModelT) -> None:
    initial_tensor(model).quantization.scale = [0.2]


def another_type(model: schema.ModelT) -> None:
    initial_tensor(model).type = schema.TensorType.UINT8


def float_state(model: schema.ModelT) -> None:
    for tensor in (read_tensor(model), initial_tensor(model)):
        tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None


def assigned_another(model: schema.ModelT) -> None:
    ops_of(model, "ASSIGN_VARIABLE")[0].inputs[1] = ops_of(model, "CONCATENATION")[0].outputs[0]


def assigned_nothing(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    graph.tensors.append(read_tensor(model))
    ops_of(model, "ASSIGN_VARIABLE")[0].inputs[1] = len(graph.tensors) - 1


def computed(model: schema.ModelT) -> None:
    """Have the second graph assign what no constant is."""
    initial_tensor(model).buffer = 0


def more_than_that(model: schema.ModelT) -> None:
    relu = schema.OperatorT(opcodeIndex=ops_of(model, "RELU")[0].opcodeIndex, inputs=[1], outputs=[1])
    model.subgraphs[1].operators.append(relu)


def nested(model: schema.ModelT) -> None:
    model.subgraphs.append(model.subgraphs[1])


def calls(number: int) -> Change:
    """Return a change of the graph that is called once."""

    def change(model: schema.ModelT) -> None:
        ops_of(model, "CALL_ONCE")[0].builtinOptions.initSubgraphIndex = number

    return change


def no_handle(model: schema.ModelT) -> None:
    ops_of(model, "READ_VARIABLE")[0].inputs = [0]


def no_options(model: schema.ModelT) -> None:
    ops_of(model, "VAR_HANDLE")[0].builtinOptions = None


def output_is_a_state(model: schema.ModelT) -> None:
    model.subgraphs[0].outputs = [ops_of(model, "READ_VARIABLE")[0].outputs[0]]


def many_graphs(model: schema.ModelT) -> None:
    model.subgraphs += [schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[])] * 16


FAULTS: dict[str, tuple[Change, str]] = {
    "never assigned": (without("ASSIGN_VARIABLE"), "a READ_VARIABLE without an ASSIGN_VARIABLE"),
    "never read": (without("READ_VARIABLE"), "an ASSIGN_VARIABLE without a READ_VARIABLE before it"),
    "assigned twice": (twice("ASSIGN_VARIABLE"), "two ASSIGN_VARIABLE in a run"),
    "assigned before it is read": (moved("ASSIGN_VARIABLE", 2), "without a READ_VARIABLE before it"),
    "set by nobody": (another_name, "no value before the first run"),
    "set twice": (twice("ASSIGN_VARIABLE", 1), "two values at the start"),
    "set to what is computed": (computed, "a value at the start that an op computes"),
    "no CALL_ONCE": (without("CALL_ONCE"), "used in a graph within the graph (subgraph 1, op 0, VAR_HANDLE)"),
    "CALL_ONCE too late": (moved("CALL_ONCE", 3), "the state is set too late or twice (op 3, CALL_ONCE)"),
    "CALL_ONCE twice": (twice("CALL_ONCE"), "the state is set too late or twice"),
    "CALL_ONCE of itself": (calls(0), "the graph that is called once is none (op 0, CALL_ONCE): got 0, need 1 to 1"),
    "CALL_ONCE of nothing": (calls(2), "got 2, need 1 to 1"),
    "set otherwise": (more_than_that, "does more than that (NoOp, op 2, RELU): got RELU"),
    "another shape": (another_shape, "got int8 [1, 1, 2, 4] of scale 0.1 and zero point -3, need int8 [1, 2, 1, 4]"),
    "another scale": (another_scale, "of scale 0.2 and zero point -3"),
    "float": (float_state, "(variable 'rows'): got float32, need int8"),
    "another type": (another_type, "got uint8 [1, 2, 1, 4]"),
    "assigned another shape": (assigned_another, "got int8 [1, 3, 1, 4]"),
    "assigned nothing": (assigned_nothing, "a value that nothing wrote"),
    "in a graph within": (nested, "used in a graph within the graph (subgraph 2, op 0, VAR_HANDLE)"),
    "of no variable": (no_handle, "the op is on no variable (op 2, READ_VARIABLE)"),
    "without options": (no_options, "damaged"),
    "an output": (output_is_a_state, "need the output of an op"),
    "many graphs": (many_graphs, "the model has 18 subgraphs: need at most 16"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_variables_that_do_not_match(case: str) -> None:
    change, words = FAULTS[case]
    network, output = ring()
    model = network.model(output)
    change(model)
    with pytest.raises(InputError) as caught:
        parse_tflite(pack(model), "changed.tflite")
    assert words in caught.value.what and "changed.tflite" in caught.value.what, caught.value.what
    assert "\n" not in caught.value.what


def test_build_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    network, output = ring()
    model = network.model(output)
    another_shape(model)
    (tmp_path / "m.tflite").write_bytes(pack(model))
    arguments = ["build", "--model", tmp_path / "m.tflite", "--network-only", "--target", "host", "-o", tmp_path / "b"]
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 2 and not (tmp_path / "b").exists()
    said = done.output.strip().splitlines()
    assert len(said) == 2 and "variable 'rows'" in said[0] and said[1].startswith("  hint: convert the model again")


def test_a_name_that_a_terminal_would_obey() -> None:
    network, output = ring()
    model = network.model(output)
    ops_of(model, "VAR_HANDLE")[0].builtinOptions.sharedName = "\x1b[2J"
    with pytest.raises(InputError) as caught:
        parse_tflite(pack(model), "m")
    assert "\x1b" not in caught.value.what and "no value before" in caught.value.what


@pytest.mark.parametrize(("count", "rows", "words"), [(257, 1, "got 257 variables"), (2, 1 << 14, "17,825,792 bytes")])
def test_state_that_is_too_large(count: int, rows: int, words: str) -> None:
    """What a file of few bytes can ask for: variables that share a constant."""
    network = StatefulNetwork()
    x = network.activation((1, rows, 1, 1 if count > 2 else 544), 0.1, 0)
    values = np.zeros(network.shape(x), np.int8)
    for number in range(count):
        network.assign(f"v{number}", network.clamp(network.read(f"v{number}", values, 0.1, 0), "RELU"))
    with pytest.raises(InputError, match="the network's state is too large") as caught:
        parse_tflite(network.build(network.clamp(x, "RELU")), "m")
    assert words in caught.value.what


def test_where_state_is_not_taken() -> None:
    network, output = ring()
    data = network.build(output)
    with pytest.raises(InputError, match="keeps its own state"):
        parse_model(data, "m", network_only=True, step_frames=1)
    with pytest.raises(InputError, match="keeps state in 1 variables, which the runtime tflm does not"):
        used_ops(parse_model(data, "m", network_only=True))
    config = FrontendConfig(clip_samples=24, window_length=16, hop_length=16, n_fft=256, n_mels=4, n_mfcc=0)
    with pytest.raises(InputError, match="keeps no state of its own"):
        parse_model(network.build(output, metadata_for(config, [f"w{i}" for i in range(12)])), "m")
