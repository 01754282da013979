"""A window of a program gives the cascades that the whole program gives."""

from mbx_deploy.compiler.cascade import STRIPES, make_cascade
from mbx_deploy.compiler.memory_plan import alive_bytes, live_ranges, whole_kernels
from mbx_deploy.compiler.model import load_model
from mbx_deploy.compiler.window import windows
from mbx_deploy.system.resources import resolve_model


def test_a_window_gives_the_cascades_of_the_whole() -> None:
    program = load_model(resolve_model("kws10")).program
    ranges, kernels = live_ranges(program), whole_kernels(program, "dsp")
    count = len(program.calls)
    lengths = [min(10, count - first) for first in range(count)]
    found = 0
    for window in windows(program, ranges, kernels, lengths):
        for last in range(1, len(window.program.calls)):
            calls = range(window.first, window.first + last + 1)
            for stripe in STRIPES:
                cascade = make_cascade(program, calls.start, calls.stop - 1, stripe)
                made = window.cascade(last, stripe)
                assert (cascade is None) == (made is None)
                if cascade is not None and made is not None:
                    found += 1
                    assert made == (max(alive_bytes(program, kernels, (cascade,), calls, ranges)), cascade)
    assert found > 50
