"""What a build needs: the sums, the limits to the byte, and the stack bound from call graphs."""

import re
from dataclasses import replace

import pytest

from mbx_deploy.codegen.constants import constant_arrays, frontend_arrays
from mbx_deploy.codegen.target import Target, find_target
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.memory import CODE_BYTES_ESTIMATE, check_fit, memory_needs, memory_report, render_report
from mbx_deploy.firmware.stack import LIBRARY_CALL_STACK_BYTES, elf_sizes, stack_bound
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.program import Convolution, Pointwise
from mbx_deploy.system.resources import firmware_templates_folder
from tests.made.tflite import small_artifact

COMPILED = {"flash_bytes": 50_000, "ram_bytes": 40_000, "code_bytes": 9_000, "stack_bound_bytes": 1_500}


def with_memory(**bytes_of: int) -> Target:
    target = find_target("cortex-m4")
    assert target.memory is not None
    return replace(target, name="board", memory=replace(target.memory, **bytes_of))


def for_m4(model: CompiledModel) -> CompiledModel:
    return model.for_kernels(find_target("cortex-m4").kernels)


def test_needs_are_the_sizes_of_what_is_generated(shipped: CompiledModel) -> None:
    plan, needs = for_m4(shipped).plan, memory_needs(for_m4(shipped))
    assert needs.arena % 8 == 0 and needs.arena >= plan.arena_bytes
    assert needs.ring == 101 * 64
    assert needs.history == 2 * 403
    assert needs.instance % 8 == 0 and needs.instance > needs.arena + needs.ring + needs.history
    arrays = constant_arrays(shipped, plan, "kws")
    assert needs.weights == sum(array.values.nbytes for array in arrays)
    parameters = sum(call.weights.size for call in shipped.program.calls if isinstance(call, Pointwise | Convolution))
    assert parameters < needs.weights < 2 * parameters
    assert needs.tables == 512 + sum(array.values.nbytes for array in frontend_arrays(shipped))


def test_a_front_end_that_needs_more_than_the_network_gives_the_arena_its_size() -> None:
    config = FrontendConfig(clip_samples=2000, n_fft=2048, window_length=512, hop_length=512, n_mels=8, n_mfcc=0)
    small = parse_model(small_artifact(config), "small")
    plan = for_m4(small).plan
    assert memory_needs(for_m4(small)).arena == 8 * (1025 + 8) > plan.arena_bytes


def test_the_host_is_never_too_small(shipped: CompiledModel) -> None:
    check_fit(shipped, find_target("host"))


def test_ram_fits_to_the_byte(shipped: CompiledModel) -> None:
    need = memory_needs(for_m4(shipped)).instance + 4096
    check_fit(shipped, with_memory(ram_bytes=need))
    with pytest.raises(InputError, match=f"need {need:,} bytes .*have {need - 1:,}$"):
        check_fit(shipped, with_memory(ram_bytes=need - 1))


def test_too_little_ram_is_told_with_its_parts_and_the_peak(shipped: CompiledModel) -> None:
    plan, needs = for_m4(shipped).plan, memory_needs(for_m4(shipped))
    with pytest.raises(InputError) as caught:
        check_fit(shipped, with_memory(ram_bytes=4096, stack_bytes=2048))
    rest = needs.instance - needs.arena
    assert caught.value.what == (
        f"the model does not fit the RAM of board: need {needs.arena + rest + 2048:,} bytes (arena {needs.arena:,} + "
        f"features and audio {rest:,} + stack 2,048), have 4,096"
    )
    assert caught.value.exit_code == 2
    assert caught.value.hint is not None
    assert f"{shipped.program.calls[plan.peak_call].name}, {plan.lower_bound_bytes:,} bytes" in caught.value.hint


def test_flash_fits_to_the_byte(shipped: CompiledModel) -> None:
    needs = memory_needs(for_m4(shipped))
    need = needs.weights + needs.tables + CODE_BYTES_ESTIMATE
    check_fit(shipped, with_memory(flash_bytes=need))
    with pytest.raises(InputError, match=f"the flash of board: need {need:,} bytes .*have {need - 1:,}$"):
        check_fit(shipped, with_memory(flash_bytes=need - 1))


def test_the_report_lists_what_fills_the_arena_and_never_overlaps(shipped: CompiledModel) -> None:
    report, plan = memory_report(shipped, find_target("cortex-m4"), COMPILED), for_m4(shipped).plan
    buffers = report["arena"]["buffers"]
    working = sum(kernel.scratch_bytes > 0 for kernel in plan.kernels)
    assert working > 5 and len(buffers) == len(shipped.program.buffers) + working
    assert max(buffer["offset"] + buffer["bytes"] for buffer in buffers) == plan.arena_bytes
    ends = {(number, number) for number in range(len(plan.kernels))} | {(c.first, c.last) for c in plan.cascades}
    assert report["arena"]["cascades"] == [[report["calls"][n] for n in (c.first, c.last)] for c in plan.cascades]
    taken: list[set[int]] = [set() for _ in report["calls"]]
    for i, one in enumerate(buffers):
        for call in range(max(0, one["first_call"]), min(len(taken) - 1, one["last_call"]) + 1):
            taken[call] |= set(range(one["offset"] // 8, -(-(one["offset"] + one["bytes"]) // 8)))
        for other in buffers[:i]:
            meet = one["first_call"] <= other["last_call"] and other["first_call"] <= one["last_call"]
            apart = one["offset"] + one["bytes"] <= other["offset"] or other["offset"] + other["bytes"] <= one["offset"]
            # An output may lie over an input that nothing reads after that call or cascade, and not behind its start.
            first, second = sorted((one, other), key=lambda b: int(b["first_call"]))
            replaces = second["offset"] <= first["offset"] and (second["first_call"], first["last_call"]) in ends
            assert apart or not meet or (replaces and "working" not in first["name"] + second["name"]), (one, other)
    peak = report["arena"]["peak"]
    alive = [8 * len(words) for words in taken]
    assert peak["bytes"] == max(alive)
    assert peak["call"] == report["calls"][alive.index(max(alive))]


def test_assembly_needs_no_more_stack_than_is_counted_for_it() -> None:
    needed = {}
    for path in (firmware_templates_folder() / "runtime").rglob("*.S"):
        macros, *functions = re.split(r"^\s+\.thumb_func", path.read_text(), flags=re.M)
        for number, text in enumerate(macros + function for function in functions):
            pushed = sum(
                {"r": 4, "d": 8}[kind] * (int(b or a) - int(a) + 1)
                for registers in re.findall(r"^\s+v?push\s+{(.*)}", text, re.M)
                for kind, a, b in re.findall(r"([rd])(\d+)(?:-[rd](\d+))?", registers)
            )
            needed[path.name, number] = pushed + sum(map(int, re.findall(r"^\s+sub\s+sp, sp, #(\d+)", text, re.M)))
    assert len(needed) >= 4 and min(needed.values()) == 36
    assert max(needed.values()) == LIBRARY_CALL_STACK_BYTES


def test_the_text_holds_the_numbers_of_the_report(shipped: CompiledModel) -> None:
    report = memory_report(shipped, find_target("cortex-m4"), COMPILED)
    text = render_report(report)
    numbers = [*report["ram"].values(), *report["flash"].values(), *COMPILED.values()]
    assert all(f"{number:,}" in text for number in numbers)
    rows = text.split("activation\n")[1].splitlines()
    assert len(rows) == len(report["arena"]["buffers"])
    without = render_report(memory_report(shipped, find_target("cortex-m4"), None))
    assert "Not compiled here" in without and "stack, static bound" not in without


def test_sizes_of_an_elf_are_its_allocated_sections() -> None:
    table = """firmware.elf  :
section              size        addr
.vectors               64           0
.text               10332          64
.rodata            100132       10396
.ARM.exidx              8      110528
.data                  12   536870912
.bss                39932   536870924
.ARM.attributes        46           0
.debug_info          9999           0
.comment               57           0
Total              170582
"""
    assert elf_sizes(table) == {
        "flash_bytes": 64 + 10332 + 100132 + 8 + 12,
        "ram_bytes": 12 + 39932,
        "code_bytes": 64 + 10332,
    }


def graph(frames: dict[str, str], edges: list[tuple[str, str]]) -> str:
    lines = ['graph: { title: "a.c"']
    lines += [f'node: {{ title: "{name}" label: "{name}\\na.c:1:1\\n{usage}" }}' for name, usage in frames.items()]
    lines += [f'edge: {{ sourcename: "{a}" targetname: "{b}" label: "a.c:2:2" }}' for a, b in edges]
    return "\n".join([*lines, "}"])


def static(count: int) -> str:
    return f"{count} bytes (static)"


def test_the_stack_bound_is_that_of_the_deepest_chain() -> None:
    first = graph({"main": static(16), "a": static(100)}, [("main", "a"), ("main", "b"), ("a", "c")])
    second = graph({"b": static(200), "c": static(40), "unused": static(9999)}, [("b", "c")])
    assert stack_bound([first, second], []) == 16 + 200 + 40


def test_a_library_function_counts_what_is_reserved_for_it() -> None:
    assert stack_bound([graph({"main": static(8)}, [("main", "memcpy")])], []) == 8 + LIBRARY_CALL_STACK_BYTES


def test_calls_through_pointers_count_the_deepest_target() -> None:
    text = graph(
        {"main": static(8), "run": static(16), "a.c:invoke": static(300), "a.c:observe": static(50)},
        [("main", "run"), ("run", "__indirect_call"), ("a.c:invoke", "__indirect_call")],
    )
    assert stack_bound([text], ["invoke", "observe"]) == 8 + 16 + 300 + 50


def test_the_bound_is_of_its_root_which_must_be_there() -> None:
    text = graph({"reset": static(8), "main": static(100)}, [("reset", "main")])
    assert stack_bound([text], [], "reset") == 108 and stack_bound([text], []) == 100
    with pytest.raises(AssertionError, match="know no mbx_reset"):
        stack_bound([text], [], "mbx_reset")


def test_recursion_has_no_bound() -> None:
    text = graph({"main": static(8), "a": static(8)}, [("main", "a"), ("a", "main")])
    with pytest.raises(AssertionError, match="main is recursive"):
        stack_bound([text], [])


def test_a_frame_that_grows_has_no_bound() -> None:
    with pytest.raises(AssertionError, match="is not bounded"):
        stack_bound([graph({"main": "8 bytes (dynamic)"}, [])], [])
    assert stack_bound([graph({"main": "8 bytes (dynamic,bounded)"}, [])], []) == 8
