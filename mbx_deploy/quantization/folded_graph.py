"""A PyTorch network as the steps that its int8 twin has: what is folded together, and what is rounded after it."""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from mbx_deploy.errors import CheckFailed

_LEAVES = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.ReLU, nn.Dropout, nn.Identity)
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RECTIFIERS = (torch.relu, nn.functional.relu)


@dataclass(frozen=True, eq=False)
class Step:
    """One op of the int8 network; its output is rounded to int8.

    kind: "input", "convolution", "linear", "add" or "mean". output, inputs: names of values; the input has none.
    module, norm: a convolution's or linear layer's, and the batch norm behind a convolution. rectified: a ReLU is
    fused.
    """

    kind: str
    output: str
    inputs: tuple[str, ...]
    module: Any = None
    norm: Any = None
    rectified: bool = False


class _Tracer(fx.Tracer):
    """Looks into no layer that is one step, whatever its class adds to PyTorch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LEAVES) or super().is_leaf_module(m, module_qualified_name)


def trace_steps(network: nn.Module) -> tuple[Step, ...]:
    """Return the steps, in the order in which the network runs them.

    Raises CheckFailed, naming it: the network computes something else than convolutions, batch norms behind them,
    ReLUs, sums of two, a mean over time and linear layers.
    """
    graph = _Tracer().trace(network)
    modules = dict(network.named_modules())
    names: dict[fx.Node, str] = {}
    steps: list[Step] = []
    for node in graph.nodes:
        if node.op == "output" or node in names:
            continue
        kind = _kind(node, modules)
        inputs = [argument for argument in node.args if isinstance(argument, fx.Node)]
        if kind == "nothing":
            names[node] = names[inputs[0]]
            continue
        if kind in ("norm", "relu", "other"):
            raise CheckFailed(
                f"quantization-aware training does not know this part of the network: {node.target} ({node.name})"
            )
        last = node
        norm = rectified = None
        if kind == "convolution" and (after := _only_user(last, modules)) and after[1] == "norm":
            last, norm = after[0], modules[str(after[0].target)]
            names[last] = node.name
        if (after := _only_user(last, modules)) and after[1] == "relu":
            last, rectified = after[0], True
            names[last] = node.name
        names[node] = node.name
        module = modules[str(node.target)] if node.op == "call_module" else None
        sources = tuple(names[each] for each in inputs)
        steps.append(Step(kind, node.name, sources, module, norm, bool(rectified)))
    return tuple(steps)


def _only_user(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[fx.Node, str] | None:
    users = list(node.users)
    return (users[0], _kind(users[0], modules)) if len(users) == 1 else None


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """Return what a node is: a step's kind, "norm", "relu", "nothing" or "other"."""
    if node.op == "placeholder":
        return "input"
    if node.op == "call_module":
        module = modules[str(node.target)]
        kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
            (nn.Conv2d, "convolution"),
            (nn.BatchNorm2d, "norm"),
            (nn.Linear, "linear"),
            (nn.ReLU, "relu"),
            ((nn.Dropout, nn.Identity), "nothing"),
        )
        return next((name for kind, name in kinds if isinstance(module, kind)), "other")
    if node.target in _RECTIFIERS or (node.op == "call_method" and node.target == "relu"):
        return "relu"
    if node.target in _ADDITIONS and all(isinstance(argument, fx.Node) for argument in node.args):
        return "add"
    if node.target in (torch.mean, "mean"):
        dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        kept = node.kwargs.get("keepdim", False)
        return "mean" if not kept and dims in ((2, 3), [2, 3], (-2, -1)) else "other"
    return "other"
