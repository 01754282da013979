"""FrontendConfig -> the integer tables of the MFCC front end.

The tables are computed here once, in float64, and shipped as integers; nothing behind them computes in floats. How the
stages use them is in sim/frontend.py and its twin, firmware_templates/runtime/frontend/mbx_frontend.c. The scales, for
one frame:

    samples        int16           Q15, [-1, 1)
    emphasized     int32           Q29, only with preemphasis: sample - preemphasis * the sample before it
    windowed       int32           Q28: (sample * window_q29) >> 16; Q27 with preemphasis, which may double a sample
    spectrum       int32 re, im    X * 2^spectrum_bits; spectrum_bits = 30 - log2(n_fft / 2), 22 for 512 points; one
                                   less with preemphasis
    power          uint64          |X|^2 * 2^(2 * spectrum_bits), below 2^61
    magnitude      uint64          |X| * 2^(spectrum_bits + 26), only where filters add up magnitudes: below 2^58
    mel            uint64          the same scale, each product with a Q32 weight truncated
    log_mel        int32           Q24, natural logarithm of mel + log_offset, divided by unit
    coefficients   int32           Q16, MFCCs (or log-mels) divided by unit
    features       int8            round(coefficient * unit / scale) + zero_point

unit is 1 of most front ends, 10 / ln(10) where the logarithm is in decibels of a power, and twice as much, or four
times, where a sum of the DCT would leave int64 otherwise. The multiplier of the features has it: the C pays nothing.

There is no block exponent: 28 fractional bits on 16-bit samples put the rounding noise of the transform some 70 dB
below log_offset (1e-6), so that quiet audio keeps its precision without one. Measured in tests/reference.
"""

import math
from dataclasses import dataclass

import numpy as np

from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import (
    COEFFICIENT_FRACTION_BITS,
    DCT_FRACTION_BITS,
    LOG_MEL_FRACTION_BITS,
    MAGNITUDE_FRACTION_BITS,
    PREEMPHASIS_FRACTION_BITS,
    WINDOW_FRACTION_BITS,
    FrontendConfig,
)

MAX_HALVINGS = 2  # of the logarithms
# What the DCT sees is below: on cores without a long multiply it is split into halves, the lower one from -2^15 on.
_LARGEST_VALUE = (1 << 31) - (1 << 15)


@dataclass(frozen=True)
class FrontendTables:
    """The integers that the simulator and the C share.

    window_q29: int32 (window_length,), a Hann window. preemphasis_q30: 0 without preemphasis.
    twiddle_q31: int32 (n_fft / 2, 2), cos and sin of 2 pi k / n_fft.
    mel_first, mel_count: uint16 (n_mels,), the bins that a filter covers.
    mel_weights_q32: uint32 (sum of mel_count,), the filters' weights one after another.
    log_q24: int32 (257,), ln(1 + i / 256). ln2_q24: ln 2. log_bias_q24: ln of the energies' scale. All three divided by
    what unit has beyond the decibels.
    log_offset: log_offset at the energies' scale.
    dct_q31: int32 (n_mfcc, ceil(n_mels / 2)), the left half of an orthonormal DCT-II; the right half mirrors it, with
    the opposite sign in odd rows. Empty where there is no DCT.
    unit: what a coefficient of 1.0 stands for.
    """

    config: FrontendConfig
    window_q29: np.ndarray
    twiddle_q31: np.ndarray
    mel_first: np.ndarray
    mel_count: np.ndarray
    mel_weights_q32: np.ndarray
    log_q24: np.ndarray
    ln2_q24: int
    log_bias_q24: int
    log_offset: int
    dct_q31: np.ndarray
    preemphasis_q30: int
    unit: float


def hann_window(length: int, periodic: bool = True) -> np.ndarray:
    """Return a Hann window, float64 (length,). Source: torch.hann_window(length, periodic)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length if periodic else length - 1))


def mel_filterbank(config: FrontendConfig) -> np.ndarray:
    """Return the weights of the triangular mel filters: float64 (n_mels, n_fft / 2 + 1).

    Source: torchaudio.functional.melscale_fbanks(norm=None, mel_scale="htk"); librosa.filters.mel(htk=False,
    norm="slaney") for the scale and the norm of that name; tf.signal.linear_to_mel_weight_matrix for mel_slopes "mel".
    """
    frequencies = np.linspace(0.0, config.sample_rate_hz / 2, config.n_fft // 2 + 1)
    low, high = (float(_hz_to_mel(np.array(hz), config.mel_scale)) for hz in (config.low_hz, config.high_hz))
    mels = np.linspace(low, high, config.n_mels + 2)
    hz = _mel_to_hz(mels, config.mel_scale)
    edges, places = hz, frequencies
    if config.mel_slopes == "mel":
        edges, places = mels, _hz_to_mel(frequencies, config.mel_scale)
    widths = np.diff(edges)[:, None]
    if not np.all(np.diff(hz) > 0):
        raise InputError(
            f"bad value in the front end's configuration (low_hz, high_hz): got {(config.low_hz, config.high_hz)}, "
            f"need room for {config.n_mels} filters between them"
        )
    slopes = edges[:, None] - places[None, :]
    rising = -slopes[:-2] / widths[:-1]
    falling = slopes[2:] / widths[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[:, : config.mel_first_line] = 0.0
    return filters * (2.0 / (hz[2:] - hz[:-2]))[:, None] if config.mel_norm == "slaney" else filters


# Slaney's scale is linear up to 1000 Hz, 15 mel, and logarithmic from there on.
_SLANEY_HZ_PER_MEL = 200.0 / 3
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    above = 15.0 + np.log(np.maximum(hz, 1000.0) / 1000.0) / _SLANEY_LOG_STEP
    return np.where(hz < 1000.0, hz / _SLANEY_HZ_PER_MEL, above)


def _mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, mel * _SLANEY_HZ_PER_MEL, 1000.0 * np.exp(_SLANEY_LOG_STEP * (mel - 15.0)))


def dct_matrix(n_mfcc: int, n_mels: int, norm: str = "ortho") -> np.ndarray:
    """Return the orthonormal DCT-II, float64 (n_mfcc, n_mels): coefficients = matrix @ log_mel.

    norm: htk leaves row 0 larger by sqrt(2). Source: tf.signal.mfccs_from_log_mel_spectrograms.
    """
    k = np.arange(n_mfcc)[:, None]
    n = np.arange(n_mels)[None, :]
    matrix: np.ndarray = np.sqrt(2.0 / n_mels) * np.cos(np.pi * (2 * n + 1) * k / (2 * n_mels))
    if norm == "ortho":
        matrix[:1] *= np.sqrt(0.5)
    return matrix


def build_tables(config: FrontendConfig) -> FrontendTables:
    """Return the integer tables of a front end; the same configuration gives the same integers."""
    tables = _tables(config, 0)
    for halvings in range(1, MAX_HALVINGS + 1):
        if _logs_fit(tables):
            break
        tables = _tables(config, halvings)
    prove_ranges(tables)
    return tables


def _tables(config: FrontendConfig, halvings: int) -> FrontendTables:
    """Return the tables with logarithms divided by 2^halvings."""
    log_one = 2.0 ** (LOG_MEL_FRACTION_BITS - halvings)
    decibels = 20.0 / (config.exponent * float(np.log(10.0))) if config.log_scale == "decibel" else 1.0
    filters = mel_filterbank(config)
    first, count, weights = [], [], []
    for row in np.minimum(np.rint(filters * 2.0**32), 2.0**32 - 1).astype(np.uint64):
        bins = np.flatnonzero(row)
        low, high = (int(bins[0]), int(bins[-1]) + 1) if bins.size else (0, 0)
        first.append(low)
        count.append(high - low)
        weights.append(row[low:high])
    angle = 2 * np.pi * np.arange(config.n_fft // 2) / config.n_fft
    dct = dct_matrix(config.n_mfcc, config.n_mels, config.dct_norm)[:, : (config.n_mels + 1) // 2]
    return FrontendTables(
        config=config,
        window_q29=_to_fixed(hann_window(config.window_length, config.window == "hann_periodic"), WINDOW_FRACTION_BITS),
        twiddle_q31=_to_fixed(np.stack([np.cos(angle), np.sin(angle)], axis=1), 31),
        mel_first=np.array(first, dtype=np.uint16),
        mel_count=np.array(count, dtype=np.uint16),
        mel_weights_q32=np.concatenate(weights).astype(np.uint32),
        log_q24=np.rint(np.log1p(np.arange(257) / 256.0) * log_one).astype(np.int32),
        ln2_q24=round(float(np.log(2.0)) * log_one),
        log_bias_q24=round(config.log_bias * log_one),
        log_offset=round(config.log_offset * 2.0**config.energy_bits / config.sample_gain**config.exponent),
        dct_q31=_to_fixed(dct, DCT_FRACTION_BITS),
        preemphasis_q30=round(config.preemphasis * 2**PREEMPHASIS_FRACTION_BITS),
        unit=decibels * 2.0**halvings,
    )


def _to_fixed(values: np.ndarray, fraction_bits: int) -> np.ndarray:
    return np.minimum(np.rint(values * 2.0**fraction_bits), 2.0**31 - 1).astype(np.int32)


def _largest_mel(tables: FrontendTables) -> int:
    """Return a bound of a mel energy. Parseval: lines share the energy of n_fft samples; twice one line's is ample."""
    config = tables.config
    largest = _largest_line(tables) ** 2 * 2 * config.n_fft
    window_energy = int((tables.window_q29.astype(np.float64) ** 2).sum() * config.n_fft) << 2 * config.headroom_bits
    power = min(largest, window_energy >> (2 * (WINDOW_FRACTION_BITS - config.spectrum_bits)))
    if config.spectrum == "power":
        return power
    lines = config.n_fft // 2 + 1  # Cauchy and Schwarz: their magnitudes are at most the root of lines times power
    return (math.isqrt(lines * power) + 64 * lines) << MAGNITUDE_FRACTION_BITS


def _largest_line(tables: FrontendTables) -> int:
    """Return a bound of a spectrum line: the sum of the window, which preemphasis may double."""
    config = tables.config
    window_sum = (int(tables.window_q29.astype(np.int64).sum()) + config.window_length) << config.headroom_bits
    return (window_sum >> (WINDOW_FRACTION_BITS - config.spectrum_bits)) + 64


def _largest_log_mel(tables: FrontendTables) -> int:
    lowest = (tables.log_offset.bit_length() - 1) * tables.ln2_q24 - tables.log_bias_q24
    highest = (_largest_mel(tables) + tables.log_offset).bit_length() * tables.ln2_q24 - tables.log_bias_q24
    return max(abs(lowest), abs(highest)) + 1


def fold_dct(tables: FrontendTables) -> tuple[int, np.ndarray]:
    """Return (folds, weights): how the C uses the symmetries within the left half of the DCT's rows. Its sums are
    exact, so they are those of dct_q31.

    Odd rows see the differences of the log-mels and their mirror images, even ones the sums; of the even ones every
    other one has the same symmetry again, and so on: after each fold sums lie where the subtrahends were. weights:
    int32, the rows one after another, each as long as what it sees: rows 1, 3, 5, ..., then those of each fold (2, 6,
    10, ...), at last those that see the last sums. folds ends where weights are not equal, or sums
    might leave int32.
    """
    matrix = tables.dct_q31.astype(np.int64)
    if not matrix.size:
        return 0, tables.dct_q31
    rows = {number: matrix[number] for number in range(1, len(matrix), 2)}
    numbers, rest, folds = np.arange(0, len(matrix), 2), matrix[0::2], 0
    largest = _largest_log_mel(tables)
    while rest.shape[1] % 2 == 0 and largest << (folds + 2) < _LARGEST_VALUE:
        half = rest.shape[1] // 2
        left, mirrored = rest[:, :half], rest[:, : half - 1 : -1]
        odd = (numbers >> (folds + 1)) % 2 == 1
        if not np.array_equal(np.where(odd[:, None], -mirrored, mirrored), left):
            break
        rows |= dict(zip(numbers[odd].tolist(), left[odd], strict=True))
        numbers, rest, folds = numbers[~odd], left[~odd][:, ::-1], folds + 1
    rows |= dict(zip(numbers.tolist(), rest, strict=True))
    order = sorted(rows, key=lambda number: min((number & -number).bit_length(), folds + 2) if number else folds + 2)
    return folds, np.concatenate([rows[number] for number in order]).astype(np.int32)


def prove_ranges(tables: FrontendTables) -> None:
    """Raise AssertionError unless no stage can leave its type, whatever the samples are.

    Worst cases, from the tables: a spectrum line is at most the sum of the window; a mel energy at most the energy of
    the whole frame; a coefficient at most the sum of a row's magnitudes times the largest log-mel.
    """
    if _largest_line(tables) >= 1 << 31:
        raise AssertionError("a spectrum line may leave int32")
    if _largest_mel(tables) + tables.log_offset >= 1 << 63:
        raise AssertionError("a mel energy may leave uint64")
    if not _logs_fit(tables):
        raise AssertionError("a sum of two log-mels may leave int32, or its halves; or a DCT accumulator int64")


def _logs_fit(tables: FrontendTables) -> bool:
    """Whether no sum of two log-mels leaves int32, or its halves, and no accumulator of the DCT int64."""
    largest = 2 * _largest_log_mel(tables)
    row_sum = int(np.abs(tables.dct_q31.astype(np.int64)).sum(axis=1).max()) if tables.dct_q31.size else 0
    return largest < _LARGEST_VALUE and row_sum * largest < (1 << 63) - (1 << 40)


def feature_multiplier(scale: float, unit: float = 1.0) -> tuple[int, int]:
    """Return (multiplier, shift) so that coefficient_q16 * multiplier / 2^shift = coefficient * unit / scale.

    scale: float32 of the network's input. unit: the tables'. multiplier: [2^30, 2^31); shift: 33 to 62, as the C
    wants it.
    Raises InputError for a scale that no such pair describes.
    """
    scale = scale / unit
    if not 2.0**-12 <= scale <= 2.0**12:
        raise InputError(f"bad scale of the network's input: got {scale}, need {2.0**-12} to {2.0**12}")
    mantissa, exponent = np.frexp(1.0 / (scale * 2.0**COEFFICIENT_FRACTION_BITS))
    multiplier = round(float(mantissa) * 2.0**31)
    if multiplier == 1 << 31:
        multiplier, exponent = 1 << 30, exponent + 1
    return multiplier, 31 - int(exponent)
