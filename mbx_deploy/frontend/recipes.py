"""Front ends of common recipes by name: what networks from elsewhere were trained on.

Each is held to its source's formula in float64 (tests/reference/test_recipes.py); what an integer front end of a stream
leaves out of it stands beside it.
"""

from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig

_TENSORFLOW: dict[str, Any] = {
    "hop_length": 320,
    "center": False,
    "n_mels": 40,
    "low_hz": 20.0,
    "high_hz": 4000.0,
    "n_mfcc": 10,
    "spectrum": "magnitude",
    "mel_slopes": "mel",
    "dct_norm": "htk",
}
# By name, what differs from FrontendConfig's defaults. Sources:
# nemo: NeMo's AudioToMFCCPreprocessor, torchaudio's MFCC with log_mels.
# mlperf-tiny: mlcommons/tiny, benchmark/training/keyword_spotting/get_dataset.py, feature_type mfcc: tf.signal's stft,
# linear_to_mel_weight_matrix and mfccs_from_log_mel_spectrograms. It divides a clip by its largest sample, which a
# stream does not know; sample_gain stands for that.
# arm-kws: ARM-software/ML-KWS-for-MCU and ML-zoo, input_data.py: TensorFlow's AudioSpectrogram and Mfcc ops, windows of
# 40 ms. Line 2 is the first that the op counts above 20 Hz, of 512 points and of 1024.
# torchaudio: torchaudio.transforms.MFCC(melkwargs={"n_fft": 512}): its own 400 is no power of two. top_db, which looks
# for a clip's loudest value, is left out.
RECIPES: dict[str, dict[str, Any]] = {
    "nemo": {},
    "mlperf-tiny": {**_TENSORFLOW, "window_length": 480, "n_fft": 512, "log_offset": 1e-6, "sample_gain": 4.0},
    "arm-kws": {
        **_TENSORFLOW,
        "window_length": 640,
        "n_fft": 1024,
        "mel_first_line": 2,
        "log_offset": 1e-12,
        "log_guard": "clamp",
    },
    "torchaudio": {
        "window_length": 512,
        "hop_length": 256,
        "n_mels": 128,
        "n_mfcc": 40,
        "log_offset": 1e-10,
        "log_guard": "clamp",
        "log_scale": "decibel",
    },
}


def recipe_config(name: str, changes: dict[str, Any] | None = None) -> FrontendConfig:
    """Return the front end of a recipe, some keys of it changed. Raises InputError for an unknown name or key."""
    if name not in RECIPES:
        raise InputError(f"no front end of that name: got {name!r:.40}, need one of {', '.join(RECIPES)}")
    return FrontendConfig.from_dict(RECIPES[name] | (changes or {}))
