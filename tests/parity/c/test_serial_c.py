"""The device's side of the serial protocol, compiled here with sanitizers: any bytes, any messages, damage."""

import struct
import subprocess
import time
from collections.abc import Generator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.engines.device import DeviceEngine
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, ITEM_STREAM, TRACE_LAYERS, Item, Result
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.errors import InputError, MbxError
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.serial import messages
from mbx_deploy.serial.frames import Frame, FrameReader, encode_frame
from mbx_deploy.serial.link import Link
from mbx_deploy.serial.messages import Hello, parse_message
from mbx_deploy.serial.monitor import MonitorOptions, monitor
from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.tools import compile_program, find_tool
from tests.made.serial_lines import DamagingLine, PipedDevice, device_program
from tests.made.tflite import small_artifact
from tests.parity.c.test_sanitizers import SANITIZERS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")]
FOLDER = Path(__file__).parent
CONFIG = FrontendConfig(clip_samples=1000, window_length=64, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4)
LIGHT = {"lost": 3e-4, "changed": 3e-4, "repeated": 3e-4, "swapped": 0.01}
HEAVY = {"lost": 1e-3, "changed": 1e-3, "repeated": 1e-3, "swapped": 0.05}
HOPELESS = {"changed": 0.05}


@pytest.fixture(scope="module")
def frames() -> Path:
    """tests/parity/c/frames.c, with sanitizers."""
    serial = firmware_templates_folder() / "parts" / "serial"
    sources = {name: (serial / name).read_text() for name in ("mbx_frame.c", "mbx_frame.h")}
    return compile_program(sources | {"frames.c": (FOLDER / "frames.c").read_text()}, SANITIZERS)


FRAMES = st.builds(encode_frame, st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=256))


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Frames with noise between them, some damaged."""
    parts = draw(st.lists(st.one_of(FRAMES, FRAMES, st.binary(max_size=700), st.just(b"\0\0")), max_size=8))
    stream = bytearray(b"".join(parts))
    for place in draw(st.lists(st.integers(0, 4000), max_size=3)):
        if place < len(stream):
            stream[place] ^= draw(st.integers(1, 255))
    return bytes(stream)


@settings(max_examples=60, deadline=None)
@given(st.lists(streams(), min_size=1, max_size=10))
def test_c_and_python_find_the_same_frames_in_any_bytes(frames: Path, parts: list[bytes]) -> None:
    stream = b"".join(parts)
    done = subprocess.run([str(frames)], input=stream, capture_output=True, check=False)
    reader = FrameReader()
    found = [encode_frame(frame.type, frame.sequence, frame.body) for frame in reader.take(stream)]
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"".join(found)
    assert int(done.stderr) == reader.damaged


@pytest.fixture(scope="module")
def recognizer() -> CompiledModel:
    """A small model."""
    return parse_model(small_artifact(CONFIG), "small.tflite")


@pytest.fixture(scope="module")
def program(recognizer: CompiledModel) -> Path:
    """The firmware's application, its port stdin and stdout."""
    return device_program(recognizer, SANITIZERS)


@pytest.fixture(scope="module")
def hearing(recognizer: CompiledModel) -> Path:
    """The same, of a board with a microphone."""
    return device_program(recognizer, SANITIZERS, microphone=True)


@pytest.fixture
def device(program: Path) -> Generator[PipedDevice]:
    """A device; that no sanitizer complained is checked at its end."""
    made = PipedDevice(program)
    yield made
    code, complaint = made.close()
    assert (code, complaint) == (0, "")


def some_items() -> list[Item]:
    random = np.random.default_rng(5)
    noise = random.integers(-20000, 20000, 2333).astype(np.int16)
    features = random.integers(-128, 128, 4 * 32).astype(np.int8)
    clips = [Item(ITEM_CLIP, noise[:count], block) for count, block in ((1000, 512), (999, 7), (1, 1), (0, 160))]
    return [*clips, Item(ITEM_STREAM, noise, 37), Item(ITEM_FEATURES, features)]


def assert_equal(got: list[list[Result]], want: list[list[Result]]) -> None:
    assert [len(results) for results in got] == [len(results) for results in want]
    for left, right in zip(chain(*got), chain(*want), strict=True):
        np.testing.assert_array_equal(left.logits, right.logits)
        np.testing.assert_array_equal(left.posteriors_q15, right.posteriors_q15)
        np.testing.assert_array_equal(left.event, right.event)


def test_a_device_says_what_the_simulator_says(device: PipedDevice, recognizer: CompiledModel) -> None:
    engine = DeviceEngine(recognizer, Link(device))
    got = engine.run(some_items(), TRACE_LAYERS)
    want = SimEngine(recognizer, 25).run(some_items(), TRACE_LAYERS)
    assert_equal(got, want)
    for left, right in zip(chain(*got), chain(*want), strict=True):
        np.testing.assert_array_equal(left.stages["features"], right.stages["features"])
        assert len(left.checksums) == len(recognizer.program.calls)
    assert (engine.link.lost, engine.link.damaged) == (0, 0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("rates", [LIGHT, HEAVY, HOPELESS], ids=["light", "heavy", "hopeless"])
def test_a_line_that_damages_gives_right_results_or_none(
    rates: dict[str, float], seed: int, device: PipedDevice, recognizer: CompiledModel
) -> None:
    items = some_items()[:: 1 if rates is LIGHT else 4]
    started = time.monotonic()
    try:
        engine = DeviceEngine(recognizer, Link(DamagingLine(device, seed, rates)))
        got = engine.run(items, TRACE_LAYERS)
    except MbxError as error:
        assert rates is not LIGHT, error
        assert time.monotonic() - started < 90
        return
    assert rates is not HOPELESS
    assert_equal(got, SimEngine(recognizer, 25).run(items, TRACE_LAYERS))


KINDS = st.sampled_from([*range(0x01, 0x0A), 0x00, 0x0A, 0x81, 0xFF])
NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 128, 240, 999, 1000, 2000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, bytes]:
    """A message that a host may send, or something near it: few tokens and offsets, so that they meet."""
    kind = draw(KINDS)
    token, number = draw(st.integers(0, 2)), draw(NUMBERS)
    size = draw(st.integers(0, 240))
    body = {
        messages.BEGIN: struct.pack("<IBH", token, draw(st.integers(0, 3)), number & 0xFFFF),
        messages.VALUES: struct.pack("<IHI", token, draw(st.integers(0, 2)), number) + bytes(size),
        messages.FINISH: struct.pack("<IHII", token, draw(st.integers(0, 2)), number, draw(NUMBERS)),
        messages.READ: struct.pack("<IHBI", token, draw(st.integers(0, 2)), draw(st.integers(0, 4)), number),
        messages.LIVE: struct.pack("<I", draw(st.sampled_from([0, 120, 240, number]))) + bytes(size),
    }.get(kind, struct.pack("<I", token))
    return kind, body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 4)) == 0 else body


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(requests(), max_size=60))
def test_any_messages_leave_the_device_alive(program: Path, sent: list[tuple[int, bytes]]) -> None:
    device = PipedDevice(program)
    try:
        link = Link(device)
        link.hello()
        for kind, body in sent:
            link.send(kind, body)
        link.leave()
        assert link.hello().target == "cortex-m4"
    finally:
        code, complaint = device.close()
    assert (code, complaint) == (0, "")


def test_the_port_carries_text_until_a_host_asks(hearing: Path) -> None:
    device = PipedDevice(hearing)
    time.sleep(0.3)
    first = device.read(1.0)
    assert b"\0" not in first
    assert Link(device).hello().classes == 3
    assert device.close() == (0, "")


def test_another_version_is_told_and_named(device: PipedDevice) -> None:
    device.write(encode_frame(messages.PING, 0, messages.ping(7), version=2))
    reader = FrameReader()
    found: list[Frame] = []
    while not found:
        found = [frame for frame in reader.take(device.read(2.0)) if frame.type == messages.HELLO]
    assert found[0].version == 1  # the host sees which one is spoken
    assert isinstance(parse_message(found[0].type, found[0].body), Hello)


def test_another_model_or_build_is_refused(device: PipedDevice, recognizer: CompiledModel) -> None:
    other = parse_model(small_artifact(CONFIG, seed=1), "other.tflite")
    with pytest.raises(InputError, match="another model"):
        DeviceEngine(other, Link(device))
    build = Link(device).hello().build
    DeviceEngine(recognizer, Link(device), build)
    with pytest.raises(InputError, match="another build"):
        DeviceEngine(recognizer, Link(device), build ^ 1)


def test_the_microphone_is_recorded(hearing: Path, tmp_path: Path) -> None:
    import soundfile

    device = PipedDevice(hearing)
    events: list[dict[str, object]] = []
    summary = monitor(Link(device), MonitorOptions(1.0, tmp_path / "heard.wav"), events.append)
    assert device.close() == (0, "")
    samples, rate = soundfile.read(tmp_path / "heard.wav", dtype="int16")
    assert rate == 16000
    assert len(samples) > 1600
    assert summary["recorded_s"] == len(samples) / rate
    steps = np.unique(np.diff(samples.astype(int)))
    assert summary["missing_samples"] or set(steps) == {512, -63 * 512}  # the sawtooth, without a gap
    assert {"hello", "level", "scores", "end"} <= {event["event"] for event in events}
    level = next(event for event in events if event["event"] == "level")
    assert level["peak_dbfs"] == pytest.approx(20 * np.log10(63 * 512 / 32768), abs=0.1)
    assert level["rms_dbfs"] == pytest.approx(20 * np.log10(np.sqrt((np.arange(64.0) ** 2).mean()) / 64), abs=0.2)


def test_a_recording_is_played_and_heard(device: PipedDevice, tmp_path: Path) -> None:
    import soundfile

    noise = np.random.default_rng(6).integers(-9000, 9000, 4000).astype(np.int16)
    line = DamagingLine(device, 1, {"lost": 1e-4, "changed": 1e-4})
    summary = monitor(Link(line), MonitorOptions(None, tmp_path / "back.wav", noise), lambda event: None)
    samples, _ = soundfile.read(tmp_path / "back.wav", dtype="int16")
    assert summary["recorded_s"] > 0.2
    # What arrived is what was played; what did not is silence, and counted.
    missing = samples != np.concatenate([noise, np.zeros(8000, np.int16)])[: len(samples)]
    assert missing.sum() <= summary["missing_samples"]
