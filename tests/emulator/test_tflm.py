"""`build --runtime tflm`: firmware on TFLite Micro, of the checkouts that MBX_TFLM_DIR and its like name."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner, Result

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import Target, find_target, list_targets
from mbx_deploy.codegen.tflm import MEASURE_ENGINE_BYTES, PINS, measured_arena_bytes, used_ops
from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.engines.firmware import FirmwareEngine
from mbx_deploy.engines.session import TRACE_LAYERS
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.firmware.memory import check_fit
from mbx_deploy.firmware.tflm import ARENA_MARGIN_BYTES, UNMEASURED, Measured, check_tflm_fit
from mbx_deploy.measure.items import hostile_clips, random_features
from mbx_deploy.measure.verify import verify
from mbx_deploy.network.metadata import pack_model, unpack_model
from mbx_deploy.network.stripped import bare_network

VARIABLES = tuple(f"MBX_{name}_DIR" for name in ("TFLM", "FLATBUFFERS", "GEMMLOWP", "RUY"))
CHECKOUTS = {name: os.environ[name] for name in VARIABLES if name in os.environ}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def no_checkouts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "MBX_CMSIS_NN_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tflm_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The shipped model on TFLite Micro's reference kernels, for the Cortex-M4."""
    if len(CHECKOUTS) != len(VARIABLES):
        pytest.skip(f"no checkouts of TFLite Micro and what it needs: set {', '.join(VARIABLES)}")
    folder = tmp_path_factory.mktemp("tflm") / "build"
    options = [f"--{name[4:].lower().replace('_', '-')}={path}" for name, path in CHECKOUTS.items()]
    result = call("build", "--target", "cortex-m4", "--runtime", "tflm", *options, "-o", folder)
    assert result.exit_code == 0, result.output
    return load_build(folder)


@pytest.mark.slow
def test_tflite_micro_and_our_kernels_give_the_same_bytes(m4_build: Build, tflm_build: Build) -> None:
    recognizer = tflm_build.model
    items = [named.item for named in (*hostile_clips(recognizer)[1:8:3], *random_features(recognizer, 1))]
    ours, theirs = (
        FirmwareEngine(recognizer, build.elf, build.target).run(items, TRACE_LAYERS) for build in (m4_build, tflm_build)
    )
    for left, right in zip(ours, theirs, strict=True):
        assert np.array_equal(left[0].logits, right[0].logits)
        assert np.array_equal(left[0].posteriors_q15, right[0].posteriors_q15)
        assert left[0].stages.keys() == right[0].stages.keys()
        for name, values in left[0].stages.items():
            assert np.array_equal(values, right[0].stages[name]), name


@pytest.mark.slow
def test_a_network_alone_on_tflite_micro(tmp_path: Path) -> None:
    """Its instance makes the interpreter; the firmware gives the simulator's bytes, layer by layer."""
    if len(CHECKOUTS) != len(VARIABLES):
        pytest.skip(f"no checkouts of TFLite Micro and what it needs: set {', '.join(VARIABLES)}")
    options = [f"--{name[4:].lower().replace('_', '-')}={path}" for name, path in CHECKOUTS.items()]
    result = call(
        "build", "--target", "cortex-m4", "--runtime", "tflm", "--network-only", *options, "-o", tmp_path / "b"
    )
    assert result.exit_code == 0, result.output
    comparison = verify(load_build(tmp_path / "b"))
    assert "firmware" in comparison.engines and comparison.mismatched_bytes == 0, comparison.to_dict()
    report = json.loads((tmp_path / "b/memory_report.json").read_text())
    assert report["network_only"] and report["runtime"] == "tflm" and report["ram"]["feature_ring_bytes"] == 0
    assert call("profile", tmp_path / "b").exit_code == 0


def test_a_network_alone_has_an_init_where_tflite_micro_runs_it(tmp_path: Path) -> None:
    arguments = ("build", "--target", "cortex-m4", "--network-only", "-o")
    assert call(*arguments, tmp_path / "tflm", "--runtime", "tflm").exit_code == 0
    header = (tmp_path / "tflm/include/kws.h").read_text()
    assert "kws_init(kws_t *self)" in header and "kws_run(kws_t *self, const int8_t *input, int8_t *output)" in header
    assert "extern const mbx_network kws_network" not in header  # its offsets are known at run time
    assert load_build(tmp_path / "tflm").model.hearing is None
    assert call(*arguments, tmp_path / "c").exit_code == 0
    assert "kws_init" not in (tmp_path / "c/include/kws.h").read_text()


@pytest.mark.slow
def test_the_arena_is_measured_and_its_margin_told(tflm_build: Build) -> None:
    report = json.loads((tflm_build.folder / "memory_report.json").read_text())
    arena = report["ram"]["arena_bytes"]
    assert arena == report["arena_measured_bytes"] + ARENA_MARGIN_BYTES
    assert report["arena"]["peak"]["bytes"] <= report["arena_measured_bytes"] < report["arena"]["peak"]["bytes"] + 1024
    assert f"KWS_ARENA_BYTES {arena} " in (tflm_build.folder / "include/kws.h").read_text()


@pytest.mark.slow
def test_the_firmware_does_not_tell_where_its_sources_lay(tflm_build: Build) -> None:
    assert CHECKOUTS["MBX_TFLM_DIR"].encode() not in tflm_build.elf.read_bytes()


def test_without_checkouts_the_project_is_written_and_says_what_lacks(tmp_path: Path) -> None:
    result = call("build", "--target", "cortex-m4", "--runtime", "tflm", "-o", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert "not compiled: " in result.stdout and "a checkout of TFLite Micro (MBX_TFLM_DIR)" in result.stdout
    ops = (tmp_path / "b/generated/kws_tflm.cc").read_text()
    names = ("AddAdd", "AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected", "AddMean")
    assert all(f"resolver.{name}()" in ops for name in names) and ops.count("resolver.Add") == len(names)
    assert json.loads((tmp_path / "b/manifest.json").read_text())["runtime"] == "tflm"
    assert load_build(tmp_path / "b").runtime == "tflm"
    model = (tmp_path / "b/generated/kws_network.c").read_text().partition("= {")[2]
    values = [int(word) for word in model.replace("};", "").replace(",", " ").split()]
    assert bytes(values) == bare_network((tmp_path / "b/model.tflite").read_bytes())


@pytest.mark.parametrize("option", ["--tflm-dir", "--cmsis-nn-dir"])
def test_a_folder_that_is_no_checkout_is_told(option: str, tmp_path: Path) -> None:
    arguments = ("--target", "cortex-m4", "--runtime", "tflm", option, tmp_path, "-o", tmp_path / "b")
    result = call("build", *arguments)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: not a checkout of ") and option in lines[0] and str(tmp_path) in lines[0]
    assert lines[1].startswith("  hint: ") and len(lines) == 2 and not (tmp_path / "b").exists()


def test_other_layouts_and_a_checkout_without_the_runtime_are_refused(tmp_path: Path) -> None:
    result = call("build", "--target", "cortex-m4", "--runtime", "tflm", "--layout", "zephyr", "-o", tmp_path / "b")
    assert result.exit_code == 2 and "layout zephyr" in result.stderr
    result = call("build", "--target", "cortex-m4", "--tflm-dir", tmp_path, "-o", tmp_path / "b")
    assert result.exit_code == 2 and "--runtime tflm" in result.stderr


@pytest.mark.parametrize("target", [t for t in list_targets() if not t.emulated_as], ids=lambda t: t.name)
def test_the_arena_that_is_tried_has_room_in_the_machine(target: Target) -> None:
    arena = measured_arena_bytes(target)
    assert arena % 16 == 0 and arena >= 1 << 18
    if target.memory is not None:
        assert arena + target.memory.stack_bytes + MEASURE_ENGINE_BYTES < target.memory.ram_bytes


def test_a_model_that_does_not_fit_with_the_interpreter_is_refused(shipped: CompiledModel) -> None:
    """C's 28 KB and a stack fit 48 KB, TFLite Micro's 53 KB do not."""
    board = find_target("cortex-m4")
    assert board.memory is not None
    small = replace(board, name="small", memory=replace(board.memory, ram_bytes=49_152))
    measured = Measured(arena=44_016, used=44_000, engine=608, stack=2_000)
    check_fit(shipped, small)
    check_tflm_fit(shipped, board, measured)
    with pytest.raises(InputError) as caught:
        check_tflm_fit(shipped, small, measured)
    said = caught.value.what
    assert "RAM of small" in said and "arena 44,272" in said and "interpreter 608" in said and "have 49,152" in said
    numbers = [int(n.replace(",", "")) for n in re.findall(r" (\d[\d,]*\d)", said)]
    assert numbers[0] == sum(numbers[1:5])
    assert "--runtime tflm" in str(caught.value.hint)


def test_the_pins_are_whole_commits_and_stand_in_the_project(shipped: CompiledModel) -> None:
    for target in ("cortex-m55", "host", "raspberry-pi-pico"):
        text = str(generate_project(shipped, find_target(target), tflm=UNMEASURED)["tflm/CMakeLists.txt"])
        for variable, repository, commit in PINS:
            assert re.fullmatch(r"[0-9a-f]{40}", commit) and f"tflm_sources({variable} {repository} {commit})" in text


def test_a_model_that_computes_shapes_is_refused(shipped: CompiledModel) -> None:
    """As Keras' Flatten leaves it: an op SHAPE, which the reader resolves; the layers' numbers would be others."""
    model = unpack_model(shipped.data)
    graph = model.subgraphs[0]
    graph.tensors.append(schema.TensorT(shape=[4], type=schema.TensorType.INT32, buffer=0, name=b"computed"))
    code = schema.OperatorCodeT(deprecatedBuiltinCode=77, builtinCode=schema.BuiltinOperator.SHAPE, version=1)
    model.operatorCodes.append(code)
    inputs, outputs = [int(graph.inputs[0])], [len(graph.tensors) - 1]
    operator = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1, inputs=inputs, outputs=outputs)
    graph.operators = [operator, *graph.operators]
    recognizer = parse_model(pack_model(model), "shapes.tflite")
    assert len(recognizer.network.ops) == len(shipped.network.ops)
    with pytest.raises(InputError, match=r"ops that the compiler resolves.*shapes\.tflite.*shapes that are computed"):
        used_ops(recognizer)
    assert "CONV_2D" in used_ops(shipped)


def test_the_c_beside_a_build_on_tflite_micro_is_measured(tmp_path: Path, small_data: Path) -> None:
    """Its own C calls the interpreter; `--engine c` takes that which the same model is without it."""
    assert call("build", "--target", "cortex-m4", "--runtime", "tflm", "-o", tmp_path / "b").exit_code == 0
    arguments = ("--data", small_data, "--engine", "c", "--split", "all", "--json", tmp_path / "r.json")
    result = call("evaluate", tmp_path / "b", *arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    model = call("evaluate", "kws10", *arguments[:-1], tmp_path / "m.json")
    assert model.exit_code == 0, model.output
    expected = json.loads((tmp_path / "m.json").read_text())
    assert report["engine"] == "c" and report["confusion"] == expected["confusion"]
