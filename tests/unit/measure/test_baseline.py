"""The baseline's file, budgets, and what compare() calls a regression."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.errors import CheckFailed, InputError
from mbx_deploy.firmware.budgets import Budgets, parse_bytes, parse_count
from mbx_deploy.measure.baseline import Baseline, Margins, Recordings, read_baseline, write_baseline
from mbx_deploy.measure.checks import Check, compare
from mbx_deploy.measure.fingerprint import Fingerprint, changed
from mbx_deploy.measure.stream_budgets import HeardBudgets, Streams

BASELINE = Baseline(
    labels=("go", "stop", "unknown"),
    frontend_digest="f" * 64,
    model_digest="0" * 64,
    target="cortex-m4",
    data=Recordings("../data", "testing", None, 100, "abc"),
    margins=Margins(),
    budgets=Budgets(100_000, 30_000, 9_000_000),
    constants={"table mel": "1", "layer conv": "2"},
    stages={
        "synthetic": Fingerprint(20, {"mel": "1", "features": "2", "logits": "3"}),
        "recordings": Fingerprint(16, {"mel": "4", "features": "5", "logits": "6"}),
    },
    measured={
        "accuracy": 0.95,
        "command_accuracy": 0.96,
        "float_accuracy": 0.952,
        "float_command_accuracy": 0.961,
        "agreement": 0.99,
        "flash_bytes": 90_000,
        "ram_bytes": 28_000,
        "instructions": 8_000_000,
    },
)


def failed(now: Baseline, allow_changed_bytes: bool = False) -> list[str]:
    checks = compare(BASELINE, now, allow_changed_bytes)
    return [check.name for check in checks if check.passed is False]


STREAMS = replace(
    BASELINE,
    measured={**BASELINE.measured, "false_accepts_per_hour": 2.0, "miss_rate": 0.05},
    streams=Streams("../long", 3, "abc", HeardBudgets(3.0, 0.1)),
)


def measured(**values: float) -> Baseline:
    return replace(BASELINE, measured={**BASELINE.measured, **values})


def test_a_baseline_comes_back_as_it_was(tmp_path: Path) -> None:
    without = replace(BASELINE, data=None, stages={"synthetic": BASELINE.stages["synthetic"]})
    for baseline in (BASELINE, without, STREAMS):
        write_baseline(tmp_path / "b.json", baseline)
        assert read_baseline(tmp_path / "b.json") == baseline
        assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    assert read_baseline(tmp_path / "none.json") is None


def _without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.pop(key)


@pytest.mark.parametrize(
    "spoil",
    [
        *(_without(key) for key in json.loads(BASELINE.to_json()) if key != "format"),
        lambda values: values.update(labels=[]),
        lambda values: values.update(labels=["go", 1]),
        lambda values: values["data"].update(clips=-1),
        lambda values: values["data"].update(digest=None),
        lambda values: values.update(data=None),
        lambda values: values["budgets"].update(cookies=3),
        lambda values: values["budgets"].update(flash_bytes="96K"),
        lambda values: values["margins"].update(accuracy="none"),
        lambda values: values["measured"].update(accuracy=None),
        lambda values: values["measured"].update(accuracy=True),
        lambda values: values["stages"].pop("synthetic"),
        lambda values: values.update(stages=[]),
        lambda values: values.update(constants={"a": 1}),
    ],
)
def test_a_damaged_baseline_is_named(spoil: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    values = json.loads(BASELINE.to_json())
    spoil(values)
    (tmp_path / "b.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"the baseline is damaged .*b\.json"):
        read_baseline(tmp_path / "b.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"[]", b'{"format": 2}', b"1"])
def test_what_is_no_baseline_stays_and_exits_with_2(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(content)
    for options in ([], ["--update"]):
        result = CliRunner().invoke(cli, ["regress", "kws10", "--baseline", str(path), *options])
        assert result.exit_code == 2 and result.stdout == ""
        error, hint = result.stderr.splitlines()
        assert error.startswith("error: ") and "baseline" in error and hint.startswith("  hint: ")
        assert path.read_bytes() == content


def test_the_same_is_no_regression() -> None:
    assert failed(BASELINE) == []
    names = [check.name for check in compare(BASELINE, BASELINE, False)]
    assert names[0] == "bytes" and {"flash", "RAM", "instructions per inference"} <= set(names)


@pytest.mark.parametrize(
    ("now", "names"),
    [
        (measured(accuracy=0.9451), []),
        (measured(accuracy=0.9449), ["accuracy, all clips"]),
        (measured(command_accuracy=0.9549), ["accuracy, command words"]),
        (measured(float_accuracy=0.9601), ["int8 against float"]),
        (measured(agreement=0.979), ["same word as float"]),
        (measured(flash_bytes=100_000, ram_bytes=30_000, instructions=9_000_000), []),
        (measured(flash_bytes=100_001), ["flash"]),
        (measured(ram_bytes=30_001), ["RAM"]),
        (measured(instructions=9_000_001), ["instructions per inference"]),
        (replace(BASELINE, constants={"table mel": "9", "layer conv": "2"}), ["bytes"]),
        (
            replace(BASELINE, stages={**BASELINE.stages, "firmware": Fingerprint(20, {"mel": "1", "logits": "8"})}),
            ["firmware"],
        ),
    ],
)
def test_what_fell_behind_is_named(now: Baseline, names: list[str]) -> None:
    assert failed(now) == names


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"false_accepts_per_hour": 3.0, "miss_rate": 0.1}, []),
        ({"false_accepts_per_hour": 3.01}, ["false accepts an hour"]),
        ({"miss_rate": 0.101}, ["missed words"]),
        ({"miss_rate": None}, []),
    ],
)
def test_budgets_of_long_recordings(values: dict[str, float | None], names: list[str]) -> None:
    now = replace(STREAMS, measured={**STREAMS.measured, **values})
    assert [check.name for check in compare(STREAMS, now, False) if check.passed is False] == names


def test_long_recordings_that_are_left_out_are_told() -> None:
    told = [check for check in compare(STREAMS, BASELINE, False) if check.passed is None]
    assert [check.name for check in told] == ["long recordings"]


def test_the_first_stage_that_changed_is_named() -> None:
    stages = {**BASELINE.stages, "synthetic": Fingerprint(20, {"mel": "1", "features": "9", "logits": "9"})}
    now = replace(BASELINE, stages=stages, constants={"table mel": "1", "layer conv": "7"})
    check = compare(BASELINE, now, False)[0]
    told = "changed in constants: layer conv; synthetic inputs: first at stage features, 2 of 3 stages"
    assert check == Check("bytes", False, told)
    assert failed(now, allow_changed_bytes=True) == []
    assert changed({"a": "1", "b": "2"}, {"a": "1", "c": "3"}) == ["c", "b"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("98304", 98304), ("96K", 98304), ("96k", 98304), ("96 KiB", 98304), ("1M", 1 << 20), ("0.5K", 512)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "count"), [("9000000", 9_000_000), ("9M", 9_000_000), ("9.5M", 9_500_000), ("8.2M", 8_200_000)]
)
def test_counts(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "K", "96X", "1.5", "nan", "1e6", "9" * 30, "96 K B"])
def test_what_is_no_size_is_told_by_click(text: str) -> None:
    result = CliRunner().invoke(cli, ["build", "--target", "host", "--max-flash", text])
    assert result.exit_code == 2 and "Usage: " in result.stderr and "Traceback" not in result.stderr


def test_a_budget_says_what_it_got_and_needs() -> None:
    needs: dict[str, int | None] = {"flash_bytes": 110_180, "ram_bytes": 28_480, "instructions": None}
    Budgets(110_180, 28_480, 1).check(needs, "cortex-m4")
    with pytest.raises(CheckFailed, match=r"flash \(--max-flash\): got 110,180 bytes, need at most 98,304") as caught:
        Budgets(flash_bytes=98_304).check(needs, "cortex-m4")
    assert caught.value.exit_code == 1
