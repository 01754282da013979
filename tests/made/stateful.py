"""Small .tflite files that keep state, as TensorFlow's converter writes them: variables, and a graph that sets them.

network = StatefulNetwork()
x = network.activation((1, 1, 1, 4), 0.1, -3)
held = network.read("a", np.zeros((1, 3, 1, 4), np.int8), 0.1, -3)
...
network.assign("a", x)
data = network.build(x)
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.errors import InputError
from tests.made.tflite import Network, random_weights

INIT = "VarHandleOptions"
CHANNELS = (1, 2, 3, 4, 5, 8, 8, 12, 16)
ZERO_POINTS = (-128, 127, 0, -5, 60)


@dataclass
class StatefulNetwork(Network):
    """A graph with variables. initial: name -> (values, scale, zero point), which a second graph assigns."""

    initial: dict[str, tuple[np.ndarray, float, int]] = field(default_factory=dict)
    handles: dict[str, int] = field(default_factory=dict)

    def handle(self, name: str) -> int:
        """Return the tensor of a variable's handle; the first time, add the VAR_HANDLE."""
        if not self.handles:
            self.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
        if name not in self.handles:
            output = self.tensor((), "RESOURCE")
            self.handles[name] = self.op("VAR_HANDLE", [], output, INIT, sharedName=name)
        return self.handles[name]

    def read(self, name: str, values: np.ndarray, scale: float, zero_point: int) -> int:
        """Add a READ_VARIABLE. values: int8, before the first run."""
        handle = self.handle(name)
        self.initial.setdefault(name, (values, scale, zero_point))
        return self.op("READ_VARIABLE", [handle], self.activation(values.shape, scale, zero_point))

    def assign(self, name: str, source: int) -> None:
        """Add an ASSIGN_VARIABLE."""
        self.op("ASSIGN_VARIABLE", [self.handle(name), source], [], "AssignVariableOptions")

    def op(self, name: str, inputs: Any, output: Any, options: str | None = None, **values: Any) -> int:
        """Add an op; one without outputs, too."""
        if output == []:
            super().op(name, inputs, [-1], options, **values)
            self.operators[-1].outputs = []
            return -1
        return super().op(name, inputs, output, options, **values)

    def model(self, output: int | list[int], source: int | list[int] = 0) -> schema.ModelT:
        """Return the model as objects, the graph that sets the variables behind the main one."""
        if not self.initial:
            return super().model(output, source)
        once = StatefulNetwork(buffers=self.buffers, codes=self.codes)
        for name, (values, scale, zero_point) in self.initial.items():
            handle = once.op("VAR_HANDLE", [], once.tensor((), "RESOURCE"), INIT, sharedName=name)
            constant = once.constant(values, [scale], [zero_point])
            once.op("ASSIGN_VARIABLE", [handle, constant], [], "AssignVariableOptions")
        model = super().model(output, source)
        graph = schema.SubGraphT(tensors=once.tensors, inputs=[], outputs=[], operators=once.operators, name="NoOp")
        model.subgraphs.append(graph)
        return model


@functools.cache
def stateful_network(seed: int, layers: int = 6) -> CompiledModel:
    """Return a drawn network with a variable or two in most layers; the same for the same seed."""
    for attempt in range(20):
        try:
            data = Drawing(np.random.default_rng((seed, attempt))).file(layers)
            return parse_model(data, f"stateful {seed}", network_only=True)
        except InputError as error:
            assert "overflow" in error.what or "too far apart" in error.what, error.what
    raise AssertionError(f"no network for seed {seed}")


class Drawing:
    """Draws layers: what others' streaming models do with a variable, and what nobody does but could."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.network, self.count = rng, StatefulNetwork(), 0
        self.kinds: tuple[Callable[[int], int], ...] = (
            self.ring,
            self.shifted,
            self.newest_first,
            self.feedback,
            self.exchange,
            self.beside,
            self.read_again,
            self.plain,
        )

    def file(self, layers: int, kinds: tuple[int, ...] | None = None) -> bytes:
        """Return the file of a chain of layers. kinds: of them, else drawn."""
        rows = int(self.rng.integers(1, 4))
        x = self.network.activation((1, rows, 1, int(self.rng.choice(CHANNELS))), 0.05, self.point())
        drawn = self.rng.choice(len(self.kinds), layers) if kinds is None else kinds
        for kind in drawn:
            x = self.kinds[kind](x)
        size = int(np.prod(self.network.shape(x)))
        x = self.network.reshape(x, (1, size))
        scale = self.network.scale(x) * 0.01 * 74 * np.sqrt(size) / 2
        x = self.network.fully_connected(x, random_weights(self.rng, (3, size)), [0.01], None, float(scale), 3)
        return self.network.build(x)

    def point(self) -> int:
        return int(self.rng.choice(ZERO_POINTS))

    def point_of(self, x: int) -> int:
        return int(self.network.tensors[x].quantization.zeroPoint[0])

    def held(self, x: int, shape: tuple[int, ...], name: str | None = None) -> tuple[str, int]:
        """Add a variable that is read, with x's scale and zero point. Returns its name and the tensor."""
        if name is None:
            self.count += 1
            name = f"v{self.count}"
        initial = self.rng.integers(-128, 128, shape)
        kind = self.rng.integers(4)
        if kind < 2:
            initial[:] = self.point_of(x) if kind else initial.ravel()[0]
        elif kind == 2:
            initial[:] = initial[..., :1, :1, :] if len(shape) == 4 else initial
        read = self.network.read(name, initial.astype(np.int8), self.network.scale(x), self.point_of(x))
        return name, read

    def over_rows(self, x: int) -> int:
        """Add a convolution over all rows."""
        rows, channels = self.network.shape(x)[1], self.network.shape(x)[3]
        depthwise = bool(self.rng.integers(2))
        outside = channels if depthwise else int(self.rng.choice(CHANNELS))
        shape = (1, rows, 1, outside) if depthwise else (outside, rows, 1, channels)
        taps = rows * (1 if depthwise else channels)
        scale = float(self.network.scale(x) * 0.01 * 74 * np.sqrt(taps))
        weights = np.maximum(random_weights(self.rng, shape), np.int8(-127))
        scales, bias = self.rng.uniform(0.003, 0.01, outside), self.rng.integers(-900, 900, outside)
        return self.network.conv_2d(
            x, weights, scales, bias, scale, self.point(), padding="VALID", depthwise=depthwise, activation="NONE"
        )

    def ring(self, x: int) -> int:
        """As microWakeWord's second models and Google's kws_streaming: what was, and behind it what is new."""
        network, (_, rows, _, channels) = self.network, self.network.shape(x)
        kept = int(self.rng.integers(1, 6))
        name, read = self.held(x, (1, kept, 1, channels))
        x = network.concatenation([read, x], 1)
        every = slice(None)
        network.assign(name, network.strided_slice(x, [every, slice(rows, None), every, every]))
        return self.over_rows(x)

    def shifted(self, x: int) -> int:
        """As microWakeWord's first models: the oldest rows are dropped when they are read."""
        network, (_, rows, _, channels) = self.network, self.network.shape(x)
        name, read = self.held(x, (1, rows + int(self.rng.integers(1, 5)), 1, channels))
        every = slice(None)
        x = network.concatenation([network.strided_slice(read, [every, slice(rows, None), every, every]), x], 1)
        network.assign(name, x)
        return self.over_rows(x)

    def newest_first(self, x: int) -> int:
        """The newest rows before the others."""
        network, channels = self.network, self.network.shape(x)[3]
        kept = int(self.rng.integers(1, 5))
        name, read = self.held(x, (1, kept, 1, channels))
        x = network.concatenation([x, read], 1)
        network.assign(name, network.strided_slice(x, [slice(None), slice(0, kept), slice(None), slice(None)]))
        return self.over_rows(x)

    def feedback(self, x: int) -> int:
        """A sum that goes on."""
        name, read = self.held(x, self.network.shape(x))
        total = self.network.add(read, x, self.network.scale(x) * 1.5, self.point())
        back = self.network.brought(total, "INT8", self.network.scale(x), self.point_of(x))
        self.network.assign(name, back)
        return total

    def exchange(self, x: int) -> int:
        """A line of delay: one variable takes what another one held."""
        network, shape = self.network, self.network.shape(x)
        first, newer = self.held(x, shape)
        second, older = self.held(x, shape)
        network.assign(second, newer)
        network.assign(first, x)
        return network.add(newer, older, network.scale(x) * 1.5, self.point())

    def beside(self, x: int) -> int:
        """Channels of the last run beside those of this one."""
        name, read = self.held(x, self.network.shape(x))
        self.network.assign(name, x)
        return self.over_rows(self.network.concatenation([read, x], 3))

    def read_again(self, x: int) -> int:
        """What was read twice, and once more behind the assignment."""
        network, shape = self.network, self.network.shape(x)
        name, read = self.held(x, shape)
        _, again = self.held(x, shape, name)
        total = network.add(read, again, network.scale(x) * 2, self.point())
        network.assign(name, x)
        _, new = self.held(x, shape, name)
        return network.add(total, new, network.scale(x) * 2, self.point())

    def plain(self, x: int) -> int:
        """A layer without state."""
        return self.over_rows(x) if self.rng.integers(2) else self.network.curve(x, "TANH")
