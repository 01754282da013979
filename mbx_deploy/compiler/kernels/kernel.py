"""What a kernel of the runtime is: one declaration of all that the compiler and the C's generator need to know of it.

Every kernel of a call gives the same bytes. Twins: the functions and structs of
firmware_templates/runtime/network/mbx_kernels.h and of the headers beside it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

import numpy as np

from mbx_deploy.compiler.cascade import Stripe, stripe_view
from mbx_deploy.network.program import Call, Program

C = TypeVar("C", bound=Call)


class Layout(Enum):
    """How a struct stands inside another one: a field a line, in a column behind the brace, or in one row."""

    LINES = "lines"
    COLUMN = "column"
    ROW = "row"


@dataclass(frozen=True)
class Array:
    """A constant array that a field points to.

    type: of C. values: of that type. comment: what is in it; of a call's first array what stands behind the call's
    name, the shape (before packing) and the kernel. aligned: to words, which its kernel loads.
    """

    type: str
    values: np.ndarray
    comment: str = ""
    shape: tuple[int, ...] = ()
    aligned: bool = False


@dataclass(frozen=True)
class Struct:
    """What a C struct holds. type: its name. fields: name -> value; what is not there is 0."""

    type: str
    fields: "dict[str, Field]"
    layout: Layout = Layout.LINES


Field = int | tuple[int, ...] | Array | Struct


def _takes_every(program: Program, call: Call) -> bool:
    return True


def _no_scratch(program: Program, call: Call) -> int:
    return 0


def _in_order(call: Call) -> bool:
    return False


@dataclass(frozen=True)
class Kernel(Generic[C]):
    """A C function that runs a kind of call.

    name: the function. runs: the kind of call. struct: what the function takes of a call, its constants packed. takes:
    whether a call meets its conditions. scratch_bytes: working memory in the arena beside the input and the output.
    swaps_inputs: whether it wants the second input first. module: the C file that has it, where only networks that need
    it get that. in_stripes: the kernel that runs a stripe, if it is another one; stripe_struct: what that takes, if it
    is not what it takes of the stripe as a whole call.
    """

    name: str
    runs: type[C]
    struct: Callable[[Program, C], Struct]
    takes: Callable[[Program, C], bool] = _takes_every
    scratch_bytes: Callable[[Program, C], int] = _no_scratch
    swaps_inputs: Callable[[C], bool] = _in_order
    module: str | None = None
    in_stripes: "Kernel[C] | None" = None
    stripe_struct: Callable[[Program, C, Stripe], Struct] | None = None

    def may_run(self, program: Program, call: Call) -> bool:
        """Whether the kernel can run a call."""
        return isinstance(call, self.runs) and self.takes(program, call)

    def struct_of_stripe(self, program: Program, call: C, stripe: Stripe) -> Struct:
        """Return what the function takes of a stripe of a call."""
        if self.stripe_struct:
            return self.stripe_struct(program, call, stripe)
        view, part = stripe_view(program, stripe)
        assert isinstance(part, self.runs)
        return self.struct(view, part)


@dataclass(frozen=True)
class Chosen:
    """A kernel for one call. scratch_bytes: its working memory, in stripes for the largest one."""

    kernel: Kernel[Any]
    scratch_bytes: int

    @property
    def name(self) -> str:
        """The C function."""
        return self.kernel.name


def array(
    kind: str, values: np.ndarray, comment: str = "", shape: tuple[int, ...] = (), aligned: bool = False
) -> Array:
    """Return an array of a C type, of integers that fit it."""
    packed = np.ascontiguousarray(values).astype(kind.removesuffix("_t"))
    assert np.array_equal(packed.astype(np.int64), values), f"a constant does not fit {kind}"
    return Array(kind, packed, comment, shape, aligned)


def arrays_of(struct: Struct) -> Iterator[tuple[str, Array]]:
    """Yield (field, array) of all arrays that a struct points to, those of structs inside it as well."""
    for name, value in struct.fields.items():
        if isinstance(value, Array):
            yield name, value
        elif isinstance(value, Struct):
            yield from arrays_of(value)
