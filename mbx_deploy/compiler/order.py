"""The order of a program's calls: the one that needs least memory at its worst call."""

from dataclasses import dataclass, replace

from mbx_deploy.network.program import Program, call_inputs, may_overwrite

MAX_ORDER_STATES = 2000


@dataclass(frozen=True)
class _State:
    """Some calls are done. peak: bytes at the worst of them. order: as they ran. ready: calls whose inputs are there.

    alive: bytes of what is still needed.
    """

    peak: int
    order: tuple[int, ...]
    ready: tuple[int, ...]
    alive: int


class _Graph:
    """Who writes and who reads each buffer of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.users: dict[int, set[int]] = {program.output: {len(program.calls)}}
        self.inputs = [tuple(dict.fromkeys(call_inputs(call))) for call in program.calls]
        for number, buffers in enumerate(self.inputs):
            for buffer in buffers:
                self.users.setdefault(buffer, set()).add(number)
        for variable in program.variables:  # what is remembered is needed to the end, and so is what comes next
            for buffer in (variable.read, variable.assigned):
                self.users.setdefault(buffer, set()).add(len(program.calls))
        writer = {call.output: number for number, call in enumerate(program.calls)}
        self.needed = [{writer[b] for b in buffers if b in writer} for buffers in self.inputs]
        self.follow: list[list[int]] = [[] for _ in program.calls]
        for number, needed in enumerate(self.needed):
            for before in needed:
                self.follow[before].append(number)

    def start(self) -> _State:
        """Return the state before the first call."""
        ready = tuple(number for number, needed in enumerate(self.needed) if not needed)
        used = self.program.input in self.users
        return _State(0, (), ready, self._size(self.program.input) if used else 0)

    def _size(self, buffer: int) -> int:
        return self.program.buffers[buffer].size_bytes

    def run(self, state: _State, done: frozenset[int], number: int) -> _State:
        """Return the state behind one more call. done: the calls before it."""
        program, call = self.program, self.program.calls[number]
        dying = [b for b in self.inputs[number] if all(user == number or user in done for user in self.users[b])]
        output = self._size(call.output)
        hosts = [self._size(buffer) for buffer in dying if may_overwrite(program, call, buffer)]
        peak = state.alive + output - min(output, max(hosts, default=0))
        alive = state.alive - sum(map(self._size, dying)) + (output if self.users.get(call.output) else 0)
        after = done | {number}
        ready = [n for n in state.ready if n != number]
        ready += [n for n in self.follow[number] if self.needed[n] <= after]
        return _State(max(state.peak, peak), (*state.order, number), tuple(ready), alive)


def order_calls(program: Program) -> Program:
    """Return the program with its calls in the order that needs least memory at its worst call.

    A residual branch then runs before the main one, which may overwrite their common input. Exact: a search over the
    sets of finished calls, of which a network of a few branches has few. Where nothing is gained, or in a graph
    with more than MAX_ORDER_STATES sets, the file's order stays.
    """
    graph = _Graph(program)
    best: dict[frozenset[int], _State] = {frozenset(): graph.start()}
    for _ in program.calls:
        longer: dict[frozenset[int], _State] = {}
        for done, state in best.items():
            for number in state.ready:
                found, after = graph.run(state, done, number), done | {number}
                if after not in longer or (found.peak, found.order) < (longer[after].peak, longer[after].order):
                    longer[after] = found
            if len(longer) > MAX_ORDER_STATES:
                return program
        best = longer
    (chosen,) = best.values()
    own, done = graph.start(), frozenset[int]()
    for number in range(len(program.calls)):
        own, done = graph.run(own, done, number), done | {number}
    if own.peak == chosen.peak:
        return program
    return replace(program, calls=tuple(program.calls[number] for number in chosen.order))
