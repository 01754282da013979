"""Parts of a board's application that need no board: the ring behind the serial port."""

import ctypes

import numpy as np
import pytest

from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.tools import compile_shared_library, find_tool

pytestmark = pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")
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
    sources = {path.name: path.read_text() for path in (root / "runtime").rglob("*.h")}
    sources |= {"mbx_byte_ring.h": (root / "chips/cortexm/mbx_byte_ring.h").read_text(), "ring.c": RING_C}
    return ctypes.CDLL(str(compile_shared_library(sources)))


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
