"""NeMo's preprocessors: their YAML as a FrontendConfig, and what they do to a clip's frames."""

import math
from dataclasses import dataclass
from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.nemo.section import Section
from mbx_deploy.system.documents import show

MFCC, MEL = "AudioToMFCCPreprocessor", "AudioToMelSpectrogramPreprocessor"
CEILING, FLOOR_PLUS_ONE, FLOOR = "ceiling", "floor + 1", "floor"
FIRST_ZERO_EDGES = (2, 5)  # of the mel spectrogram: zeros beyond a clip's ends, one frame less is valid
FIRST_FLOOR_PLUS_ONE = (1, 0)


@dataclass(frozen=True)
class Preprocessor:
    """frontend: the features, of one second, no frames padded or dropped.

    length_rule: how many frames NeMo takes for valid in a clip of n samples: ceiling of n / hop, or its floor, or floor
    + 1. zero_invalid: the preprocessor sets those behind to zero. pad_to: frames are padded with zeros to a multiple of
    it; 0 is none.
    """

    frontend: FrontendConfig
    length_rule: str
    zero_invalid: bool
    pad_to: int

    def valid_frames(self, samples: int) -> int:
        """Return the frames that NeMo takes for valid in a clip of so many samples."""
        quotient = samples // self.frontend.hop_length
        if self.length_rule == CEILING:
            return -(-samples // self.frontend.hop_length)
        return quotient + (self.length_rule == FLOOR_PLUS_ONE)


def describe_preprocessor(section: Section, version: tuple[int, int] | None) -> Preprocessor:
    """Return what the YAML's preprocessor is. version: NeMo's (major, minor), which the mel spectrogram depends on.

    Raises InputError for another class, or for an option that is not supported.
    """
    section.need_class(MFCC, MEL)
    try:
        return _mfcc(section) if section.class_name == MFCC else _mel(section, version)
    except InputError as error:
        if str(section.path) in error.what:
            raise
        raise InputError(f"the .nemo file's preprocessor is not supported ({section.path}): {error.what}") from None


_COMMON_KEYS: tuple[str, ...] = (
    "sample_rate",
    "window_size",
    "window_stride",
    "n_window_size",
    "n_window_stride",
    "window",
    "n_fft",
)
_COMMON_KEYS += ("lowfreq", "highfreq", "log")


def _mfcc(section: Section) -> Preprocessor:
    section.refuse_unknown((*_COMMON_KEYS, "n_mels", "n_mfcc", "dct_type", "norm"))
    section.need_default("dct_type", 2)
    section.need_default("norm", "ortho")
    mels = section.whole("n_mels", 1, 128, 64)
    frontend = FrontendConfig(
        **_common(section), n_mels=mels, n_mfcc=section.whole("n_mfcc", 1, mels, 64), log_offset=1e-6
    )
    return Preprocessor(frontend, CEILING, zero_invalid=False, pad_to=0)


_MEL_IGNORED = ("dither", "rng", "nb_augmentation_prob", "nb_max_freq", "max_duration", "use_grads")  # of training
_MEL_DEFAULTS = (
    ("log_zero_guard_type", "add"),
    ("frame_splicing", 1),
    ("exact_pad", False),
    ("stft_exact_pad", False),
    ("stft_conv", False),
    ("use_torchaudio", False),
    ("pad_value", 0),
    ("pre_pad", 0),
    ("mag_power", 2.0),
)
_MEL_KEYS = ("features", "normalize", "preemph", "log_zero_guard_value", "pad_to", "mel_norm")


def _mel(section: Section, version: tuple[int, int] | None) -> Preprocessor:
    section.refuse_unknown((*_COMMON_KEYS, *_MEL_KEYS, *_MEL_IGNORED, *(key for key, _ in _MEL_DEFAULTS)))
    for key, default in _MEL_DEFAULTS:
        section.need_default(key, default)
    # NeMo's own default is per_feature: a mean and a spread over the whole clip, which a stream does not have.
    normalize = section.values.get("normalize", "per_feature")
    if normalize not in (None, "", "None", "NA", "null"):
        raise section.unsupported("normalize", show(normalize), "null: a stream has no end to normalise over")
    guard = section.values.get("log_zero_guard_value", 2.0**-24)
    if isinstance(guard, str) and guard in ("tiny", "eps"):
        raise section.unsupported("log_zero_guard_value", show(guard), "a number")
    has_zero_edges = version is not None and version >= FIRST_ZERO_EDGES
    preemphasis = section.number("preemph", 0.97) if section.values.get("preemph", 0.97) is not None else 0.0
    frontend = FrontendConfig(
        **_common(section, symmetric=True),
        n_mels=section.whole("features", 1, 128, 64),
        n_mfcc=0,
        log_offset=section.number("log_zero_guard_value", 2.0**-24),
        mel_scale="slaney",
        mel_norm="none" if "mel_norm" in section.values and section.get("mel_norm") is None else "slaney",
        preemphasis=preemphasis,
        edge="zero" if has_zero_edges else "reflect",
    )
    section.choice("mel_norm", ("slaney",), "slaney")
    rule = FLOOR if has_zero_edges else FLOOR_PLUS_ONE
    if version is not None and version < FIRST_FLOOR_PLUS_ONE:
        rule = CEILING
    return Preprocessor(frontend, rule, zero_invalid=True, pad_to=section.whole("pad_to", 0, 1024, 16))


def _common(section: Section, symmetric: bool = False) -> dict[str, Any]:
    """Return what both classes name alike."""
    rate = section.whole("sample_rate", 8000, 48000, 16000)
    section.need_default("log", True)
    section.choice("window", ("hann",), "hann")
    window = _samples(section, "window_size", "n_window_size", 0.02, rate)
    hop = _samples(section, "window_stride", "n_window_stride", 0.01, rate)
    n_fft = section.get("n_fft") or 2 ** math.ceil(math.log2(window))
    if not isinstance(n_fft, int):
        raise section.bad("n_fft", n_fft, "a whole number")
    high = section.number("highfreq", rate / 2) if section.get("highfreq") else rate / 2
    return {
        "sample_rate_hz": rate,
        "clip_samples": rate,
        "window_length": window,
        "hop_length": hop,
        "n_fft": n_fft,
        "low_hz": section.number("lowfreq", 0.0) if section.get("lowfreq") else 0.0,
        "high_hz": high,
        "window": "hann_symmetric" if symmetric else "hann_periodic",
    }


def _samples(section: Section, seconds_key: str, samples_key: str, default: float, rate: int) -> int:
    """Return a length in samples, given in seconds or in samples; int() truncates, as NeMo does."""
    seconds = section.number(seconds_key, default) if seconds_key not in section.values else section.get(seconds_key)
    if not seconds:
        return section.whole(samples_key, 1, 1 << 16)
    if section.get(samples_key):
        if seconds_key in section.values:
            raise section.bad(samples_key, section.get(samples_key), f"either it or {seconds_key}")
        raise section.bad(samples_key, section.get(samples_key), f"{seconds_key} null beside it, as NeMo asks")
    length = int(section.number(seconds_key, default) * rate)
    if not 1 <= length <= 1 << 16:
        raise section.bad(seconds_key, seconds, "1 to 65536 samples")
    return length


@dataclass(frozen=True)
class Layout:
    """What of a clip's frames enters NeMo's encoder, in this order.

    before: frames of zeros. features: of the clip. total: frames with those of zeros behind. length: what the masks
    take for valid, from the first frame on.
    """

    before: int
    features: int
    total: int
    length: int


def clip_layout(preprocessor: Preprocessor, crop_frames: int | None, samples: int) -> Layout | None:
    """Return the layout of a clip of so many samples; None where NeMo refuses it or crops it at random.

    crop_frames: what NeMo pads to, or None.
    """
    frontend = preprocessor.frontend
    shortest = frontend.n_fft // 2 + 1 if frontend.edge == "reflect" else 1
    if samples < shortest:
        return None
    frames = 1 + samples // frontend.hop_length
    length = preprocessor.valid_frames(samples)
    features = min(frames, length) if preprocessor.zero_invalid else frames
    total = frames
    if preprocessor.pad_to and frames % preprocessor.pad_to:
        total += preprocessor.pad_to - frames % preprocessor.pad_to
    if crop_frames is None:
        return Layout(0, features, total, length)
    if total > crop_frames:
        return None
    return Layout((crop_frames - total) // 2, features, crop_frames, crop_frames)
