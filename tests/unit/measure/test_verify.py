"""Engines side by side: each kind of difference is counted, located and named; what is not run is named."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.engines import tflm as engines
from mbx_deploy.engines.engine import Engine
from mbx_deploy.engines.open import build_engines
from mbx_deploy.engines.session import ITEM_CLIP, ITEM_FEATURES, ITEM_STREAM, TRACE_LAYERS, Item, Result
from mbx_deploy.engines.sim import SimEngine
from mbx_deploy.errors import InputError, MbxError, ToolMissing
from mbx_deploy.firmware.folder import Build
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.measure import verify
from mbx_deploy.measure.items import NamedItem, find_clips, hostile_clips, random_features
from mbx_deploy.measure.verify import Comparison, compare_engines
from mbx_deploy.network.program import Convolution, Pointwise
from tests.made.tflite import small_artifact

CONFIG = FrontendConfig(clip_samples=4000, window_length=256, hop_length=128, n_fft=256, n_mels=16, n_mfcc=10)


@pytest.fixture(scope="module")
def small() -> CompiledModel:
    return parse_model(small_artifact(CONFIG), "small")


@pytest.fixture(scope="module")
def items() -> list[NamedItem]:
    noise = np.random.default_rng(1).normal(0, 3000, 3 * 4000).astype(np.int16)
    return [
        NamedItem("first", Item(ITEM_CLIP, noise[:4000])),
        NamedItem("second", Item(ITEM_CLIP, noise[4000:8000])),
        NamedItem("stream", Item(ITEM_STREAM, noise)),
    ]


@dataclass
class Planted:
    """The simulator, with one thing changed in what it answers to the item of a number."""

    model: CompiledModel
    number: int
    change: str
    name: str = "planted"

    def __post_init__(self) -> None:
        self.sim = SimEngine(self.model)
        self.seen: dict[bytes, int] = {}

    def run(self, chosen: Sequence[Item], trace: int = 0) -> list[list[Result]]:
        answers = self.sim.run(chosen, trace)
        for item, windows in zip(chosen, answers, strict=True):
            number = self.seen.setdefault(item.values.tobytes(), len(self.seen))
            if number >= self.number:
                windows[:] = self.changed(windows)
        return answers

    def changed(self, windows: list[Result]) -> list[Result]:
        last = windows[-1]
        if self.change == "window":
            return windows[:-1]
        if self.change == "logits":
            logits = last.logits.copy()
            logits[1] ^= 1
            return [*windows[:-1], replace(last, logits=logits)]
        if self.change == "posteriors":
            posteriors = last.posteriors_q15.copy()
            posteriors[2] += 1
            return [*windows[:-1], replace(last, posteriors_q15=posteriors)]
        stages = dict(last.stages)
        if self.change.startswith("untold "):
            stages.pop(self.change.removeprefix("untold "), None)
        elif self.change.startswith("short "):
            name = self.change.removeprefix("short ")
            stages[name] = stages[name][:-1]
        elif self.change in stages:
            stages[self.change] = stages[self.change].copy()
            stages[self.change].flat[5] ^= 1
        return [*windows[:-1], replace(last, stages=stages)]


def compare(engines: Sequence[Engine], items: Sequence[NamedItem]) -> Comparison:
    comparison = Comparison(len(items), len(items), engines=[engine.name for engine in engines])
    compare_engines(engines, items, comparison)
    return comparison


def test_equal_engines_differ_in_nothing(small: CompiledModel, items: list[NamedItem]) -> None:
    other = SimEngine(small)
    other.name = "c"
    comparison = compare([SimEngine(small), other], items)
    assert comparison.mismatched_bytes == 0
    assert comparison.first_mismatch is None
    assert comparison.digests["sim"] == comparison.digests["c"]
    windows = [windows for item in items for windows in SimEngine(small).run([item.item], TRACE_LAYERS)[0]]
    told = sum(
        sum(v.nbytes for v in w.stages.values()) + w.logits.nbytes + 2 * len(small.labels) + w.event.nbytes
        for w in windows
    )
    assert comparison.compared_bytes == told


@pytest.mark.parametrize(
    ("change", "stage", "index", "differ"),
    [
        ("logits", "logits", [1], 1),
        ("posteriors", "posteriors", [2], 2),
        ("features", "features", [0, 5], 1),
        ("2_conv_2d", "2_conv_2d", [0, 0, 5], 1),
    ],
)
def test_one_changed_value_is_counted_and_located(
    change: str, stage: str, index: list[int], differ: int, small: CompiledModel, items: list[NamedItem]
) -> None:
    comparison = compare([SimEngine(small), Planted(small, 2, change)], items[:2] + items[2:])
    assert comparison.mismatched_bytes == differ
    first = comparison.first_mismatch
    assert first is not None
    assert (first["engine"], first["clip"], first["stage"]) == ("planted", "stream", stage)
    assert first["index"][-len(index) :] == index
    windows = SimEngine(small).run([items[2].item], TRACE_LAYERS)[0]
    assert len(windows) > 1 and first["window"] == len(windows) - 1
    values = {**windows[-1].stages, "logits": windows[-1].logits, "posteriors": windows[-1].posteriors_q15}[stage]
    assert first["expected"] == int(values[tuple(first["index"])])
    assert first["got"] == (first["expected"] + 1 if stage == "posteriors" else first["expected"] ^ 1)
    same = comparison.digests["sim"] == comparison.digests["planted"]
    assert same == (change not in ("logits", "posteriors"))


def test_a_missing_window_is_a_difference(small: CompiledModel, items: list[NamedItem]) -> None:
    comparison = compare([SimEngine(small), Planted(small, 2, "window")], items)
    assert comparison.mismatched_bytes > 0
    first = comparison.first_mismatch
    assert first is not None
    assert (first["clip"], first["stage"], first["got"]) == ("stream", "windows", first["expected"] - 1)


@pytest.mark.parametrize("stage", ["features", "0_depthwise_conv_2d"])
@pytest.mark.parametrize("how", ["untold", "short"])
def test_a_stage_that_is_not_told_whole_is_a_difference(
    how: str, stage: str, small: CompiledModel, items: list[NamedItem]
) -> None:
    comparison = compare([SimEngine(small), Planted(small, 1, f"{how} {stage}")], items)
    assert comparison.mismatched_bytes > 0
    assert comparison.first_mismatch is not None
    assert comparison.first_mismatch["stage"] == stage
    assert comparison.first_mismatch["clip"] == "second"


def test_the_first_difference_is_that_of_the_first_item(small: CompiledModel, items: list[NamedItem]) -> None:
    for number, name in enumerate(("first", "second", "stream")):
        first = compare([SimEngine(small), Planted(small, number, "features")], items).first_mismatch
        assert first is not None and first["clip"] == name


def test_the_first_stage_is_named_and_not_what_follows_from_it(small: CompiledModel, items: list[NamedItem]) -> None:
    for number, layer in enumerate(small.program.calls):
        if not isinstance(layer, Convolution | Pointwise):
            continue
        weights = layer.weights.copy()
        weights.flat[0] ^= 64
        calls = list(small.program.calls)
        calls[number] = replace(layer, weights=weights)
        other = SimEngine(replace(small, program=replace(small.program, calls=tuple(calls))))
        other.name = "c"
        first = compare([SimEngine(small), other], items).first_mismatch
        assert first is not None
        assert (first["engine"], first["stage"]) == ("c", layer.name)


@pytest.mark.parametrize(
    ("table", "stage"),
    [
        ("window_q29", "windowed"),
        ("twiddle_q31", "spectrum"),
        ("mel_weights_q32", "mel"),
        ("log_q24", "log_mel"),
        ("dct_q31", "coefficients"),
    ],
)
def test_a_changed_table_is_traced_to_its_stage(
    table: str, stage: str, small: CompiledModel, items: list[NamedItem]
) -> None:
    values = getattr(small.tables, table).copy()
    values[...] = values // 2
    assert small.hearing is not None
    hearing = replace(small.hearing, tables=replace(small.tables, **{table: values}))
    other = SimEngine(replace(small, hearing=hearing))
    other.name = "c"
    first = compare([SimEngine(small), other], items).first_mismatch
    assert first is not None
    assert first["stage"] == stage
    assert first["expected"] != first["got"]


def test_the_result_says_what_differs_and_what_was_left_out(small: CompiledModel, items: list[NamedItem]) -> None:
    comparison = compare([SimEngine(small), Planted(small, 0, "logits")], items)
    comparison.skipped["firmware"] = "qemu-system-arm is not installed"
    text = verify.render_comparison(comparison)
    assert "left out: firmware, because qemu-system-arm is not installed" in text
    assert f"DIFFERENT: {comparison.mismatched_bytes:,} of {comparison.compared_bytes:,} bytes" in text
    assert "first: first, stage logits, index [1]: sim " in text
    assert "0 differ" not in text


@pytest.fixture
def a_build(small: CompiledModel, tmp_path: Path) -> Build:
    return Build(tmp_path, small, find_target("cortex-m4"), 25, {})


def test_a_machine_with_nothing_to_compare_with_is_told(
    a_build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing() -> None:
        raise ToolMissing("the package tflite-micro is not installed")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(engines, "import_tflm", missing)
    with pytest.raises(ToolMissing, match=r"nothing to compare the simulator with: c: gcc.*firmware: .*tflm: "):
        verify.verify(a_build)


def test_an_engine_that_is_missing_is_left_out_by_name(
    a_build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found, skipped = build_engines(a_build)
    assert [engine.name for engine in found] == ["sim", "tflm"]
    assert "gcc is not installed" in skipped["c"]
    assert "holds no firmware" in skipped["firmware"]


def test_hostile_clips_hold_what_no_recording_is_like(small: CompiledModel) -> None:
    clips = {named.name.removeprefix("hostile: "): named.item for named in hostile_clips(small)}
    length = small.config.clip_samples
    assert all(item.kind == ITEM_CLIP and item.values.dtype == np.int16 for item in clips.values())
    assert not clips["silence"].values.any() and clips["silence"].values.size == length
    assert set(clips["full-scale square wave"].values.tolist()) == {32767, -32768}
    assert set(clips["all -32768"].values.tolist()) == {-32768}
    assert np.ptp(clips["white noise"].values.astype(int)) > 65000
    assert np.count_nonzero(clips["impulse"].values) == 1
    assert clips["8 samples"].values.size == 8
    assert clips["no samples"].values.size == 0
    assert clips["1.5 clips, the loudest window"].values.size == length
    again = hostile_clips(small)
    assert all(np.array_equal(a.item.values, b.item.values) for a, b in zip(hostile_clips(small), again, strict=True))


def test_random_features_reach_both_ends(small: CompiledModel) -> None:
    found = random_features(small, 3)
    assert [named.item.kind for named in found] == [ITEM_FEATURES] * 5
    values = np.concatenate([named.item.values for named in found])
    assert (values.min(), values.max()) == (-128, 127)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_clips_are_those_of_the_testing_list(tmp_path: Path) -> None:
    touch(tmp_path, "yes/b.flac", "no/a.wav", "yes/unlisted.wav", "up/c.ogg")
    listed = tmp_path / "testing_list.txt"
    (tmp_path / "validation_list.txt").touch()
    listed.write_text("yes/b.wav\n\nno/a.wav\r\nup/c.wav\n")
    assert [clip.name for clip in find_clips(tmp_path, None)] == ["no/a.wav", "up/c.ogg", "yes/b.flac"]
    assert [clip.name for clip in find_clips(listed, None)] == ["yes/b.wav", "no/a.wav", "up/c.wav"]
    listed.write_text("yes/b.wav\ngone/d.wav\n")
    with pytest.raises(InputError, match=r"testing_list.txt:2.*gone/d.wav"):
        find_clips(tmp_path, None)


def test_without_a_list_all_recordings_below_count(tmp_path: Path) -> None:
    touch(tmp_path, "b.WAV", "a/c.flac", "a/b/d.ogg", "notes.txt")
    assert [clip.name for clip in find_clips(tmp_path, None)] == ["a/b/d.ogg", "a/c.flac", "b.WAV"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 9, 10, 11, 1000])
def test_a_limit_is_spread_evenly(limit: int, tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.wav" for number in range(10)))
    numbers = [int(clip.path.stem) for clip in find_clips(tmp_path, limit)]
    assert len(numbers) == min(limit, 10)
    assert numbers == sorted(set(numbers)) and numbers[0] == 0
    assert max(np.diff([*numbers, 10])) - min(np.diff([*numbers, 10])) <= 1


@pytest.mark.parametrize("what", ["missing", "a file", "empty", "list of nothing", "list in no UTF-8", "name too long"])
def test_a_folder_without_recordings_is_the_users_error(what: str, tmp_path: Path) -> None:
    folder = tmp_path / ("n" * 300 if what == "name too long" else "data")
    if what == "a file":
        folder.write_text("")
    elif what not in ("missing", "name too long"):
        touch(folder, "notes.txt")
    if what.startswith("list"):
        (folder / "testing_list.txt").write_bytes(b"a.wav\n" if "nothing" in what else b"\xff\xfe.wav\n")
    with pytest.raises(InputError) as caught:
        find_clips(folder, 5)
    assert isinstance(caught.value, MbxError) and caught.value.exit_code == 2
    assert caught.value.hint
