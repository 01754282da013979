"""Samples -> the bits of a PDM microphone."""

import numpy as np
import soxr

from mbx_deploy.sim.microphone import PDM_CLOCK_HZ

_RATE_HZ = 16_000


def microphone_bits(samples: np.ndarray) -> np.ndarray:
    """Return uint8 bits at 2.048 MHz of int16 samples at 16 kHz, 32768 being the full density of bits.

    A second-order modulator, as PDM microphones have one of the second to fourth order.
    """
    fine = soxr.resample(samples.astype(np.float64) / 32768, _RATE_HZ, PDM_CLOCK_HZ, quality="HQ")
    bits = bytearray(len(fine))
    first = second = 0.0
    for i, value in enumerate(fine.tolist()):
        if second >= 0:
            bits[i] = 1
            first += value - 1.0
            second += first - 2.0
        else:
            first += value + 1.0
            second += first + 2.0
    return np.frombuffer(bytes(bits), np.uint8)
