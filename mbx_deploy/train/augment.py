"""Augmentation, seeded: variants of a clip as a microphone might hear it, masks on features."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbx_deploy.errors import InputError
from mbx_deploy.host_frontend import HostFrontend
from mbx_deploy.train.dataset import SAMPLE_RATE_HZ, noise_clip

FULL_SCALE = 32768.0
# How far over full scale the loudest sample of an augmented clip may be: 3 dB of it are clipped.
_OVERLOAD = 1.41


@dataclass(frozen=True)
class AugmentConfig:
    """How far a training clip is bent. Levels in dB are drawn evenly between their two ends.

    speed_percent: resampled by up to so much, faster or slower, which moves pitch too.
    noise_snr_db: background noise against the clip's mean power. white_noise_db: against full
    scale. Masks are counted in coefficients and frames.
    """

    shift_ms: float = 100.0
    speed_probability: float = 0.5
    speed_percent: float = 10.0
    gain_db: tuple[float, float] = (-20.0, 6.0)
    noise_probability: float = 0.8
    noise_snr_db: tuple[float, float] = (-5.0, 40.0)
    white_noise_probability: float = 0.3
    white_noise_db: tuple[float, float] = (-90.0, -46.0)
    coefficient_masks: int = 2
    coefficient_mask_width: int = 10
    time_masks: int = 2
    time_mask_width: int = 20

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_db"):
                if not isinstance(value, list | tuple) or len(value) != 2:
                    raise InputError(f"bad augmentation ({field.name}): got {value!r}, need [low, high]")
                for end in value:
                    _need_number(field.name, end, float("-inf"))
                if value[0] > value[1]:
                    raise InputError(f"bad augmentation ({field.name}): got {value!r}, need low <= high")
                object.__setattr__(self, field.name, (float(value[0]), float(value[1])))
            else:
                _need_number(field.name, value, 0.0)
        for name in ("speed_probability", "noise_probability", "white_noise_probability"):
            if getattr(self, name) > 1:
                raise InputError(f"bad augmentation ({name}): got {getattr(self, name)}, need 0 to 1")
        if self.speed_percent >= 100:
            raise InputError(f"bad augmentation (speed_percent): got {self.speed_percent}, need less than 100")
        for name in (
            "coefficient_masks",
            "coefficient_mask_width",
            "time_masks",
            "time_mask_width",
        ):
            if not isinstance(getattr(self, name), int):
                raise InputError(f"bad augmentation ({name}): got {getattr(self, name)}, need a whole number")

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
                raise InputError(f"unknown augmentation key: got {key!r}, need one of {', '.join(sorted(known))}")
        return cls(**values)


def _need_number(name: str, value: object, least: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= least:
        raise InputError(f"bad augmentation ({name}): got {value!r}, need a number >= {least:g}")
    if value == float("inf"):
        raise InputError(f"bad augmentation ({name}): got {value!r}, need a finite number")


def augment_clips(
    clips: np.ndarray,
    noise: Sequence[np.ndarray],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return a variant of each clip, int16 (N, samples) for int16 (N, samples)."""
    return np.stack([augment_clip(clip, noise, config, rng) for clip in clips])


def augment_clip(
    clip: np.ndarray,
    noise: Sequence[np.ndarray],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the clip, int16 (n,), sped up or slowed down, shifted, in noise, at another level,
    int16 (n,).

    noise: recordings that noise is cut from, int16 each; none: no background noise.
    """
    wave = clip.astype(np.float32)
    if rng.random() < config.speed_probability:
        spread = config.speed_percent / 100.0
        wave = change_speed(wave, 1.0 + rng.uniform(-spread, spread))
    reach = round(config.shift_ms * SAMPLE_RATE_HZ / 1000.0)
    wave = shift(wave, int(rng.integers(-reach, reach + 1)))
    if noise and rng.random() < config.noise_probability:
        snr_db = rng.uniform(*config.noise_snr_db)
        wave = mix(wave, noise_clip(noise, rng, len(wave)).astype(np.float32), snr_db)
    gain = 10.0 ** (rng.uniform(*config.gain_db) / 20.0)
    peak = float(np.abs(wave).max())
    if peak * gain > _OVERLOAD * FULL_SCALE:
        gain = _OVERLOAD * FULL_SCALE / peak
    wave = wave * np.float32(gain)
    if rng.random() < config.white_noise_probability:
        level = FULL_SCALE * 10.0 ** (rng.uniform(*config.white_noise_db) / 20.0)
        wave += rng.standard_normal(len(wave), dtype=np.float32) * np.float32(level)
    return np.clip(np.rint(wave), -32768, 32767).astype(np.int16)


def change_speed(wave: np.ndarray, speed: float) -> np.ndarray:
    """Return the wave played speed times as fast about its middle, float32 (n,); silence where it
    has no samples.

    Linear interpolation: it dulls the top octave a little, which is one more variation.
    """
    middle = (len(wave) - 1) / 2.0
    positions = (np.arange(len(wave)) - middle) * speed + middle
    return np.interp(positions, np.arange(len(wave)), wave, left=0.0, right=0.0).astype(np.float32)


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


def mix(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Return wave + noise, float32 (n,), the noise scaled to snr_db below the wave's mean power.

    Where either of them is digital silence there is no such scale: the wave comes back as it was.
    """
    wave_power = float(np.dot(wave, wave))
    noise_power = float(np.dot(noise, noise))
    if wave_power == 0.0 or noise_power == 0.0:
        return wave
    scale = (wave_power / noise_power * 10.0 ** (-snr_db / 10.0)) ** 0.5
    return wave + noise * np.float32(scale)


def mask_features(features: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Return the features with bands of coefficients and of frames masked, float32 (N, frames,
    coefficients).

    A masked value becomes its coefficient's mean over the clip, which hides what changes and keeps
    the level: zero, on raw MFCCs, would be a loud noise. Source: D. Park et al., "SpecAugment",
    2019.
    """
    out = features.copy()
    frames, coefficients = features.shape[1:]
    means = features.mean(axis=1)
    for clip, mean in zip(out, means, strict=True):
        for _ in range(config.coefficient_masks):
            first, last = _band(coefficients, config.coefficient_mask_width, rng)
            clip[:, first:last] = mean[first:last]
        for _ in range(config.time_masks):
            first, last = _band(frames, config.time_mask_width, rng)
            clip[first:last] = mean
    return out


def float_features(front_end: HostFrontend, clips: np.ndarray) -> np.ndarray:
    """Return the front end's coefficients in natural units, float32 (N, frames, coefficients), of
    int16 (N, samples).
    """
    return front_end.coefficients(clips).astype(np.float32) * np.float32(1.0 / 65536.0)


def _band(size: int, most: int, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(min(most, size) + 1))
    first = int(rng.integers(size - width + 1))
    return first, first + width
