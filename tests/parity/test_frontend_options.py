"""The front end's options: the C and the simulator give the same bytes, for clips and for streams."""

import dataclasses
import math

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
from mbx_deploy.frontend.recipes import recipe_config
from mbx_deploy.frontend.tables import build_tables
from mbx_deploy.sim import frontend as sim
from mbx_deploy.system.resources import runtime_file
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
        sample_gain=draw(st.sampled_from([1.0, 4.0, 0.3])),
        spectrum=draw(st.sampled_from(["power", "magnitude"])),
        mel_slopes=draw(st.sampled_from(["hz", "mel"])),
        mel_first_line=draw(st.integers(0, 3)),
        log_guard=draw(st.sampled_from(["add", "clamp"])),
        log_scale=draw(st.sampled_from(["natural", "decibel"])),
    )
    drop = draw(st.integers(0, min(4, base.audio_frames - 1)))
    mfcc = draw(st.integers(0, base.n_mels))
    return dataclasses.replace(
        base,
        drop_frames_after=drop,
        n_mfcc=mfcc,
        dct_norm=draw(st.sampled_from(["ortho", "htk"])) if base.n_mels >= 3 else "ortho",
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
    assert set(recipe_config("arm-kws").to_dict()) - set(config.to_dict()) == {
        *("spectrum", "mel_slopes", "mel_first_line", "log_guard", "dct_norm"),
    }


def test_magnitudes_are_roots() -> None:
    """Of every size: rounded down in the leading 24 bits, zeros and ends of the range among them."""
    rng = np.random.default_rng(1)
    edges = [1 << bit for bit in range(62)]
    squares = [int(root) ** 2 + d for root in rng.integers(2, 1 << 30, 300) for d in (-1, 0, 1)]
    drawn = [int(value) >> int(rng.integers(60)) for value in rng.integers(0, 1 << 61, 2000)]
    powers = [0, 1, 2, 3, *edges, *(edge - 1 for edge in edges), *squares, *drawn]
    for power, found in zip(powers, sim.magnitude_spectrum(np.array(powers, np.uint64)).tolist(), strict=True):
        root = math.isqrt(power << 52)
        assert 0 <= root - found <= root >> 23, power


@pytest.mark.parametrize("name", ["arm-kws", "torchaudio"])
def test_a_recipe_gives_the_same_bytes_in_generated_c(name: str) -> None:
    """Every stage, of noise, of what is hardly there and of extremes; as a clip and as a stream."""
    config = recipe_config(name, {"clip_samples": 3000})
    recognizer = parse_model(small_artifact(config), name)
    items = [Item(ITEM_CLIP, samples(1, kind, 3000)) for kind in ("noise", "quiet", "extremes")]
    items += [Item(ITEM_CLIP, np.zeros(3000, np.int16)), Item(ITEM_STREAM, samples(2, "noise", 5000), block=77)]
    from mbx_deploy.codegen.project import generate_project
    from mbx_deploy.codegen.target import find_target

    files = generate_project(recognizer, find_target("host"), stride_frames=3)
    assert ("src/mbx_frontend_options.c" in files) == config.has_options
    expected = SimEngine(recognizer, 3).run(items, TRACE_STAGES)
    got = HostEngine(recognizer, files, ("-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover")).run(
        items, TRACE_STAGES
    )
    for left, right in zip(expected, got, strict=True):
        for want, have in zip(left, right, strict=True):
            np.testing.assert_array_equal(want.logits, have.logits)
            for stage, values in want.stages.items():
                np.testing.assert_array_equal(values, have.stages[stage], err_msg=stage)


def test_a_front_end_without_options_has_none_of_them() -> None:
    from mbx_deploy.codegen.project import generate_project
    from mbx_deploy.codegen.target import find_target

    files = generate_project(parse_model(small_artifact(FrontendConfig()), "x"), find_target("host"))
    assert not [path for path in files if "frontend_options" in path]
    tables = files["generated/kws_frontend.c"]
    assert isinstance(tables, str) and "magnitude" not in tables and "options" not in tables
    source = runtime_file("mbx_frontend.c").read_text()
    assert files["src/mbx_frontend.c"] == source
    # The text of the source itself says that there are options: a compiler's cache looks at nothing else.
    asking = generate_project(parse_model(small_artifact(recipe_config("arm-kws")), "x"), find_target("host"))
    assert asking["src/mbx_frontend.c"] != source and "__has_include" not in source


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
        {"sample_gain": 0.0},
        {"sample_gain": 65.0},
        {"spectrum": "complex"},
        {"mel_slopes": "bark"},
        {"mel_first_line": 257},
        {"mel_first_line": -1},
        {"log_guard": "none"},
        {"log_scale": "db"},
        {"dct_norm": "none"},
        {"dct_norm": "htk", "n_mels": 2, "n_mfcc": 2},
        {"log_offset": 1e-13},
        {"log_offset": 1e-12, "preemphasis": 0.9},
        {"log_offset": 1e-10, "sample_gain": 64.0},
    ],
)
def test_bad_values(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        FrontendConfig.from_dict(values)


@pytest.mark.parametrize("gain", [1 / 64, 1.0, 64.0])
def test_logarithms_that_would_leave_the_dct_are_halved(gain: float) -> None:
    """The largest sum that there is: all of 128 filters at the floor, or as loud as can be."""
    offset = 1e-12 if gain <= 1 else 1e-9
    config = FrontendConfig(
        clip_samples=2000, n_mels=128, n_mfcc=128, dct_norm="htk", spectrum="magnitude", log_offset=offset,
        log_guard="clamp", sample_gain=gain,
    )  # fmt: skip
    tables = build_tables(config)
    assert tables.unit == 2.0
    clips = np.stack([np.zeros(2000, np.int16), samples(1, "extremes", 2000)])
    computed = HostFrontend(config, tables).coefficients(clips)
    for clip, coefficients in zip(clips, computed, strict=True):
        np.testing.assert_array_equal(coefficients, sim.coefficients(clip, tables))
    floor = np.log(offset) * np.sqrt(2 * 128)
    assert computed[0, :, 0] * (tables.unit / 65536) == pytest.approx(floor, rel=0.001)
