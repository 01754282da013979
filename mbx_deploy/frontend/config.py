"""What a front end is told, and the fixed-point formats of its stages, which tables.py lists."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import show

WINDOW_FRACTION_BITS = 29
SAMPLE_TO_WINDOWED_SHIFT = 16
WINDOWED_FRACTION_BITS = 28
LOG_TABLE_BITS = 8
LOG_MEL_FRACTION_BITS = 24
DCT_FRACTION_BITS = 31
PREEMPHASIS_FRACTION_BITS = 30
EMPHASIZED_SHIFT = 14  # fraction bits of an emphasized sample behind those of a sample
COEFFICIENT_FRACTION_BITS = 16
MAGNITUDE_FRACTION_BITS = 26  # of a magnitude behind those of a spectrum line
OPTIONS_DEFINED = "#define MBX_HAS_FRONTEND_OPTIONS 1\n"  # before mbx_frontend.c, which has them then
LEAST_LOG_OFFSET = 16  # as an integer at the energies' scale, so that it is met within 3 %


@dataclass(frozen=True)
class FrontendConfig:
    """Every parameter of the front end; the defaults are NeMo's MFCC for one second of audio at 16 kHz.

    drop_frames_after: frames at a clip's end that are not computed. window: hann_periodic or hann_symmetric.
    mel_scale: htk or slaney. mel_norm: none, or slaney (triangles of equal area). preemphasis: x[n] - preemphasis *
    x[n - 1] before everything else; 0 is none. edge: what centred frames see beyond a clip's ends, its reflection or
    zeros. sample_gain: what samples are multiplied by. spectrum: power or magnitude, which the filters add up.
    mel_slopes: the triangles' sides are straight over hz or over mel. mel_first_line: lines of the spectrum below it
    count for nothing. log_guard: the logarithm is of mel + log_offset (add), or of the larger of the two (clamp).
    log_scale: natural, or decibel: 10 log10 of a power, 20 log10 of a magnitude. dct_norm: ortho, or htk, where
    coefficient 0 is larger by sqrt(2).

    Each of them is checked when the configuration is made: an InputError names the key, the value and the need.
    """

    sample_rate_hz: int = 16000
    clip_samples: int = 16000
    window_length: int = 400
    hop_length: int = 160
    n_fft: int = 512
    center: bool = True
    n_mels: int = 64
    low_hz: float = 0.0
    high_hz: float = 8000.0
    log_offset: float = 1e-6
    n_mfcc: int = 64
    pad_frames_before: int = 0
    pad_frames_after: int = 0
    drop_frames_after: int = 0
    window: str = "hann_periodic"
    mel_scale: str = "htk"
    mel_norm: str = "none"
    preemphasis: float = 0.0
    edge: str = "reflect"
    sample_gain: float = 1.0
    spectrum: str = "power"
    mel_slopes: str = "hz"
    mel_first_line: int = 0
    log_guard: str = "add"
    log_scale: str = "natural"
    dct_norm: str = "ortho"

    def __post_init__(self) -> None:
        """Raise InputError for a value of the wrong type or out of its range."""
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        _need(8000 <= self.sample_rate_hz <= 48000, "sample_rate_hz", self.sample_rate_hz, "8000 to 48000")
        sizes = (64, 128, 256, 512, 1024, 2048)
        _need(self.n_fft in sizes, "n_fft", self.n_fft, "a power of two from 64 to 2048")
        _need(2 <= self.window_length <= self.n_fft, "window_length", self.window_length, "2 to n_fft")
        _need(self.window_length % 2 == 0, "window_length", self.window_length, "an even number of samples")
        _need(1 <= self.hop_length <= self.window_length, "hop_length", self.hop_length, "1 to window_length")
        longest = 60 * self.sample_rate_hz
        _need(
            self.window_length < self.clip_samples <= longest,
            "clip_samples",
            self.clip_samples,
            f"more than window_length, at most {longest} (a minute)",
        )
        _need(1 <= self.n_mels <= 128, "n_mels", self.n_mels, "1 to 128")
        _need(0 <= self.n_mfcc <= self.n_mels, "n_mfcc", self.n_mfcc, "0 (log-mel) to n_mels")
        _need(
            0 <= self.low_hz < self.high_hz <= self.sample_rate_hz / 2,
            "low_hz, high_hz",
            (self.low_hz, self.high_hz),
            "0 <= low_hz < high_hz <= half the sample rate",
        )
        for name in ("pad_frames_before", "pad_frames_after"):
            _need(0 <= getattr(self, name) <= 1024, name, getattr(self, name), "0 to 1024")
        need = f"0 to {self.audio_frames + self.drop_frames_after - 1}, fewer than there are frames"
        _need(self.drop_frames_after >= 0 < self.audio_frames, "drop_frames_after", self.drop_frames_after, need)
        _need(0 <= self.preemphasis < 1, "preemphasis", self.preemphasis, "0 to below 1")
        for name, choices in _CHOICES.items():
            _need(getattr(self, name) in choices, name, getattr(self, name), " or ".join(choices))
        self._check_energies()

    def _check_energies(self) -> None:
        """Raise InputError for what a logarithm of integers does not hold."""
        _need(1 / 64 <= self.sample_gain <= 64, "sample_gain", self.sample_gain, "1/64 to 64")
        least = max(1e-12, LEAST_LOG_OFFSET * math.exp(-self.log_bias))
        _need(least <= self.log_offset <= 1.0, "log_offset", self.log_offset, f"{least:.1g} to 1")
        lines = self.n_fft // 2
        _need(0 <= self.mel_first_line <= lines, "mel_first_line", self.mel_first_line, f"0 to {lines}")
        is_wide = self.dct_norm == "ortho" or self.n_mfcc == 0 or self.n_mels >= 3
        _need(is_wide, "dct_norm", self.dct_norm, f"ortho of {self.n_mels} mels, htk of 3 or more")

    @property
    def lead(self) -> int:
        """Samples by which frame 0 begins before sample 0: half a window if centred, else none."""
        return self.window_length // 2 if self.center else 0

    @property
    def audio_frames(self) -> int:
        """Frames that are computed from a clip, without padded and dropped ones."""
        reach = 0 if self.center else self.window_length
        return 1 + (self.clip_samples - reach) // self.hop_length - self.drop_frames_after

    @property
    def num_frames(self) -> int:
        """Frames that the network sees: those of the audio and the padded ones."""
        return self.pad_frames_before + self.audio_frames + self.pad_frames_after

    @property
    def num_coefficients(self) -> int:
        """Values in a frame: n_mfcc, or n_mels where there is no DCT."""
        return self.n_mfcc or self.n_mels

    @property
    def spectrum_bits(self) -> int:
        """log2 of the factor between the integer spectrum and X of samples in [-1, 1)."""
        stages = (self.n_fft // 2).bit_length() - 1
        return WINDOWED_FRACTION_BITS - self.headroom_bits - (stages - 2)

    @property
    def has_options(self) -> bool:
        """Whether the C needs mbx_frontend_options for it, which most front ends do without."""
        return self.spectrum == "magnitude" or self.log_guard == "clamp"

    @property
    def energy_bits(self) -> int:
        """log2 of the factor between integer energies, which the filters add up, and those of samples in [-1, 1)."""
        if self.spectrum == "magnitude":
            return self.spectrum_bits + MAGNITUDE_FRACTION_BITS
        return 2 * self.spectrum_bits

    @property
    def log_bias(self) -> float:
        """The natural logarithm of the factor between integer energies and those of samples times sample_gain."""
        return self.energy_bits * math.log(2.0) - self.exponent * math.log(self.sample_gain)

    @property
    def exponent(self) -> int:
        """Of amplitudes, in what the filters add up."""
        return 1 if self.spectrum == "magnitude" else 2

    @property
    def headroom_bits(self) -> int:
        """Bits by which windowed samples are smaller, because preemphasis may double a sample."""
        return 1 if self.preemphasis else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON takes them; _LATER_FIELDS only where they differ from their defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        return {k: v for k, v in asdict(self).items() if k not in _LATER_FIELDS or v != defaults[k]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FrontendConfig":
        """Return the configuration that the mapping describes. Raises InputError for an unknown key or a bad value."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(
                f"unknown key in the front end's configuration: got {show(unknown[0])}",
                f"known keys: {', '.join(sorted(known))}",
            )
        return cls(**values)

    def digest(self) -> str:
        """Return the SHA-256 of the configuration's canonical JSON, in hex."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


_CHOICES = {
    "window": ("hann_periodic", "hann_symmetric"),
    "mel_scale": ("htk", "slaney"),
    "mel_norm": ("none", "slaney"),
    "edge": ("reflect", "zero"),
    "spectrum": ("power", "magnitude"),
    "mel_slopes": ("hz", "mel"),
    "log_guard": ("add", "clamp"),
    "log_scale": ("natural", "decibel"),
    "dct_norm": ("ortho", "htk"),
}
# Models from before these existed keep their digest.
_LATER_FIELDS = ("drop_frames_after", "preemphasis", "sample_gain", "mel_first_line", *_CHOICES)


def _check_type(name: str, value: object, annotation: object) -> None:
    kind = getattr(annotation, "__name__", str(annotation))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        "int": isinstance(value, int) and is_number,
        "float": is_number,
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
    }[kind]
    _need(fits, name, value, f"a value of type {kind}")


def _need(condition: bool, name: str, value: object, need: str) -> None:
    if not condition:
        raise InputError(f"bad value in the front end's configuration ({name}): got {show(value)}, need {need}")
