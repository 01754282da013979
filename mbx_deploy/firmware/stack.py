"""What a compiled firmware takes: sizes of its sections, and a bound of its stack from gcc's call graphs."""

import fnmatch
import re
from collections.abc import Iterable

# Of a function that bears no stack usage: ample for memcpy, memset, memmove and libgcc's division, and what the kernels
# in assembly need at most (a test reads that from them).
LIBRARY_CALL_STACK_BYTES = 136
# What the core pushes, with the floating-point registers, and aligns: DDI 0403E B1.5.7.
INTERRUPT_FRAME_BYTES = 112


def elf_sizes(section_table: str) -> dict[str, int]:
    """Return bytes of flash, ram and code from what `size -A` prints."""
    sizes = {}
    for line in section_table.splitlines():
        match = re.match(r"^(\.\S+)\s+(\d+)\s", line)
        if match:
            sizes[match[1]] = int(match[2])
    copied = sizes.get(".code", 0)  # of a firmware that runs from RAM, as .constants is
    code = sizes.get(".text", 0) + sizes.get(".vectors", 0) + sizes.get(".boot2", 0) + copied
    data = sizes.get(".data", 0) + sizes.get(".constants", 0)
    return {
        "flash_bytes": code + sizes.get(".rodata", 0) + sizes.get(".ARM.exidx", 0) + data,
        "ram_bytes": data + copied + sizes.get(".bss", 0),
        "code_bytes": code,
    }


def stack_bound(
    call_graphs: Iterable[str], indirect: Iterable[str], root: str = "main", interrupts: str | None = None
) -> int:
    """Return the most stack in bytes that a program can use below root, from gcc's call graphs (-fcallgraph-info=su).

    call_graphs: texts of the .ci files. indirect: patterns of the names of functions that are called through pointers.
    Functions without a graph (libc, libgcc) count LIBRARY_CALL_STACK_BYTES each. interrupts: what the names of handlers
    begin with, which may nest all, once each, on top of root.
    Raises AssertionError for recursion, a frame without a bound, or graphs without the root.
    """
    frames: dict[str, int] = {}
    edges: dict[str, set[str]] = {}
    targets = [*indirect]
    for text in call_graphs:
        for title, label in re.findall(r'^node: { title: "([^"]+)" label: "([^"]+)"', text, re.MULTILINE):
            size = re.search(r"(\d+) bytes \((\w+(?:,\w+)*)\)", label)
            if size:
                if size[2] not in ("static", "dynamic,bounded"):  # a frame that is aligned anew is bounded
                    raise AssertionError(f"the stack frame of {title} is not bounded: {size[2]}")
                frames[title] = int(size[1])
        for source, target in re.findall(r'^edge: { sourcename: "([^"]+)" targetname: "([^"]+)"', text, re.MULTILINE):
            edges.setdefault(source, set()).add(target)
    pointed = {t for t in frames if any(fnmatch.fnmatchcase(t.rsplit(":", 1)[-1], name) for name in targets)}

    def depth(node: str, path: frozenset[str]) -> int:
        if node == "__indirect_call":
            # A model's invoke calls observers, observers call neither: each stands at most once on a path.
            return max((depth(target, path) for target in sorted(pointed - path)), default=0)
        if node in path:
            raise AssertionError(f"{node} is recursive")
        below = path | {node}
        deepest = max((depth(target, below) for target in sorted(edges.get(node, ()))), default=0)
        return frames.get(node, LIBRARY_CALL_STACK_BYTES) + deepest

    if root not in frames:
        raise AssertionError(f"the call graphs know no {root}")
    handlers = [title for title in sorted(frames) if interrupts and title.startswith(interrupts)]
    above = sum(INTERRUPT_FRAME_BYTES + depth(handler, frozenset()) for handler in handlers)
    return depth(root, frozenset()) + above
