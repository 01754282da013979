"""The generated program under AddressSanitizer and UndefinedBehaviorSanitizer: hostile audio and networks, misuse."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.engines.c import HostEngine, ProgramEngine
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, ITEM_STREAM, TRACE_LAYERS, TRACE_STAGES, Item
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.measure.items import network_items
from mbx_deploy.system.tools import compile_program
from tests.made.foreign_networks import foreign_network
from tests.made.random_networks import random_recognizer
from tests.made.tflite import Network, metadata_for, random_weights, small_artifact
from tests.parity.test_frontend_c import SIGNALS, signal

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
# float-divide-by-zero and the rest that "undefined" leaves out; what gcc has of clang's integer checks is -ftrapv's.
SANITIZERS = (
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fsanitize=float-divide-by-zero,float-cast-overflow,bounds-strict,alignment,shift,signed-integer-overflow",
    "-fno-sanitize-recover=all",
)
CONFIGS = {
    "centred": FrontendConfig(clip_samples=1000, window_length=64, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4),
    "early": FrontendConfig(clip_samples=995, window_length=64, hop_length=60, n_fft=64, n_mels=7, n_mfcc=7),
    "not centred": FrontendConfig(
        clip_samples=1000, window_length=100, hop_length=50, n_fft=128, center=False, n_mels=9, n_mfcc=0
    ),
    "large": FrontendConfig(clip_samples=5000, window_length=2048, hop_length=500, n_fft=2048, n_mels=127, n_mfcc=65),
}


def sources_of(recognizer: CompiledModel, prefix: str = "kws", stride: int = 3) -> dict[str, str]:
    """Return the C of a project for this machine."""
    files: dict[str, Any] = generate_project(recognizer, find_target("host"), prefix, stride)
    return {name: text for name, text in files.items() if name.endswith((".c", ".h"))}


def sanitized(recognizer: CompiledModel) -> ProgramEngine:
    """Return the engine of a program with sanitizers."""
    return ProgramEngine(recognizer, compile_program(sources_of(recognizer), SANITIZERS))


def compare(engine: ProgramEngine, items: list[Item]) -> None:
    """Run items; a sanitizer's report ends the program with another code than 0, which the engine raises."""
    expected = SimEngine(engine.model, 3).run(items)
    for got, want in zip(engine.run(items, TRACE_STAGES), expected, strict=True):
        assert [result.logits.tolist() for result in got] == [result.logits.tolist() for result in want]


@pytest.fixture(scope="module", params=CONFIGS)
def engine(request: pytest.FixtureRequest) -> ProgramEngine:
    """A program with sanitizers, for each configuration."""
    return sanitized(parse_model(small_artifact(CONFIGS[request.param]), request.param))


def test_the_sanitizers_are_awake() -> None:
    """A program that overflows, or reads beside an array, ends with a report."""
    overflow = "int main(int c, char **v) { (void)v; int x = 2147483647; x += c; return x == 5; }"
    beside = "int a[4]; int main(int c, char **v) { (void)v; return a[c + 3]; }"
    for text in (overflow, beside):
        done = subprocess.run([str(compile_program({"a.c": text}, SANITIZERS))], capture_output=True, check=False)
        assert done.returncode != 0 and (b"runtime error" in done.stderr or b"AddressSanitizer" in done.stderr)


def test_hostile_audio(engine: ProgramEngine) -> None:
    config = engine.model.config
    clip, lead = config.clip_samples, config.lead
    counts = (0, 1, 7, lead, lead + 1, config.window_length, clip - 1, clip, clip + 1)
    items = [Item(ITEM_CLIP, signal("noise", count, config, 1)) for count in counts if count]
    items.append(Item(ITEM_CLIP, np.zeros(0, np.int16)))
    for number, kind in enumerate(SIGNALS):
        items.append(Item(ITEM_CLIP, signal(kind, clip, config, number), (1, 33, 512)[number % 3]))
        items.append(Item(ITEM_STREAM, signal(kind, 2 * clip + number, config, number), (512, 1, 77)[number % 3]))
    compare(engine, items)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_drawn_audio(engine: ProgramEngine, data: st.DataObject) -> None:
    config = engine.model.config
    items = []
    for _ in range(12):
        kind, seed = data.draw(st.sampled_from(SIGNALS)), data.draw(st.integers(0, 999))
        samples = signal(kind, data.draw(st.integers(1, 3 * config.clip_samples)), config, seed)
        items.append(
            Item(data.draw(st.sampled_from((ITEM_CLIP, ITEM_STREAM))), samples, data.draw(st.integers(1, 512)))
        )
    compare(engine, items)


def hostile_network(seed: int) -> bytes:
    """Return an artifact with odd shapes, all paddings, extreme zero points and multipliers, and large biases."""
    rng = np.random.default_rng(seed)
    config = CONFIGS["centred"]
    network = Network()
    x = network.activation((1, 1, config.num_frames, 4), 0.3, int(rng.choice((-128, 127, 0))))
    for _ in range(5):
        inside = network.shape(x)[3]
        depthwise = bool(rng.integers(2))
        kernel = (int(rng.integers(1, 3)), int(rng.integers(1, 40)))
        outside = inside * int(rng.integers(1, 3)) if depthwise else int(rng.integers(1, 19))
        if outside > 40:
            depthwise, outside = False, 3
        weights = random_weights(rng, (1, *kernel, outside) if depthwise else (outside, *kernel, inside))
        scales = 10.0 ** rng.uniform(-7, -1, outside)  # shifts of both signs, and outputs that saturate
        limit = 10 ** int(rng.integers(1, 8))
        x = network.conv_2d(
            x, weights, scales.tolist(), rng.integers(-limit, limit, outside), float(rng.choice((0.01, 1.0, 9.0))),
            int(rng.choice((-128, 127, 5))), stride=(1, int(rng.integers(1, 3))),
            dilation=(int(rng.integers(1, 3)), int(rng.integers(1, 4))),
            activation=str(rng.choice(("NONE", "RELU", "RELU6"))), depthwise=depthwise,
        )  # fmt: skip
    x = network.add(x, x, network.scale(x) * 1.5, -128)
    x = network.mean(x, network.scale(x) * float(rng.choice((0.1, 1, 10))), 127)
    weights = random_weights(rng, (3, network.shape(x)[1]))
    x = network.fully_connected(x, weights, [0.01], np.array([5, -(10**6), 10**6]), 0.5, -128)
    return network.build(x, metadata_for(config, ("no", "yes", "silence")))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_hostile_networks(seed: int) -> None:
    recognizer = parse_model(hostile_network(seed), f"hostile {seed}")
    rng = np.random.default_rng(seed)
    count = recognizer.config.num_frames * recognizer.config.num_coefficients
    items = [Item(ITEM_FEATURES, rng.integers(-128, 128, count, dtype=np.int8)) for _ in range(10)]
    items += [Item(ITEM_FEATURES, np.full(count, value, np.int8)) for value in (-128, 127)]
    compare(sanitized(recognizer), items)


def check_network_of_a_core(seed: int) -> None:
    """The kernels of a core with the DSP extension, as this machine runs them."""
    recognizer = random_recognizer(seed)
    target = replace(find_target("host"), kernels="dsp")
    files: dict[str, Any] = generate_project(recognizer, target, stride_frames=1)
    sources = {name: text for name, text in files.items() if name.endswith((".c", ".h"))}
    assert re.search(r"mbx_(pointwise|conv_2d|depthwise)\w*_dsp\(&call_", sources["generated/kws.c"])
    rng = np.random.default_rng(seed)
    count = recognizer.config.num_frames * recognizer.config.num_coefficients
    items = [Item(ITEM_FEATURES, rng.integers(-128, 128, count, dtype=np.int8)) for _ in range(5)]
    items += [Item(ITEM_FEATURES, np.full(count, value, np.int8)) for value in (-128, 127)]
    compare(ProgramEngine(recognizer, compile_program(sources, SANITIZERS)), items)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_networks_of_a_core(seed: int) -> None:
    check_network_of_a_core(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_more_networks_of_a_core(seed: int) -> None:
    check_network_of_a_core(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 30))
def test_more_hostile_networks(seed: int) -> None:
    test_hostile_networks(seed)


def test_misuse() -> None:
    """tests/parity/c/misuse.c in the place of the program's own main()."""
    recognizer = parse_model(small_artifact(CONFIGS["centred"]), "x")
    sources = {name: text for name, text in sources_of(recognizer).items() if not name.startswith("board/")}
    sources["misuse.c"] = (FOLDER / "misuse.c").read_text()
    done = subprocess.run([str(compile_program(sources, SANITIZERS))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"line {done.returncode} of misuse.c"


def test_two_models_in_one_program() -> None:
    """Each gives what it gives alone, and the runtime is there once."""
    rng_state, samples = 1, []
    for _ in range(5000):
        rng_state = (rng_state * 1664525 + 1013904223) % (1 << 32)
        samples.append((rng_state >> 16) - 32768)
    sources: dict[str, str] = {}
    expected = ""
    for prefix, config, seed in (("left", CONFIGS["centred"], 1), ("right", CONFIGS["large"], 2)):
        labels = ("a", "b", "c", "d")[: 2 + seed]
        recognizer = parse_model(small_artifact(config, labels, seed), prefix)
        own = sources_of(recognizer, prefix)
        sources |= {name: text for name, text in own.items() if not name.startswith("board/")}
        clip = np.array(samples[: config.clip_samples], np.int16)
        result = SimEngine(recognizer).run([Item(ITEM_CLIP, clip)])[0][0]
        expected += " ".join([prefix, labels[result.label], *map(str, result.logits.tolist())]) + "\n"
    sources["two_models.c"] = (FOLDER / "two_models.c").read_text()
    done = subprocess.run([str(compile_program(sources, SANITIZERS))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


@pytest.mark.parametrize("seed", range(4))
def test_foreign_networks(seed: int) -> None:
    """Networks of every op, without a front end."""
    network = foreign_network(seed)
    engine = HostEngine(network, flags=SANITIZERS)
    items = [named.item for named in network_items(network, None)]
    for got, want in zip(engine.run(items, TRACE_LAYERS), SimEngine(network).run(items), strict=True):
        assert got[0].logits.tolist() == want[0].logits.tolist()
