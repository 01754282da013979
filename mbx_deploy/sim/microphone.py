"""What a board does with a microphone's bits or samples. Twins: mbx_pdm.c, mbx_microphone.c in boards/audio.

The integer functions give the bytes of the C; fir_taps_q14() is where the C's table comes from.
"""

import numpy as np

PDM_CLOCK_HZ = 2_048_000
CIC_ORDER = 4
CIC_RATIO = 32
CIC_BITS = 128
FIR_RATIO = 4
FIR_TAPS = 128
PDM_DC_SHIFT = 10
PCM_DC_SHIFT = 8
FIR_CUTOFF_HZ = 8000.0
FIR_KAISER_BETA = 6.0


def fir_taps_q14() -> np.ndarray:
    """Return the FIR's taps, int16 (128,), Q14: a low-pass at 8 kHz of 64 kHz that undoes the CIC's droop.

    The wanted response, 1 / CIC up to 8 kHz, is transformed back and multiplied by a Kaiser window; the sum is 16384
    within the rounding. The absolute values sum to less than 2^16, so that sums of 16-bit samples stay within int32.
    """
    rate = PDM_CLOCK_HZ / CIC_RATIO
    grid = np.linspace(0.0, FIR_CUTOFF_HZ, 4001)
    wanted = 1.0 / cic_response(grid)
    time = (np.arange(FIR_TAPS) - (FIR_TAPS - 1) / 2) / rate
    values = np.cos(2 * np.pi * np.outer(time, grid)) * wanted
    taps = np.trapezoid(values, grid, axis=1) * np.kaiser(FIR_TAPS, FIR_KAISER_BETA)
    taps_q14: np.ndarray = np.rint(taps / taps.sum() * 16384).astype(np.int16)
    return taps_q14


def cic_response(frequency_hz: np.ndarray) -> np.ndarray:
    """Return the CIC's gain at frequencies up to half the bit rate, 1 at 0 Hz. float64, the shape of frequency_hz."""
    x = np.asarray(frequency_hz, np.float64) / PDM_CLOCK_HZ
    safe = np.where(x == 0, 1e-12, x)
    ratio = np.sin(np.pi * safe * CIC_RATIO) / (CIC_RATIO * np.sin(np.pi * safe))
    return np.where(x == 0, 1.0, ratio**CIC_ORDER)


def remove_dc(values: np.ndarray, shift: int) -> np.ndarray:
    """Return int64 values less their running mean: y = x - m, m += y / 2^shift. Twin: mbx_remove_dc()."""
    result = np.empty(len(values), np.int64)
    mean = 0
    for i, value in enumerate(values.tolist()):
        result[i] = value - (mean >> shift)
        mean += int(result[i])
    return result


def pcm_condition(samples: np.ndarray, gain_q4: int) -> np.ndarray:
    """Return int16 samples without their mean, times gain_q4 / 16, rounded half up and saturated.

    samples: int16, from the start of the microphone on. Twin: mbx_pcm_condition().
    """
    y = remove_dc(samples, PCM_DC_SHIFT)
    return _saturate((y * gain_q4 + 8) >> 4)


def pdm_decimate(bits: np.ndarray, gain_q4: int) -> np.ndarray:
    """Return int16 samples at 16 kHz from bits at 2.048 MHz: one for each 128. Twin: mbx_pdm_decimate().

    bits: 0 or 1, from the start of the microphone on, a multiple of 128 of them.
    """
    y = remove_dc(cic(bits), PDM_DC_SHIFT)
    line = _saturate((y * gain_q4 + 256) >> 9).astype(np.int64)
    padded = np.concatenate([np.zeros(FIR_TAPS - 1, np.int64), line])
    windows = np.lib.stride_tricks.sliding_window_view(padded, FIR_TAPS)[FIR_RATIO - 1 :: FIR_RATIO]
    sums = windows @ fir_taps_q14().astype(np.int64)[::-1]
    return _saturate((sums + (1 << 13)) >> 14)


def cic(bits: np.ndarray) -> np.ndarray:
    """Return the CIC's output at 64 kHz, int64 within +-2^20, from bits (0 or 1) at 2.048 MHz. Twin: mbx_pdm_cic().

    Before the first bit there was a zero and a one in turn, for as long as the filter looks back.
    """
    before = np.arange(CIC_BITS - CIC_RATIO) & 1
    values = 2 * np.concatenate([before, bits]).astype(np.int64) - 1
    for _ in range(CIC_ORDER):  # wraps modulo 2^64, and the differences undo that
        values = np.cumsum(values)
    values = values[CIC_RATIO - 1 :: CIC_RATIO]
    for _ in range(CIC_ORDER):
        values = np.diff(values, prepend=0)
    return values[CIC_BITS // CIC_RATIO - 1 :]


def cic_taps() -> np.ndarray:
    """Return what each of the newest 128 bits counts in the CIC's output, the oldest first: int64 (128,), of sum 2^20.

    Four running sums over 32 bits in turn; the first three are zero. Twin: mbx_pdm_init_table().
    """
    taps = np.ones(1, np.int64)
    for _ in range(CIC_ORDER):
        taps = np.convolve(taps, np.ones(CIC_RATIO, np.int64))
    return np.concatenate([np.zeros(CIC_BITS - len(taps), np.int64), taps])


def pdm_words(bits: np.ndarray) -> np.ndarray:
    """Return uint16 words of 16 bits each, the earliest bit on top, as a DMA delivers them."""
    return np.packbits(bits.reshape(-1, 16).astype(np.uint8), axis=1).view(">u2").ravel().astype(np.uint16)


def _saturate(values: np.ndarray) -> np.ndarray:
    saturated: np.ndarray = np.clip(values, -32768, 32767).astype(np.int16)
    return saturated
