"""Augmentation, seeded: variants of a clip as a microphone might hear it, masks on features."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbx_deploy.data.dataset import SAMPLE_RATE_HZ, noise_clip
from mbx_deploy.data.noise import mix
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.continuous import ContinuousFrontend
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.system.documents import show

FULL_SCALE = 32768.0
# How far over full scale the loudest sample of an augmented clip may be: 3 dB of it are clipped.
_OVERLOAD = 1.41
_COLOURED_SAMPLES = 60 * SAMPLE_RATE_HZ
_BABBLE_VOICES = (3, 8)  # from so many to one less than so many


@dataclass(frozen=True)
class AugmentConfig:
    """How far a training clip is bent. Levels in dB are drawn evenly between their two ends.

    speed_percent: resampled by up to so much, faster or slower, which moves pitch too.
    slack_shift_probability: how often the shift is drawn from all that keep the loud part of the
    clip inside, instead of from shift_ms. room_probability: how often it is heard in a room, whose
    sound decays by 60 dB in room_decay_s, its energy room_direct_db below the direct sound's.
    noise_snr_db: noise against the clip's mean power; coloured_noise_share of it is synthesised,
    babble_share is other clips talking at once, the rest is the data set's background noise.
    channel_probability: how often it goes through another microphone and line, a smooth response
    within about channel_db, at times cut off below or above (change_channel()). gate_probability:
    how often a noise gate closes where it is quiet. silence_speed_percent: silence is resampled by
    up to so much, and every other time played backwards: a few minutes of background noise shall
    not be known by heart. white_noise_db: against full scale. Masks are counted in coefficients and frames; a cutout
    masks both at once.
    """

    shift_ms: float = 100.0
    slack_shift_probability: float = 0.0
    room_probability: float = 0.0
    room_decay_s: tuple[float, float] = (0.1, 0.5)
    room_direct_db: tuple[float, float] = (0.0, 12.0)
    speed_probability: float = 0.5
    speed_percent: float = 10.0
    gain_db: tuple[float, float] = (-20.0, 6.0)
    noise_probability: float = 0.8
    noise_snr_db: tuple[float, float] = (-5.0, 40.0)
    coloured_noise_share: float = 0.0
    babble_share: float = 0.0
    channel_probability: float = 0.0
    channel_db: float = 10.0
    gate_probability: float = 0.0
    silence_speed_percent: float = 0.0
    white_noise_probability: float = 0.3
    white_noise_db: tuple[float, float] = (-90.0, -46.0)
    coefficient_masks: int = 2
    coefficient_mask_width: int = 10
    time_masks: int = 2
    time_mask_width: int = 20
    cutouts: int = 0
    cutout_coefficients: int = 15
    cutout_frames: int = 25

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple):
                if not isinstance(value, list | tuple) or len(value) != 2:
                    raise InputError(f"bad augmentation ({field.name}): got {show(value)}, need [low, high]")
                for end in value:
                    _need_number(field.name, end, 0.0 if field.name == "room_decay_s" else float("-inf"))
                if value[0] > value[1]:
                    raise InputError(f"bad augmentation ({field.name}): got {show(value)}, need low <= high")
                object.__setattr__(self, field.name, (float(value[0]), float(value[1])))
            else:
                _need_number(field.name, value, 0.0)
        for name in (f.name for f in dataclasses.fields(self) if f.name.endswith(("_probability", "_share"))):
            if getattr(self, name) > 1:
                raise InputError(f"bad augmentation ({name}): got {getattr(self, name)}, need 0 to 1")
        if self.coloured_noise_share + self.babble_share > 1:
            total = self.coloured_noise_share + self.babble_share
            raise InputError(f"bad augmentation (coloured_noise_share, babble_share): got {total:g}, need 1 at most")
        for name in ("speed_percent", "silence_speed_percent"):
            if getattr(self, name) >= 100:
                raise InputError(f"bad augmentation ({name}): got {getattr(self, name)}, need less than 100")
        for field in dataclasses.fields(self):
            if isinstance(field.default, int) and not isinstance(getattr(self, field.name), int):
                raise InputError(
                    f"bad augmentation ({field.name}): got {getattr(self, field.name)}, need a whole number"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON and TOML values."""
        values = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "AugmentConfig":
        """Return the config that to_dict() wrote. Raises InputError for an unknown key or a bad
        value.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise InputError(f"unknown augmentation key: got {show(key)}, need one of {', '.join(sorted(known))}")
        return cls(**values)


def _need_number(name: str, value: object, least: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= least:
        raise InputError(f"bad augmentation ({name}): got {show(value)}, need a number >= {least:g}")
    if value == float("inf"):
        raise InputError(f"bad augmentation ({name}): got {show(value)}, need a finite number")


@dataclass(frozen=True, eq=False)
class NoiseSources:
    """What noise is cut from: int16 recordings of background noise and of coloured noise; int16 (N,
    samples) of voices.
    """

    background: Sequence[np.ndarray] = ()
    coloured: Sequence[np.ndarray] = ()
    voices: np.ndarray | None = None


def noise_sources(background: Sequence[np.ndarray], voices: np.ndarray) -> NoiseSources:
    """Return the sources of a training split, with noise of five colours, the same at every call."""
    rng = np.random.default_rng(0)
    coloured = [coloured_noise(rng, _COLOURED_SAMPLES, slope) for slope in (0.0, 0.5, 1.0, 1.5, 2.0)]
    return NoiseSources(background, coloured, voices)


def augment_clip(
    clip: np.ndarray,
    noise: NoiseSources,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the clip, int16 (n,), sped up or slowed down, shifted, in a room, in noise, through
    another microphone, at another level, int16 (n,). A kind of noise without a source is left out.
    """
    wave = clip.astype(np.float32)
    if rng.random() < config.speed_probability:
        spread = config.speed_percent / 100.0
        wave = change_speed(wave, 1.0 + rng.uniform(-spread, spread))
    reach = round(config.shift_ms * SAMPLE_RATE_HZ / 1000.0)
    earliest, latest = -reach, reach
    if rng.random() < config.slack_shift_probability:
        earliest, latest = slack(wave)
    wave = shift(wave, int(rng.integers(earliest, latest + 1)))
    return hear(wave, noise, config, rng)


def hear(wave: np.ndarray, noise: NoiseSources, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Return a sound, float32 (n,), in a room, in noise, through another microphone, at another level, int16 (n,)."""
    if rng.random() < config.room_probability:
        wave = add_room(wave, rng.uniform(*config.room_decay_s), rng.uniform(*config.room_direct_db), rng)
    if rng.random() < config.noise_probability:
        snr_db = rng.uniform(*config.noise_snr_db)
        drawn = _draw_noise(noise, config, rng, len(wave))
        if drawn is not None:
            wave = mix(wave, drawn, snr_db)
    if rng.random() < config.channel_probability:
        wave = change_channel(wave, config.channel_db, rng)
    if rng.random() < config.gate_probability:
        wave = close_gate(wave, rng.uniform(20.0, 40.0))
    gain = 10.0 ** (rng.uniform(*config.gain_db) / 20.0)
    peak = float(np.abs(wave).max())
    if peak * gain > _OVERLOAD * FULL_SCALE:
        gain = _OVERLOAD * FULL_SCALE / peak
    wave = wave * np.float32(gain)
    if rng.random() < config.white_noise_probability:
        level = FULL_SCALE * 10.0 ** (rng.uniform(*config.white_noise_db) / 20.0)
        wave += rng.standard_normal(len(wave), dtype=np.float32) * np.float32(level)
    clipped: np.ndarray = np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
    return clipped


def _draw_noise(
    noise: NoiseSources, config: AugmentConfig, rng: np.random.Generator, samples: int
) -> np.ndarray | None:
    kind = rng.random()
    if kind < config.babble_share:
        if noise.voices is None or not len(noise.voices):
            return None
        chosen = rng.integers(len(noise.voices), size=int(rng.integers(*_BABBLE_VOICES)))
        levels = 10.0 ** (rng.uniform(-6.0, 6.0, len(chosen)) / 20.0)
        return sum(
            (
                np.roll(np.resize(noise.voices[number], samples).astype(np.float32), int(rng.integers(samples)))
                * np.float32(level)
                for number, level in zip(chosen, levels, strict=True)
            ),
            start=np.zeros(samples, np.float32),
        )
    recordings = noise.coloured if kind < config.babble_share + config.coloured_noise_share else noise.background
    return noise_clip(recordings, rng, samples).astype(np.float32) if recordings else None


def coloured_noise(rng: np.random.Generator, samples: int, slope: float) -> np.ndarray:
    """Return noise whose power falls as 1 / f^slope (0 white, 1 pink, 2 brown), int16 (samples,),
    its rms 3000.
    """
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[0] = 0.0
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (slope / 2.0)
    wave = np.fft.irfft(spectrum, samples)
    noise: np.ndarray = np.clip(np.rint(wave * (3000.0 / wave.std())), -32768, 32767).astype(np.int16)
    return noise


def slack(wave: np.ndarray) -> tuple[int, int]:
    """Return how far a wave, float32 (n,), can be shifted earlier (0 or less) and later, in samples,
    with its loud part inside.

    Loud are the 10 ms whose energy is within 25 dB of the loudest 10 ms, and half their like before
    and behind.
    """
    hop = SAMPLE_RATE_HZ // 100
    rows = wave[: len(wave) // hop * hop].reshape(-1, hop)
    energy = np.einsum("ij,ij->i", rows, rows)
    loud = np.flatnonzero(energy > energy.max(initial=0.0) * 10.0**-2.5)
    if not len(loud):
        return 0, 0
    margin = 5
    first = max(int(loud[0]) - margin, 0)
    last = min(int(loud[-1]) + 1 + margin, len(rows))
    return -first * hop, (len(rows) - last) * hop


def add_room(wave: np.ndarray, decay_s: float, direct_db: float, rng: np.random.Generator) -> np.ndarray:
    """Return the wave as heard in a room, float32 (n,): itself plus its echo, noise that decays by
    60 dB in decay_s.

    The echo's response has an energy direct_db below the direct sound's. Source: J.-D. Polack, "La
    transmission de l'energie sonore dans les salles", 1988: late reverberation is Gaussian noise
    under an exponential.
    """
    samples = min(max(round(decay_s * SAMPLE_RATE_HZ), 1), len(wave))
    response = rng.standard_normal(samples, dtype=np.float32)
    # 60 dB of energy are a factor of 1000 of amplitude.
    response *= np.exp(np.linspace(0.0, -np.log(1000.0), samples)).astype(np.float32)
    response *= np.float32(10.0 ** (-direct_db / 20.0) / max(float(np.linalg.norm(response)), 1e-9))
    size = _fft_size(len(wave) + samples)
    echo = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)
    return wave + echo[: len(wave)].astype(np.float32)


def change_speed(wave: np.ndarray, speed: float) -> np.ndarray:
    """Return the wave played speed times as fast about its middle, float32 (n,); silence where it
    has no samples.

    Linear interpolation: it dulls the top octave a little, which is one more variation.
    """
    middle = (len(wave) - 1) / 2.0
    positions = (np.arange(len(wave)) - middle) * speed + middle
    faster: np.ndarray = np.interp(positions, np.arange(len(wave)), wave, left=0.0, right=0.0).astype(np.float32)
    return faster


def bend_silence(clip: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Return a clip of background noise, int16 (n,), resampled and perhaps backwards, int16 (n,)."""
    spread = config.silence_speed_percent / 100.0
    if not spread:
        return clip
    bent = clip[::-1] if rng.random() < 0.5 else clip
    # Read round and round: a faster clip needs more samples than there are.
    positions = np.arange(len(clip)) * (1.0 + rng.uniform(-spread, spread))
    bent = np.interp(positions, np.arange(len(clip)), bent.astype(np.float32), period=len(clip))
    samples: np.ndarray = np.rint(bent).astype(np.int16)
    return samples


def change_channel(wave: np.ndarray, channel_db: float, rng: np.random.Generator) -> np.ndarray:
    """Return the wave as another microphone and line give it, float32 (n,).

    The response is drawn at octaves and interpolated: a tilt of up to channel_db at either end, and
    at each octave a departure with a spread of a quarter of it. One in four is cut off, 24 dB an
    octave, below 80 to 400 Hz, one in four above 2.5 to 7 kHz.
    """
    octaves = np.log2(SAMPLE_RATE_HZ / 2.0) - np.arange(8)[::-1]
    gains_db = rng.uniform(-channel_db, channel_db) * np.linspace(-1.0, 1.0, len(octaves))
    gains_db = gains_db + rng.normal(0.0, channel_db / 4.0, len(octaves))
    size = _fft_size(len(wave))
    frequencies = np.log2(np.maximum(np.fft.rfftfreq(size, 1.0 / SAMPLE_RATE_HZ), 20.0))
    response_db = np.interp(frequencies, octaves, gains_db)
    if rng.random() < 0.25:
        response_db -= 24.0 * np.maximum(np.log2(rng.uniform(80.0, 400.0)) - frequencies, 0.0)
    if rng.random() < 0.25:
        response_db -= 24.0 * np.maximum(frequencies - np.log2(rng.uniform(2500.0, 7000.0)), 0.0)
    response = (10.0 ** (response_db / 20.0)).astype(np.float32)
    return np.fft.irfft(np.fft.rfft(wave, size) * response, size)[: len(wave)].astype(np.float32)


def _fft_size(samples: int) -> int:
    """Return a length of at least so many samples that an FFT is quick at: a power of two for up to two seconds, as
    the shipped recipes had it, or 3 or 5 times one.
    """
    power = 1 << (samples - 1).bit_length()
    return power if samples <= 1 << 15 else min(n for n in (power, 3 * power // 4, 5 * power // 8) if n >= samples)


def close_gate(wave: np.ndarray, threshold_db: float) -> np.ndarray:
    """Return the wave, silent in each 20 ms whose energy is threshold_db below the loudest, float32 (n,)."""
    hop = SAMPLE_RATE_HZ // 50
    rows = -(-len(wave) // hop)
    padded = np.zeros(rows * hop, np.float32)
    padded[: len(wave)] = wave
    cut = padded.reshape(rows, hop)
    energy = np.einsum("ij,ij->i", cut, cut)
    cut[energy < energy.max(initial=0.0) * 10.0 ** (-threshold_db / 10.0)] = 0.0
    return padded[: len(wave)]


def shift(wave: np.ndarray, samples: int) -> np.ndarray:
    """Return the wave, later by so many samples (earlier where negative), zeros moved in, same
    shape and type.
    """
    out = np.zeros_like(wave)
    if samples >= len(wave) or -samples >= len(wave):
        return out
    if samples >= 0:
        out[samples:] = wave[: len(wave) - samples]
    else:
        out[:samples] = wave[-samples:]
    return out


def mask_features(features: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> None:
    """Mask bands of coefficients, bands of frames and rectangles of one clip's features, in place:
    float32 (frames, coefficients).

    A masked value becomes its coefficient's mean over the clip, which hides what changes and keeps
    the level: zero, on raw MFCCs, would be a loud noise. Source: D. Park et al., "SpecAugment",
    2019; T. DeVries, G. Taylor, "Cutout", 2017.
    """
    frames, coefficients = features.shape
    mean = features.mean(axis=0)
    for _ in range(config.coefficient_masks):
        first, last = _band(coefficients, config.coefficient_mask_width, rng)
        features[:, first:last] = mean[first:last]
    for _ in range(config.time_masks):
        first, last = _band(frames, config.time_mask_width, rng)
        features[first:last] = mean
    for _ in range(config.cutouts):
        top, bottom = _band(coefficients, config.cutout_coefficients, rng)
        first, last = _band(frames, config.cutout_frames, rng)
        features[first:last, top:bottom] = mean[top:bottom]


def float_features(front_end: HostFrontend | ContinuousFrontend, clips: np.ndarray) -> np.ndarray:
    """Return the front end's coefficients in natural units, float32 (N, frames, coefficients), of
    int16 (N, samples).
    """
    return front_end.coefficients(clips).astype(np.float32) * np.float32(1.0 / 65536.0)


def _band(size: int, most: int, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(min(most, size) + 1))
    first = int(rng.integers(size - width + 1))
    return first, first + width
