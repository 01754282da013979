"""A few calls of a program as a program of their own: what is asked of them then takes as long as they are, not as the
program is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mbx_deploy.compiler.cascade import Cascade, Shift, make_cascade
from mbx_deploy.compiler.kernels.kernel import Chosen
from mbx_deploy.compiler.memory_plan import LiveRange, alive_bytes
from mbx_deploy.network.program import Program, call_inputs, redirected


@dataclass(frozen=True)
class Window:
    """The calls from first on. program: they, with the buffers that are alive meanwhile, in the order of all buffers.

    ranges: of these, counted from first on. kernels: of the calls. buffers: the window's -> the whole program's.
    """

    first: int
    program: Program
    ranges: tuple[LiveRange, ...]
    kernels: tuple[Chosen, ...]
    buffers: tuple[int, ...]

    def cascade(self, last: int, stripe: int) -> tuple[int, Cascade] | None:
        """Return (the bytes that are alive at its worst call, the cascade of the calls up to the window's last one as
        one of the whole program), or None where there is none.
        """
        found = make_cascade(self.program, 0, last, stripe, [live.last for live in self.ranges])
        if found is None:
            return None
        calls = range(last + 1)
        return max(alive_bytes(self.program, self.kernels, (found,), calls, self.ranges)), self._whole(found)

    def _whole(self, cascade: Cascade) -> Cascade:
        steps = tuple(
            replace(step, buffer=self.buffers[step.buffer])
            if isinstance(step, Shift)
            else replace(step, call=step.call + self.first)
            for step in cascade.steps
        )
        windows = {self.buffers[buffer]: rows for buffer, rows in cascade.windows.items()}
        carried = frozenset(self.buffers[buffer] for buffer in cascade.carried)
        return Cascade(self.first + cascade.first, self.first + cascade.last, steps, windows, carried)


def windows(
    program: Program, ranges: tuple[LiveRange, ...], kernels: tuple[Chosen, ...], lengths: list[int]
) -> Iterator[Window]:
    """Yield the windows of some lengths, one that begins at each call; those of less than two calls are left out."""
    begins: dict[int, list[int]] = {}
    for live in ranges:
        begins.setdefault(live.first, []).append(live.buffer)
    alive = set(begins.get(-1, ()))
    for first, length in enumerate(lengths):
        alive = {buffer for buffer in alive if ranges[buffer].last >= first}
        if length >= 2:
            yield _window(program, ranges, kernels, alive, range(first, first + length))
        alive.update(begins.get(first, ()))


def _window(
    program: Program, ranges: tuple[LiveRange, ...], kernels: tuple[Chosen, ...], alive: set[int], calls: range
) -> Window:
    """alive: what is alive before the first call."""
    inside = program.calls[calls.start : calls.stop]
    used = {buffer for call in inside for buffer in (*call_inputs(call), call.output)}
    buffers = sorted(alive | used)
    numbers = {buffer: number for number, buffer in enumerate(buffers)}
    local = replace(
        program,
        buffers=tuple(program.buffers[buffer] for buffer in buffers),
        calls=tuple(redirected(call, numbers, numbers[call.output]) for call in inside),
        input=0,
        output=0,
    )
    moved = tuple(
        replace(
            ranges[buffer],
            buffer=number,
            first=ranges[buffer].first - calls.start,
            last=ranges[buffer].last - calls.start,
        )
        for number, buffer in enumerate(buffers)
    )
    return Window(calls.start, local, moved, kernels[calls.start : calls.stop], tuple(buffers))
