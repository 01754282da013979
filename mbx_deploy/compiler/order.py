"""The order of a program's calls: the one that needs least memory at its worst call."""

from dataclasses import replace

from mbx_deploy.network.program import Program, call_inputs, may_overwrite

MAX_ORDER_STATES = 2000


def order_calls(program: Program) -> Program:
    """Return the program with its calls in the order that needs least memory at its worst call.

    A residual branch then runs before the main one, which may overwrite their common input. Exact: a search over the
    sets of finished calls, of which a network of a few branches has few. Where nothing is gained, or in a graph
    with more than MAX_ORDER_STATES sets, the file's order stays.
    """
    users: dict[int, set[int]] = {program.output: {len(program.calls)}}
    for number, call in enumerate(program.calls):
        for buffer in call_inputs(call):
            users.setdefault(buffer, set()).add(number)
    writer = {call.output: number for number, call in enumerate(program.calls)}
    best: dict[frozenset[int], tuple[int, tuple[int, ...]]] = {frozenset(): (0, ())}
    for _ in program.calls:
        longer: dict[frozenset[int], tuple[int, tuple[int, ...]]] = {}
        for done, (peak, order) in best.items():
            for number in range(len(program.calls)):
                call = program.calls[number]
                needed = {writer[buffer] for buffer in call_inputs(call) if buffer in writer}
                if number in done or not needed <= done:
                    continue
                candidate = (max(peak, _live_bytes(program, done, number, users)), (*order, number))
                state = done | {number}
                if state not in longer or candidate < longer[state]:
                    longer[state] = candidate
        if len(longer) > MAX_ORDER_STATES:
            return program
        best = longer
    peak, order = best[frozenset(range(len(program.calls)))]
    own = (_live_bytes(program, frozenset(range(n)), n, users) for n in range(len(program.calls)))
    if max(own, default=0) == peak:
        return program
    return replace(program, calls=tuple(program.calls[number] for number in order))


def _live_bytes(program: Program, done: frozenset[int], number: int, users: dict[int, set[int]]) -> int:
    """Return the bytes that are alive while a call runs after the calls that are done."""
    call = program.calls[number]
    written = {program.input} | {program.calls[i].output for i in done}
    alive = {buffer for buffer in written if users.get(buffer, set()) - done}
    total = sum(program.buffers[buffer].size_bytes for buffer in alive)
    after = done | {number}
    dying = [buffer for buffer in call_inputs(call) if not users[buffer] - after]
    output = program.buffers[call.output].size_bytes
    hosts = [program.buffers[buffer].size_bytes for buffer in dying if may_overwrite(program, call, buffer)]
    return total + output - min(output, max(hosts, default=0))
