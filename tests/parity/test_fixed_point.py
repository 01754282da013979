"""Fixed point: numpy and C against integers of any size, over the whole range and at its edges."""

import ctypes
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.sim import fixed_point
from mbx_deploy.system.resources import runtime_file
from mbx_deploy.system.tools import compile_shared_library

MIN, MAX = -(1 << 31), (1 << 31) - 1
EDGES = sorted(
    {MIN, MAX, 0}
    | {sign * (1 << bit) + step for bit in range(31) for sign in (-1, 1) for step in (-1, 0, 1)}
    | {sign * 3 * (1 << bit) for bit in range(29) for sign in (-1, 1)}
)
int32s = st.sampled_from(EDGES) | st.integers(MIN, MAX)
C_SOURCE = Path(__file__).parent / "c" / "fixed_point_arrays.c"


@pytest.fixture(scope="module", params=(1, 0), ids=("long multiply", "halves"))
def c(request: pytest.FixtureRequest) -> ctypes.CDLL:
    """The C functions over arrays, with the products of a core that has a long multiply, and of one that has none."""
    header = runtime_file("mbx_fixed_point.h")
    sources = {path.name: path.read_text() for path in (header, C_SOURCE)}
    flags = ("-O3", f"-DMBX_HAS_LONG_MULTIPLY={request.param}")
    return ctypes.CDLL(str(compile_shared_library(sources, flags)))


def call_c(c: ctypes.CDLL, name: str, *arguments: np.ndarray, kind: type = np.int32) -> np.ndarray:
    """Return what the C function gives for arrays; the first and the result are of the kind, the rest int32."""
    arrays: list[np.ndarray] = [np.ascontiguousarray(arguments[0], kind)]
    arrays += [np.ascontiguousarray(values, np.int32) for values in arguments[1:]]
    out: np.ndarray = np.full(len(arrays[0]) + 1, 77, kind)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, out)]
    getattr(c, f"test_{name}")(*pointers, ctypes.c_int32(len(arrays[0])))
    assert out[-1] == 77
    return out[:-1]


def nearest_ties_up(value: Fraction) -> int:
    return (value + Fraction(1, 2)).__floor__()


def nearest_ties_away(value: Fraction) -> int:
    magnitude = (abs(value) + Fraction(1, 2)).__floor__()
    return magnitude if value >= 0 else -magnitude


def doubling_exact(a: int, b: int) -> int:
    """The nudge of gemmlowp, 2^30 or 1 - 2^30, before a division that truncates: ties go up, whatever their sign."""
    return min(MAX, nearest_ties_up(Fraction(a * b, 1 << 31)))


def check(c: ctypes.CDLL, name: str, rows: Sequence[tuple[int, ...]], exact: list[int], kind: type = np.int32) -> None:
    """Compare numpy and C with the exact results of rows of arguments."""
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    twin = np.asarray(getattr(fixed_point, name)(*columns))
    differing = [(row, got, want) for row, got, want in zip(rows, twin.tolist(), exact, strict=True) if got != want]
    assert not differing, f"numpy: {differing[:3]}"
    in_c = call_c(c, name, *columns, kind=kind).tolist()
    differing = [(row, got, want) for row, got, want in zip(rows, in_c, exact, strict=True) if got != want]
    assert not differing, f"C: {differing[:3]}"


def all_edges() -> list[tuple[int, int]]:
    return [(a, b) for a in EDGES for b in EDGES]


pairs = st.lists(st.tuples(int32s, int32s), min_size=1, max_size=50)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_multiply_high(c: ctypes.CDLL, rows: list[tuple[int, int]]) -> None:
    check(c, "multiply_high", rows, [nearest_ties_up(Fraction(a * b, 1 << 32)) for a, b in rows])


@pytest.mark.slow
def test_multiply_high_at_the_edges(c: ctypes.CDLL) -> None:
    rows = all_edges()
    exact = [(a * b + (1 << 31)) >> 32 for a, b in rows]
    check(c, "multiply_high", rows, exact)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_doubling_high_multiply(c: ctypes.CDLL, rows: list[tuple[int, int]]) -> None:
    check(c, "doubling_high_multiply", rows, [doubling_exact(a, b) for a, b in rows])


def test_doubling_high_multiply_at_the_edges(c: ctypes.CDLL) -> None:
    rows = all_edges()
    check(c, "doubling_high_multiply", rows, [doubling_exact(a, b) for a, b in rows])
    assert doubling_exact(MIN, MIN) == MAX


@pytest.mark.parametrize("a", [1, 3, 5, 101, -1, -3, -5, -101])
def test_ties_of_the_doubling_multiply(c: ctypes.CDLL, a: int) -> None:
    """With b = 2^30 an odd a is a tie: of a positive product it goes away from zero, of a negative one towards it."""
    expected = (a + 1) >> 1
    check(c, "doubling_high_multiply", [(a, 1 << 30), (1 << 30, a)], [expected] * 2)
    assert abs(expected) == ((a + 1) // 2 if a > 0 else -a // 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(int32s, st.integers(0, 31)), min_size=1, max_size=50))
def test_divide_by_power_of_two(c: ctypes.CDLL, rows: list[tuple[int, int]]) -> None:
    exact = [nearest_ties_away(Fraction(a, 1 << exponent)) for a, exponent in rows]
    check(c, "divide_by_power_of_two", rows, exact)


def test_divide_by_power_of_two_at_the_edges(c: ctypes.CDLL) -> None:
    rows = [(a, exponent) for a in EDGES for exponent in range(32)]
    exact = [nearest_ties_away(Fraction(a, 1 << exponent)) for a, exponent in rows]
    check(c, "divide_by_power_of_two", rows, exact)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 62))
def test_shift_right_rounded(c: ctypes.CDLL, data: st.DataObject, shift: int) -> None:
    limit = (1 << 63) - (1 << (shift - 1)) - 1
    edges = st.sampled_from((limit, -limit, 0, 1, -1, 1 << (shift - 1), -(1 << (shift - 1)), 1 - (1 << (shift - 1))))
    values = data.draw(st.lists(edges | st.integers(-limit, limit), min_size=1, max_size=30))
    exact = [nearest_ties_up(Fraction(a, 1 << shift)) for a in values]
    assert fixed_point.shift_right_rounded(np.array(values), shift).tolist() == exact
    shifts = np.full(len(values), shift)
    assert call_c(c, "shift_right_rounded", np.array(values), shifts, kind=np.int64).tolist() == exact


multipliers = st.sampled_from((0, 1 << 30, (1 << 30) + 1, MAX, MAX - 1)) | st.integers(1 << 30, MAX)


@st.composite
def scalings(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw an accumulator, a multiplier and a shift that keep the precondition, at its limit now and then."""
    shift = draw(st.integers(-31, 30))
    limit = MAX >> max(shift, 0)
    a = draw(
        st.sampled_from((limit, -limit)) | st.integers(-limit, limit) | st.integers(-min(limit, 999), min(limit, 999))
    )
    return a, draw(multipliers), shift


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(scalings(), min_size=1, max_size=50))
def test_multiply_by_quantized_multiplier(c: ctypes.CDLL, rows: list[tuple[int, int, int]]) -> None:
    exact = []
    for a, multiplier, shift in rows:
        high = doubling_exact(a << max(shift, 0), multiplier)
        exact.append(nearest_ties_away(Fraction(high, 1 << max(-shift, 0))))
    check(c, "multiply_by_quantized_multiplier", rows, exact)


def test_two_roundings_are_not_one(c: ctypes.CDLL) -> None:
    """A value that a single rounding would take elsewhere: TFLite's reference rounds twice, and so do we."""
    a, multiplier, shift = 1, MAX, -1
    assert nearest_ties_away(Fraction(a * multiplier, 1 << 32)) == 0
    check(c, "multiply_by_quantized_multiplier", [(a, multiplier, shift)], [1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(int32s, int32s, int32s), min_size=1, max_size=30))
def test_clamp(c: ctypes.CDLL, rows: list[tuple[int, int, int]]) -> None:
    ordered = [(a, min(low, high), max(low, high)) for a, low, high in rows]
    columns = [np.array(column) for column in zip(*ordered, strict=True)]
    exact = [min(max(a, low), high) for a, low, high in ordered]
    assert call_c(c, "clamp", *columns).tolist() == exact
    assert [int(fixed_point.clamp(np.array(a), low, high)) for a, low, high in ordered] == exact
