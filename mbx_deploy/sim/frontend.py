"""The MFCC front end in integers: int16 samples -> int8 features. The readable definition.

Twin: firmware_templates/runtime/frontend/mbx_frontend.c, the same stages in the same order. Formats:
see mbx_deploy/frontend/tables.py.
Every function takes all frames at once, one row a frame; the C takes one frame at a time.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from mbx_deploy.frontend.config import (
    COEFFICIENT_FRACTION_BITS,
    DCT_FRACTION_BITS,
    EMPHASIZED_SHIFT,
    LOG_MEL_FRACTION_BITS,
    MAGNITUDE_FRACTION_BITS,
    PREEMPHASIS_FRACTION_BITS,
    SAMPLE_TO_WINDOWED_SHIFT,
    FrontendConfig,
)
from mbx_deploy.frontend.tables import FrontendTables, feature_multiplier
from mbx_deploy.sim.fixed_point import clamp, multiply_high, shift_right_rounded

Observer = Callable[[str, np.ndarray], None]


def clip_frames(samples: np.ndarray, tables: FrontendTables) -> np.ndarray:
    """Return the frames of a clip that stands alone: int16 (audio_frames, window_length), or emphasized int32.

    samples: int16 (clip_samples,). Centred frames reach over both ends, where the clip is reflected (the sample at the
    edge is not repeated), or zeros are. Only the samples under the window are read, so that is half a window, not n_fft
    / 2.
    """
    padded = _extend(preemphasize(samples, tables), tables.config, 1)
    return _slice_frames(padded, tables.config)[: tables.config.audio_frames]


def stream_frames(samples: np.ndarray, tables: FrontendTables) -> np.ndarray:
    """Return the frames of continuous audio that are complete: int16 (n, window_length), or emphasized int32.

    samples: int16 (any,). The stream's beginning is extended like a clip's; everywhere else frames see the real
    samples beside them.
    """
    config = tables.config
    if len(samples) <= config.lead:
        return np.zeros((0, config.window_length), np.int16)
    return _slice_frames(_extend(preemphasize(samples, tables), config, 0), config)


def preemphasize(samples: np.ndarray, tables: FrontendTables) -> np.ndarray:
    """Return x[n] - preemphasis * x[n - 1], int32 Q29 (n,), the first sample as it is; int16 samples without it.

    The product is rounded once, ties up. |result| < 2^30. Frames at an end see the reflection of these, not the
    emphasis of the reflection. Twin: mbx_emphasized_sample().
    """
    if not tables.preemphasis_q30:
        return samples
    before = np.concatenate([np.zeros(1, np.int64), samples[:-1].astype(np.int64)])
    product = shift_right_rounded(before * tables.preemphasis_q30, PREEMPHASIS_FRACTION_BITS - EMPHASIZED_SHIFT)
    emphasized: np.ndarray = ((samples.astype(np.int64) << EMPHASIZED_SHIFT) - product).astype(np.int32)
    return emphasized


def _extend(samples: np.ndarray, config: FrontendConfig, behind: int) -> np.ndarray:
    """Return the samples with config.lead more before them, and as many behind them where behind is 1."""
    if not config.lead:
        return samples
    mode: Literal["reflect", "constant"] = "reflect" if config.edge == "reflect" else "constant"
    return np.pad(samples, (config.lead, behind * config.lead), mode=mode)


def _slice_frames(padded: np.ndarray, config: FrontendConfig) -> np.ndarray:
    if len(padded) < config.window_length:
        return np.zeros((0, config.window_length), padded.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(padded, config.window_length)
    return windows[:: config.hop_length]


def apply_window(frames: np.ndarray, tables: FrontendTables) -> np.ndarray:
    """Return the windowed samples, int32 values in Q28 (Q27 if emphasized): (n, window_length). |result| <= 2^28.

    frames: int16 (n, window_length), or emphasized int32. Twin: mbx_apply_window().
    """
    emphasized = EMPHASIZED_SHIFT + tables.config.headroom_bits if tables.preemphasis_q30 else 0
    windowed: np.ndarray = (frames.astype(np.int64) * tables.window_q29) >> (SAMPLE_TO_WINDOWED_SHIFT + emphasized)
    return windowed


def fft(windowed: np.ndarray, tables: FrontendTables) -> tuple[np.ndarray, np.ndarray]:
    """Return (real, imaginary) of the n_fft / 2 point complex FFT of samples packed in pairs, int32 values.

    windowed: Q28 or Q27 (n, window_length), zeros behind it up to n_fft. Even samples are real parts, odd ones
    imaginary. Returns two arrays (n, n_fft / 2), scaled by 2^spectrum_bits. Decimation in time: bit-reversed input, a
    first pass of four-point butterflies that only adds (two bits of growth fit above Q28), then stages of two-point
    butterflies, each halving. No sum overflows: a complex value's magnitude is at most sqrt(2) * 2^30 after the first
    pass and no stage enlarges it.
    Twin: mbx_fft().
    """
    half = tables.config.n_fft // 2
    packed = np.zeros((len(windowed), 2 * half), np.int64)
    packed[:, : windowed.shape[1]] = windowed
    order = bit_reversal(half)
    real, imag = packed[:, 0::2][:, order], packed[:, 1::2][:, order]
    real, imag = fft_first_pass(real, imag)
    size = 4
    while size < half:
        real, imag = fft_stage(real, imag, size, tables.twiddle_q31)
        size *= 2
    return real, imag


def bit_reversal(size: int) -> np.ndarray:
    """Return the bit-reversed index of 0..size-1, intp (size,). size is a power of two."""
    order = np.zeros(1, np.intp)
    while len(order) < size:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def fft_first_pass(real: np.ndarray, imag: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return four-point transforms of neighbouring inputs: additions only, the factors are 1 and -i.

    real, imag: int32 values (n, points), bit-reversed. Twin: mbx_fft_first_pass().
    """
    (r0, r1, r2, r3), (i0, i1, i2, i3) = (tuple(part[:, k::4] for k in range(4)) for part in (real, imag))
    real_out, imag_out = np.empty_like(real), np.empty_like(imag)
    real_out[:, 0::4], imag_out[:, 0::4] = (r0 + r1) + (r2 + r3), (i0 + i1) + (i2 + i3)
    real_out[:, 1::4], imag_out[:, 1::4] = (r0 - r1) + (i2 - i3), (i0 - i1) - (r2 - r3)
    real_out[:, 2::4], imag_out[:, 2::4] = (r0 + r1) - (r2 + r3), (i0 + i1) - (i2 + i3)
    real_out[:, 3::4], imag_out[:, 3::4] = (r0 - r1) - (i2 - i3), (i0 - i1) + (r2 - r3)
    return real_out, imag_out


def fft_stage(real: np.ndarray, imag: np.ndarray, size: int, twiddle_q31: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return transforms of 2 * size points made from neighbouring ones of size points, halved.

    real, imag: int32 values (n, points). With w = cos - i sin: (a, b) -> (a / 2 + w b / 2, a / 2 - w b / 2), where
    a / 2 is a shift (rounds down) and each real product is rounded once.
    Twin: mbx_fft_stage().
    """
    rows, points = real.shape
    step = len(twiddle_q31) // size
    cos, sin = twiddle_q31[::step].T.astype(np.int64)
    pairs = (rows, points // (2 * size), 2, size)
    (ar, br), (ai, bi) = (part.reshape(pairs).swapaxes(0, 2).swapaxes(1, 2) for part in (real, imag))
    wr = multiply_high(br, cos) + multiply_high(bi, sin)
    wi = multiply_high(bi, cos) + multiply_high(-br, sin)
    real_out, imag_out = np.empty(pairs, np.int64), np.empty(pairs, np.int64)
    real_out[:, :, 0], imag_out[:, :, 0] = (ar >> 1) + wr, (ai >> 1) + wi
    real_out[:, :, 1], imag_out[:, :, 1] = (ar >> 1) - wr, (ai >> 1) - wi
    return real_out.reshape(rows, points), imag_out.reshape(rows, points)


def split_spectrum(real: np.ndarray, imag: np.ndarray, tables: FrontendTables) -> tuple[np.ndarray, np.ndarray]:
    """Return (real, imaginary) of the one-sided spectrum of the real samples: int32 values (n, n_fft / 2 + 1).

    real, imag: what fft() gives, Z. With E = Z[k] + conj(Z[half - k]), O = -i (Z[k] - conj(Z[half - k])):
    X[k] = (E + w O) / 2 and X[half - k] = conj(E - w O) / 2. |Z| <= 2^29.5 here, so E and O fit.
    Twin: mbx_split_spectrum().
    """
    half = tables.config.n_fft // 2
    low = np.arange(1, half // 2 + 1)
    high = half - low
    even_r, even_i = real[:, low] + real[:, high], imag[:, low] - imag[:, high]
    odd_r, odd_i = imag[:, low] + imag[:, high], real[:, high] - real[:, low]
    cos, sin = tables.twiddle_q31[low].T.astype(np.int64)
    wr = multiply_high(odd_r, cos) + multiply_high(odd_i, sin)
    wi = multiply_high(odd_i, cos) + multiply_high(-odd_r, sin)
    spectrum_r = np.zeros((len(real), half + 1), np.int64)
    spectrum_i = np.zeros((len(real), half + 1), np.int64)
    spectrum_r[:, 0], spectrum_r[:, half] = real[:, 0] + imag[:, 0], real[:, 0] - imag[:, 0]
    spectrum_r[:, high], spectrum_i[:, high] = (even_r >> 1) - wr, wi - (even_i >> 1)
    spectrum_r[:, low], spectrum_i[:, low] = (even_r >> 1) + wr, (even_i >> 1) + wi
    return spectrum_r, spectrum_i


def power_spectrum(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    """Return |X[k]|^2, uint64 (n, n_fft / 2 + 1). Below 2^61, since |X[k]| <= 2^30 and a little.

    Twin: mbx_power_spectrum().
    """
    power: np.ndarray = (real * real + imag * imag).astype(np.uint64)
    return power


def magnitude_spectrum(power: np.ndarray) -> np.ndarray:
    """Return |X[k]| with 26 fraction bits more than X, uint64 like power, of which it is the root: below 2^58.

    power: uint64 (n, lines), below 2^62. Of its leading 48 bits, an even number of zeros before them left out, the root
    of 24 bits is taken and rounded down: at most 2^-23 of it is lost. Twin: mbx_magnitude_spectrum().
    """
    value = power.copy()
    halved = np.zeros(power.shape, np.uint64)  # half of the bits that value is shifted by
    for step in (32, 16, 8, 4, 2):
        is_small = value < np.uint64(1) << np.uint64(64 - step)
        value = np.where(is_small, value << np.uint64(step), value)
        halved += np.where(is_small, np.uint64(step // 2), np.uint64(0))
    # A double holds 48 bits, and its root of them is off by less than what parts two integers' squares.
    root = np.floor(np.sqrt((value >> np.uint64(16)).astype(np.float64))).astype(np.uint64)
    magnitude: np.ndarray = root << (np.uint64(MAGNITUDE_FRACTION_BITS + 8) - halved)
    return magnitude


def mel_energies(power: np.ndarray, tables: FrontendTables) -> np.ndarray:
    """Return the mel filters' outputs, uint64 (n, n_mels), at the power's scale, or at the magnitude's.

    power: uint64 (n, n_fft / 2 + 1), or magnitudes. Each product with a Q32 weight is truncated to an integer before
    it is added: high word * weight + (low word * weight >> 32) is exactly floor(power * weight / 2^32).
    Twin: mbx_mel_energies().
    """
    high, low = power >> np.uint64(32), power & np.uint64(0xFFFFFFFF)
    mel = np.zeros((len(power), len(tables.mel_first)), np.uint64)
    offset = 0
    for m, (first, count) in enumerate(zip(tables.mel_first.tolist(), tables.mel_count.tolist(), strict=True)):
        weights = tables.mel_weights_q32[offset : offset + count].astype(np.uint64)
        bins = slice(first, first + count)
        products = high[:, bins] * weights + ((low[:, bins] * weights) >> np.uint64(32))
        mel[:, m] = products.sum(axis=1, dtype=np.uint64)
        offset += count
    return mel


def log_mel_energies(mel: np.ndarray, tables: FrontendTables) -> np.ndarray:
    """Return ln(mel + log_offset), or that of the larger of the two, int32 values in Q24: (n, n_mels).

    mel: uint64 (n, n_mels), below 2^63. The mantissa's 8 leading bits choose an interval of the table, the next 16
    interpolate in it, truncating; the line lies at most 2e-6 below the curve.
    Twin: mbx_log_mel_energies().
    """
    offset = np.uint64(tables.log_offset)
    value = np.maximum(mel, offset) if tables.config.log_guard == "clamp" else mel + offset
    exponent = np.zeros(value.shape, np.int64)
    rest = value.copy()
    for step in (32, 16, 8, 4, 2, 1):
        large = rest >= np.uint64(1) << np.uint64(step)
        exponent += np.where(large, step, 0)
        rest = np.where(large, rest >> np.uint64(step), rest)
    mantissa = value << (63 - exponent).astype(np.uint64)
    index = ((mantissa >> np.uint64(55)) & np.uint64(0xFF)).astype(np.int64)
    fraction = ((mantissa >> np.uint64(39)) & np.uint64(0xFFFF)).astype(np.int64)
    table = tables.log_q24.astype(np.int64)
    line = table[index] + (((table[index + 1] - table[index]) * fraction) >> 16)
    log_mel: np.ndarray = line + exponent * tables.ln2_q24 - tables.log_bias_q24
    return log_mel


def dct(log_mel: np.ndarray, tables: FrontendTables) -> np.ndarray:
    """Return the coefficients, int32 values in Q16: (n, num_coefficients).

    log_mel: Q24 (n, n_mels). Even rows of the DCT see x[n] + x[last - n], odd rows x[n] - x[last - n], which halves the
    products; the middle one of an odd number of mels stands alone. Accumulated exactly in 64 bits, rounded once.
    Without a DCT the log-mels are the coefficients. The C goes on to halve the even rows (fold_dct() of
    mbx_deploy/frontend.py): exact sums are the same in any order.
    Twin: mbx_dct().
    """
    if not tables.config.n_mfcc:
        return shift_right_rounded(log_mel, LOG_MEL_FRACTION_BITS - COEFFICIENT_FRACTION_BITS)
    n_mels = log_mel.shape[1]
    pairs, half = n_mels // 2, (n_mels + 1) // 2
    left, right = log_mel[:, :pairs], log_mel[:, ::-1][:, :pairs]
    sums, differences = np.zeros((2, len(log_mel), half), np.int64)
    sums[:, :pairs], differences[:, :pairs] = left + right, left - right
    sums[:, pairs:] = log_mel[:, pairs:half]
    matrix = tables.dct_q31.astype(np.int64)
    accumulator = np.empty((len(log_mel), len(matrix)), np.int64)
    accumulator[:, 0::2] = sums @ matrix[0::2].T
    accumulator[:, 1::2] = differences @ matrix[1::2].T
    shift = LOG_MEL_FRACTION_BITS + DCT_FRACTION_BITS - COEFFICIENT_FRACTION_BITS
    return shift_right_rounded(accumulator, shift)


def quantize_features(coefficients_q16: np.ndarray, scale: float, zero_point: int, unit: float = 1.0) -> np.ndarray:
    """Return round(coefficient * unit / scale) + zero_point, limited to int8; ties go up.

    coefficients_q16: int32 values (..., num_coefficients). scale, zero_point: the network input's. unit: the tables'.
    Twin: mbx_quantize_features().
    """
    multiplier, shift = feature_multiplier(scale, unit)
    scaled = shift_right_rounded(coefficients_q16.astype(np.int64) * multiplier, shift)
    return clamp(scaled + zero_point, -128, 127).astype(np.int8)


def frame_coefficients(frames: np.ndarray, tables: FrontendTables, observe: Observer | None = None) -> np.ndarray:
    """Return the coefficients of frames, int32 in Q16: (n, num_coefficients). One call a stage.

    frames: what clip_frames() or stream_frames() gives. observe(stage, values) sees each stage's result.
    Twin: mbx_frame_coefficients().
    """
    windowed = apply_window(frames, tables)
    real, imag = fft(windowed, tables)
    spectrum = split_spectrum(real, imag, tables)
    power = power_spectrum(*spectrum)
    filtered = magnitude_spectrum(power) if tables.config.spectrum == "magnitude" else power
    mel = mel_energies(filtered, tables)
    log_mel = log_mel_energies(mel, tables)
    coefficients = dct(log_mel, tables).astype(np.int32)
    if observe:
        observe("windowed", windowed.astype(np.int32))
        observe("spectrum", np.stack(spectrum, axis=-1).astype(np.int32))
        observe("power", power)
        observe("mel", mel)
        observe("log_mel", log_mel.astype(np.int32))
        observe("coefficients", coefficients)
    return coefficients


def pad_frames(coefficients: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Return the frames with zeros before and after, as NeMo up to 2.2 pads features: (num_frames, coefficients)."""
    return np.pad(coefficients, ((config.pad_frames_before, config.pad_frames_after), (0, 0)))


def coefficients(samples: np.ndarray, tables: FrontendTables, observe: Observer | None = None) -> np.ndarray:
    """Return the coefficients of a clip that stands alone, int32 in Q16: (num_frames, num_coefficients).

    samples: int16 (clip_samples,).
    """
    frames = clip_frames(samples, tables)
    return pad_frames(frame_coefficients(frames, tables, observe), tables.config)
