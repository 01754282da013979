"""Parts of a board's application that need no board: when a word counts, and the ring behind the serial port."""

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.tools import compile_shared_library, find_tool

pytestmark = pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")
YES, NO, SILENCE = 0, 1, 2
SURE, UNSURE = 19661, 19660
QUARTER, LATE = 4000, 8000  # samples


class Result(ctypes.Structure):
    """mbx_result."""

    _fields_ = (
        ("logits", ctypes.c_void_p),
        ("posteriors_q15", ctypes.c_void_p),
        ("label", ctypes.c_uint16),
        ("score_q15", ctypes.c_uint16),
    )


IS_WORD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint16)
RING_C = """
#include "mbx_byte_ring.h"
static uint8_t bytes[8];
static mbx_byte_ring ring;
void start(uint32_t count);
int put(int byte);
int get(void);
void start(uint32_t count) { ring = (mbx_byte_ring){bytes, sizeof bytes, count, count}; }
int put(int byte) { return mbx_byte_ring_put(&ring, (uint8_t)byte); }
int get(void) { return mbx_byte_ring_get(&ring); }
"""


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    root = firmware_templates_folder()
    sources = {f"parts/application/mbx_detector.{suffix}": "" for suffix in "ch"}
    sources = {name: (root / name).read_text() for name in sources}
    sources |= {path.name: path.read_text() for path in (root / "runtime").rglob("*.h")}
    sources |= {"mbx_byte_ring.h": (root / "chips/cortexm/mbx_byte_ring.h").read_text(), "ring.c": RING_C}
    return ctypes.CDLL(str(compile_shared_library(sources)))


class Detector:
    """An mbx_detector for yes, no and silence."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library, self.state = library, ctypes.create_string_buffer(128)
        self.is_word = IS_WORD(lambda label: int(label != SILENCE))
        library.mbx_detector_init(self.state, self.is_word)

    def said(self, *windows: tuple[int, int] | tuple[int, int, int]) -> list[int]:
        """Return the numbers of the windows (label, score, samples since the one before) at which a word counted."""
        return list(self._said(windows))

    def _said(self, windows: tuple[tuple[int, ...], ...]) -> Iterator[int]:
        for number, (label, score, *samples) in enumerate(windows):
            result = Result(label=label, score_q15=score)
            if self.library.mbx_detector_decide(self.state, ctypes.byref(result), *(samples or [QUARTER])):
                yield number


@pytest.mark.parametrize(("windows", "said"), [
    ([(YES, SURE)], []),
    ([(YES, SURE), (YES, SURE)], [1]),
    ([(YES, SURE), (YES, UNSURE), (YES, SURE)], []),
    ([(YES, SURE), (NO, SURE), (YES, SURE)], []),
    ([(SILENCE, 32768)] * 4, []),
    ([(YES, 32768)] * 20, [1]),  # however long it lasts
    ([(YES, SURE)] * 2 + [(SILENCE, SURE)] + [(YES, SURE)] * 2, [1]),  # within a second of the first
    ([(YES, SURE)] * 2 + [(SILENCE, SURE)] * 3 + [(YES, SURE)] * 2, [1, 6]),
    ([(YES, SURE)] * 2 + [(NO, SURE)] * 4, [1, 5]),  # the next word, when the second is over
    ([(YES, SURE, LATE)], []),  # the first window of all is not late
    ([(SILENCE, SURE), (YES, SURE, LATE)], [1]),  # a slow core: one window is enough
    ([(SILENCE, SURE), (YES, SURE, LATE - 1)], []),
])  # fmt: skip
def test_when_a_word_counts(windows: list[tuple[int, int]], said: list[int], library: ctypes.CDLL) -> None:
    assert Detector(library).said(*windows) == said


@pytest.mark.parametrize("start", [0, 2**32 - 5])
def test_the_ring_of_bytes_against_a_list(start: int, library: ctypes.CDLL) -> None:
    random = np.random.default_rng(7)
    model: list[int] = []
    library.start(ctypes.c_uint32(start))
    for _ in range(500):
        if random.random() < 0.5:
            byte = int(random.integers(256))
            assert library.put(byte) == (len(model) < 8)
            model = [*model, byte][:8]
        else:
            assert library.get() == (model.pop(0) if model else -1)
