"""regress catches planted faults, each with the stage where it begins; budgets; baselines of other models and data."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite
from click.testing import CliRunner, Result

from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler import model as recognizer
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.frontend import tables as frontend
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.tables import FrontendTables
from mbx_deploy.measure import regress as regression
from mbx_deploy.measure.profile.inference import count_inference
from mbx_deploy.network.program import multiply_accumulates
from mbx_deploy.system.resources import shipped_model_path
from tests.made.builds import sign_again

pytestmark = pytest.mark.timeout(300)


def regress(model: object, baseline: Path, *arguments: object) -> Result:
    return CliRunner().invoke(cli, ["regress", str(model), "--baseline", str(baseline), *map(str, arguments)])


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory, small_data: Path, m4_build: Build) -> Path:
    """Of the shipped model and a dozen recordings."""
    path = tmp_path_factory.mktemp("baseline") / "kws10.json"
    result = regress(m4_build.folder, path, "--data", small_data, "--update")
    assert result.exit_code == 0, result.output
    return path


def test_the_same_model_is_no_regression(baseline: Path, m4_build: Build, tmp_path: Path) -> None:
    before = baseline.read_bytes()
    for model in ("kws10", m4_build.folder):
        result = regress(model, baseline, "--json", tmp_path / "r.json")  # it knows where its recordings are
        assert result.exit_code == 0, result.output
        told = json.loads((tmp_path / "r.json").read_text())
        assert told["passed"] and all(check["passed"] for check in told["checks"])
        assert {"bytes", "firmware", "accuracy, all clips", "flash", "RAM", "instructions per inference"} <= {
            c["name"] for c in told["checks"]
        }
    assert baseline.read_bytes() == before


def flipped_weight(data: bytearray, model: CompiledModel) -> str:
    """Change the sign of one weight of the layer with most of them; return the layer's name."""
    sizes = {call.name: call.weights.size for call in model.program.calls if hasattr(call, "weights")}
    name = max(sizes, key=lambda key: sizes[key])
    weights = next(call.weights for call in model.program.calls if call.name == name)  # type: ignore[union-attr]
    start = bytes(data).find(weights.tobytes())
    assert start >= 0
    where = start + int(
        np.flatnonzero(np.abs(weights.ravel()) == np.sort(np.abs(weights.ravel()))[weights.size // 2])[0]
    )
    data[where] = 256 - data[where]
    return name


def moved_zero_point(data: bytearray, model: CompiledModel) -> str:
    """Move the zero point of the input by one."""
    graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
    points = graph.Tensors(graph.Inputs(0)).Quantization().ZeroPointAsNumpy()
    points += 1 if points[0] < 127 else -1
    return "features"


def moved_inner_zero_point(data: bytearray, model: CompiledModel) -> str:
    """Move the zero point of the last activation but the logits by one."""
    graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
    operator = graph.Operators(graph.OperatorsLength() - 1)
    graph.Tensors(operator.Outputs(0)).Quantization().ZeroPointAsNumpy()[:] += 1
    return model.program.calls[-1].name


@pytest.mark.parametrize("plant", [flipped_weight, moved_zero_point, moved_inner_zero_point], ids=lambda f: f.__name__)
def test_a_fault_in_the_model_is_caught_at_its_stage(
    plant: Callable[[bytearray, CompiledModel], str], baseline: Path, shipped: CompiledModel, tmp_path: Path
) -> None:
    data = bytearray(shipped.data)
    stage = plant(data, shipped)
    assert sum(a != b for a, b in zip(data, shipped.data, strict=True)) == 1
    (tmp_path / "bad.tflite").write_bytes(data)
    result = regress(tmp_path / "bad.tflite", baseline, "--json", tmp_path / "r.json")
    assert result.exit_code == 1, result.output
    told = {check["name"]: check for check in json.loads((tmp_path / "r.json").read_text())["checks"]}
    assert told["bytes"]["passed"] is False
    assert f"synthetic inputs: first at stage {stage}," in told["bytes"]["told"]
    assert "REGRESSED: bytes" in result.stdout
    assert told["accuracy, all clips"]["told"].endswith("points)")  # stands beside it


def test_an_entry_of_the_mel_table_that_is_5_percent_off_is_caught(
    baseline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build_tables = frontend.build_tables

    def spoiled(config: FrontendConfig) -> FrontendTables:
        tables = build_tables(config)
        entry = tables.mel_weights_q32.size // 2
        tables.mel_weights_q32[entry] = np.uint32(int(tables.mel_weights_q32[entry]) * 0.95)
        return tables

    monkeypatch.setattr(recognizer, "build_tables", spoiled)
    result = regress("kws10", baseline, "--skip-accuracy")
    assert result.exit_code == 1, result.output
    assert "constants: table mel_weights_q32; synthetic inputs: first at stage mel," in result.stdout


def test_a_fault_in_a_builds_own_tables_is_caught(baseline: Path, m4_build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "patched"
    shutil.copytree(m4_build.folder, folder)
    path = folder / "generated" / "kws_frontend.c"
    text = path.read_text()
    array = re.search(r"mel_weights[^{]*\{([^}]*)\}", text)
    assert array
    entry = sorted(re.findall(r"\d+(?=u,)", array[1]), key=int)[-40]
    path.write_text(text.replace(f" {entry}u,", f" {int(int(entry) * 0.95)}u,", 1))
    result = regress(sign_again(folder), baseline)
    assert result.exit_code == 1, result.output
    assert "synthetic inputs: first at stage mel," in result.stdout
    assert "differs from the C on this machine first at stage mel" in result.stdout  # the ELF is the sound one
    assert load_build(folder).model.digest == m4_build.model.digest


def test_a_model_that_was_trained_anew_is_held_to_its_accuracy(
    baseline: Path, shipped: CompiledModel, tmp_path: Path
) -> None:
    data = bytearray(shipped.data)
    flipped_weight(data, shipped)
    (tmp_path / "other.tflite").write_bytes(data)
    result = regress(tmp_path / "other.tflite", baseline, "--allow-changed-bytes", "--margin", 10)
    assert result.exit_code == 0, result.output
    assert "-    bytes" in result.stdout and "changed in constants: layer" in result.stdout


def test_budgets_are_kept_by_build_and_by_regress(baseline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m4"
    arguments = ["build", "--target", "cortex-m4", "-o", str(folder), "--max-flash", "96K"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1 and result.stdout == "" and not folder.exists()
    error = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert "over budget (cortex-m4), flash (--max-flash): got " in error and "need at most 98,304" in error
    result = CliRunner().invoke(cli, [*arguments[:-1], "1M", "--max-ram", "96K"])
    assert result.exit_code == 0 and (folder / "firmware.elf").is_file()
    before = (folder / "manifest.json").read_bytes()
    assert CliRunner().invoke(cli, [*arguments, "--max-ram", "1K"]).exit_code == 1
    assert (folder / "manifest.json").read_bytes() == before  # the earlier build stays
    result = CliRunner().invoke(cli, [*arguments[:-1], "1M", "--max-instructions", "1M"])
    assert result.exit_code == 1 and "instructions per inference (--max-instructions): got " in result.stderr
    assert (folder / "manifest.json").read_bytes() == before

    result = regress(folder, baseline, "--skip-accuracy", "--max-ram", "1K")
    assert result.exit_code == 1 and "REGRESSED: RAM" in result.stdout
    result = regress(folder, baseline, "--skip-accuracy", "--max-instructions", "1M")
    assert result.exit_code == 1 and "REGRESSED: instructions per inference" in result.stdout


def test_instructions_are_exact(m4_build: Build) -> None:
    counts = {count_inference(m4_build.model, m4_build.elf, m4_build.target) for _ in range(2)}
    (count,) = counts
    # Two multiply-accumulates an instruction at best, and they are nearly all there is to do.
    macs = multiply_accumulates(m4_build.model.program)
    assert macs / 2 < count < 1.5 * macs


def test_a_target_without_an_emulator_has_no_count(tmp_path: Path) -> None:
    arguments = ["build", "--target", "host", "-o", str(tmp_path / "host"), "--max-instructions", "9M"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2 and "has no emulator" in result.stderr and not (tmp_path / "host").exists()


def test_an_update_keeps_margins_and_budgets_and_is_whole(
    baseline: Path, m4_build: Build, small_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "b.json"
    options = ["--data", small_data, "--update", "--margin", 2, "--max-flash", "200K", "--clips", 6]
    assert regress(m4_build.folder, path, *options).exit_code == 0
    first = path.read_bytes()
    assert regress(m4_build.folder, path, "--update").exit_code == 0
    assert path.read_bytes() == first
    told = json.loads(first)
    assert told["margins"]["accuracy"] == 0.02 and told["budgets"]["flash_bytes"] == 200 * 1024
    assert told["data"]["clips"] == 6
    assert regress(m4_build.folder, path, "--update", "--max-flash", "1K").exit_code == 1
    assert path.read_bytes() == first


def test_an_update_that_would_fail_at_once_says_so(
    baseline: Path, m4_build: Build, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that int8 spoiled: 2 points behind float, a margin of 1."""
    real = regression._accuracy

    def worse(*arguments: Any) -> dict[str, float | None]:
        found = real(*arguments)
        return found | {"accuracy": (found["float_accuracy"] or 0.0) - 0.02}

    monkeypatch.setattr(regression, "_accuracy", worse)
    monkeypatch.setattr(regression, "_firmware_stages", lambda *_: {})
    options = ["--data", small_data, "--update", "--target", "cortex-m4"]
    refused = regress(m4_build.folder, tmp_path / "b.json", *options)
    assert refused.exit_code == 1 and "the baseline would fail at once" in refused.stderr
    assert "int8 against float" in refused.stderr and "--float-margin" in refused.stderr
    assert not (tmp_path / "b.json").exists()
    assert regress(m4_build.folder, tmp_path / "b.json", *options, "--float-margin", 3).exit_code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told.update(labels=["open", "close"]), "is of another model .* got labels down,go"),
        (lambda told: told.update(frontend_digest="0" * 64), "is of another model .* got the front end"),
        (lambda told: told.update(target="cortex-m3"), "is for another target"),
        (lambda told: told["data"].update(digest="0" * 16), "not the baseline's recordings"),
        (lambda told: told["data"].update(folder="nowhere"), "recordings are not here"),
    ],
)
def test_a_baseline_of_something_else_is_one_line_and_2(
    change: Callable[[dict[str, object]], None], said: str, baseline: Path, m4_build: Build, tmp_path: Path
) -> None:
    told = json.loads(baseline.read_text())
    change(told)
    path = baseline.with_name(f"changed-{tmp_path.name}.json")
    path.write_text(json.dumps(told))
    result = regress(m4_build.folder, path)
    assert result.exit_code == 2 and result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(said, errors[0]) and "  hint: " in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["kws10", "--target", "cortex-m4"],
        ["kws10", "--clips", "3"],
        ["model.pt"],
        ["nothing10"],
        ["kws10", "--data", "nowhere"],
    ],
    ids=" ".join,
)
def test_bad_options_exit_with_2(arguments: list[str], baseline: Path) -> None:
    result = regress(arguments[0], baseline, *arguments[1:])
    assert result.exit_code == 2 and result.stdout == "" and "error: " in result.stderr


def test_the_shipped_model_passes_the_baseline_in_examples(tmp_path: Path) -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "ci" / "kws10.json"
    result = regress(shipped_model_path(), path)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def long_recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's words one after the other, with no label: whatever is heard is false."""
    folder = tmp_path_factory.mktemp("long")
    shutil.copy(Path(__file__).resolve().parents[2] / "examples" / "words.wav", folder / "words.wav")
    return folder


def test_false_accepts_and_misses_have_budgets(long_recordings: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "b.json"
    made = regress("kws10", baseline, "--target", "host", "--streams", long_recordings, "--update")
    assert made.exit_code == 0, made.output
    written = json.loads(baseline.read_text())
    heard = written["measured"]["false_accepts_per_hour"]
    assert heard > 0 and written["streams"]["budgets"]["false_accepts_per_hour"] > heard
    assert written["measured"]["miss_rate"] is written["streams"]["budgets"]["miss_rate"] is None
    same = regress("kws10", baseline)
    assert same.exit_code == 0 and "ok   false accepts an hour" in same.stdout
    less = regress("kws10", baseline, "--max-false-accepts", 1)
    assert less.exit_code == 1 and "REGRESSED: false accepts an hour" in less.stdout
    before = baseline.read_bytes()
    refused = regress("kws10", baseline, "--max-false-accepts", 1, "--update", "--target", "host")
    assert refused.exit_code == 1 and "nothing was written" in refused.stderr
    assert baseline.read_bytes() == before
    (long_recordings / "words.txt").write_text("0.5\t1.0\tyes\n")
    other = regress("kws10", baseline)
    assert other.exit_code == 2 and "not the baseline's long recordings" in other.stderr
    (long_recordings / "words.txt").unlink()


def test_budgets_of_hearing_need_long_recordings(baseline: Path, long_recordings: Path) -> None:
    for options, what in (
        (["--max-misses", 5], "of long recordings"),
        (["--streams", long_recordings], "made without"),
    ):
        result = regress("kws10", baseline, *options)
        assert result.exit_code == 2 and what in result.stderr
