"""The front end's options: the C and the simulator give the same bytes, for clips and for streams."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbx_deploy.compiler.model import parse_model
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_STREAM, TRACE_STAGES, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.frontend.tables import build_tables
from mbx_deploy.sim import frontend as sim
from tests.made.tflite import small_artifact


@st.composite
def configs(draw: st.DrawFn) -> FrontendConfig:
    window = 2 * draw(st.integers(10, 100))
    n_fft = next(size for size in (64, 128, 256) if size >= window)
    base = FrontendConfig(
        clip_samples=window + draw(st.integers(1, 700)),
        window_length=window,
        hop_length=draw(st.integers(max(1, window // 8), window)),
        n_fft=n_fft,
        center=draw(st.booleans()),
        n_mels=draw(st.integers(1, 24)),
        n_mfcc=0,
        log_offset=draw(st.sampled_from([1e-6, 2.0**-24, 1e-3])),
        window=draw(st.sampled_from(["hann_periodic", "hann_symmetric"])),
        mel_scale=draw(st.sampled_from(["htk", "slaney"])),
        mel_norm=draw(st.sampled_from(["none", "slaney"])),
        preemphasis=draw(st.one_of(st.just(0.0), st.just(0.97), st.floats(0.01, 0.999))),
        edge=draw(st.sampled_from(["reflect", "zero"])),
    )
    drop = draw(st.integers(0, min(4, base.audio_frames - 1)))
    mfcc = draw(st.integers(0, base.n_mels))
    return dataclasses.replace(
        base,
        drop_frames_after=drop,
        n_mfcc=mfcc,
        pad_frames_before=draw(st.integers(0, 2)),
        pad_frames_after=draw(st.integers(0, 2)),
    )


def samples(seed: int, kind: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "extremes":
        return rng.choice([-32768, 32767], count).astype(np.int16)
    if kind == "quiet":
        return rng.integers(-3, 4, count).astype(np.int16)
    return rng.integers(-32768, 32768, count).astype(np.int16)


KINDS = st.sampled_from(["noise", "extremes", "quiet"])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(configs(), st.integers(0, 1000), KINDS)
def test_the_c_and_the_simulator_are_equal(config: FrontendConfig, seed: int, kind: str) -> None:
    clips = samples(seed, kind, 2 * config.clip_samples).reshape(2, -1)
    tables = build_tables(config)
    computed = HostFrontend(config, tables).coefficients(clips)
    assert computed.shape == (2, config.num_frames, config.num_coefficients)
    for clip, coefficients in zip(clips, computed, strict=True):
        np.testing.assert_array_equal(coefficients, sim.coefficients(clip, tables))


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs(), st.integers(0, 1000), KINDS, st.integers(1, 3))
def test_the_recognizer_is_equal(config: FrontendConfig, seed: int, kind: str, stride: int) -> None:
    """Clips whole, short and long, in odd blocks, and streams: every stage of the generated C and the simulator."""
    recognizer = parse_model(small_artifact(config), "small")
    count = config.clip_samples
    stride = min(stride, config.audio_frames)
    items = [
        Item(ITEM_CLIP, samples(seed, kind, count)),
        Item(ITEM_CLIP, samples(seed, kind, count), block=7),
        Item(ITEM_CLIP, samples(seed, kind, count // 3 + 1), block=13),
        Item(ITEM_CLIP, samples(seed, kind, count + 50)),
        Item(ITEM_STREAM, samples(seed, kind, 3 * count), block=11),
        Item(ITEM_STREAM, samples(seed, kind, 10)),
    ]
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    from mbx_deploy.codegen.project import generate_project
    from mbx_deploy.codegen.target import find_target

    files = generate_project(recognizer, find_target("host"), stride_frames=stride)
    expected = SimEngine(recognizer, stride).run(items, TRACE_STAGES)
    got = HostEngine(recognizer, files, flags).run(items, TRACE_STAGES)
    for left, right in zip(expected, got, strict=True):
        assert len(left) == len(right)
        for want, have in zip(left, right, strict=True):
            np.testing.assert_array_equal(want.logits, have.logits)
            np.testing.assert_array_equal(want.stages["features"], have.stages["features"])


def test_later_keys_leave_old_digests_alone() -> None:
    config = FrontendConfig()
    assert "preemphasis" not in config.to_dict() and "drop_frames_after" not in config.to_dict()
    assert config.digest() == "7316112deed7cb5a2b1ead0c78b247efa7729d891f4db17d5254a6df9816f096"
    changed = FrontendConfig(preemphasis=0.97, drop_frames_after=1, edge="zero")
    assert FrontendConfig.from_dict(changed.to_dict()) == changed
    assert changed.digest() != config.digest()


@pytest.mark.parametrize(
    "values",
    [
        {"window": "hamming"},
        {"mel_scale": "bark"},
        {"mel_norm": 1},
        {"edge": ""},
        {"preemphasis": 1.0},
        {"preemphasis": -0.1},
        {"preemphasis": "0.97"},
        {"drop_frames_after": -1},
        {"drop_frames_after": 101},
    ],
)
def test_bad_values(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        FrontendConfig.from_dict(values)
