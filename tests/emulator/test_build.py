"""Builds as a user and a CI see them: whole, repeatable, free of warnings, and refused where they can't be."""

import ctypes
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mbx_deploy.commands.cli import cli
from mbx_deploy.firmware.folder import Build
from mbx_deploy.firmware.memory import memory_needs
from mbx_deploy.system.files import OWNER_FILE
from mbx_deploy.system.resources import targets_folder
from tests.made.compiler_cache import plain_path

ROOT = Path(__file__).resolve().parents[2]
BOARD_FILES = (
    "application.c",
    "application.h",
    "audio_queue.c",
    "audio_queue.h",
    "board.h",
    "board_mps2.c",
    "frame.c",
    "frame.h",
    "light.c",
    "light.h",
    "link.c",
    "link.h",
    "microphone.c",
    "microphone.h",
    "pdm.c",
    "pdm.h",
    "remote.c",
    "remote.h",
    "report.c",
    "report.h",
)
EXPECTED_FILES = {
    OWNER_FILE,
    "CMakeLists.txt",
    "README.md",
    "board/board.c",
    "board/main.c",
    *(f"board/mbx_{name}" for name in BOARD_FILES),
    "board/mbx_session.c",
    "board/mbx_session.h",
    "board/mbx_session_recognizer.c",
    "board/semihosting.c",
    "board/semihosting.h",
    "board/startup.c",
    "cortex-m4.toml",
    "firmware.elf",
    "firmware.map",
    "generated/kws.c",
    "generated/kws_data.c",
    "generated/kws_data.h",
    "generated/kws_frontend.c",
    "include/kws.h",
    "linker.ld",
    "manifest.json",
    "memory_report.json",
    "memory_report.txt",
    "model.tflite",
    "src/mbx_decision.c",
    "src/mbx_decision.h",
    "src/mbx_depthwise_lanes.S",
    "src/mbx_dot_rows.S",
    "src/mbx_fft_two_stages.S",
    "src/mbx_fixed_point.h",
    "src/mbx_frontend.c",
    "src/mbx_frontend.h",
    "src/mbx_kernels.c",
    "src/mbx_kernels.h",
    "src/mbx_kernels_dsp.c",
    "src/mbx_kernels_dsp.h",
    "src/mbx_mel_rows.S",
    "src/mbx_pointwise_block.S",
    "src/mbx_recognizer.c",
    "src/mbx_recognizer.h",
    "src/mbx_runtime.h",
    "src/mbx_steps.c",
    "src/mbx_steps.h",
    "src/mbx_taps.h",
    "src/mbx_window_fours.S",
    "toolchain.cmake",
}
COMPILER_OUTPUT = {"firmware.elf", "firmware.map"}


def call(
    *arguments: object, cwd: Path | None = None, limit: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command: in a process of its own where its folder, limits or environment are others."""
    if cwd is None and limit is None and not environment:
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        return subprocess.CompletedProcess([], done.exit_code, done.stdout, done.stderr)
    return subprocess.run(
        [sys.executable, "-m", "mbx_deploy", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        preexec_fn=limit,
        check=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(done: subprocess.CompletedProcess[str], pattern: str) -> None:
    """The user's error: exit code 2, one line that matches the pattern, a hint, and nothing on stdout."""
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("generated ", "compiling"))]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 2, done.stderr
    assert errors[0].startswith("error: ") and re.search(pattern, errors[0]), errors[0]
    assert errors[1].startswith("  hint: ")
    assert done.stdout == ""


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where processes under test put their temporary files: it must be empty when they are done."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def test_the_files_of_a_build(m4_build: Build) -> None:
    assert set(contents(m4_build.folder)) == EXPECTED_FILES
    assert (m4_build.folder / "model.tflite").read_bytes() == m4_build.model.data
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in m4_build.folder.rglob("*"))


def test_no_file_names_a_machine_a_day_or_a_person(m4_build: Build) -> None:
    words = [str(m4_build.folder), str(ROOT), str(Path.home()) + "/", "mbx-build-"]
    machine = os.uname().nodename.encode()  # in text only: a short name comes about in binaries by chance
    for name, data in contents(m4_build.folder).items():
        assert not [word for word in words if word.encode() in data], name
        if not name.endswith((".elf", ".tflite")):
            assert not re.search(rb"\b" + re.escape(machine) + rb"\b", data), name


def test_the_manifest_holds_the_digest_of_every_file(m4_build: Build) -> None:
    files = contents(m4_build.folder)
    manifest = json.loads(files.pop("manifest.json"))
    del files[OWNER_FILE]
    assert manifest["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert manifest["model_sha256"] == manifest["files"]["model.tflite"]
    assert manifest["frontend_sha256"] == m4_build.model.config.digest()
    assert manifest["labels"] == list(m4_build.model.labels)
    assert (manifest["target"], manifest["prefix"], manifest["stride_frames"]) == ("cortex-m4", "kws", 25)


def processor_seconds() -> float:
    """Return what finished children have taken: not what else the machine had to do meanwhile."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_two_builds_elsewhere_give_the_same_bytes(m4_build: Build, tmp_path: Path) -> None:
    cwd = tmp_path / "some where"
    cwd.mkdir()
    (tmp_path / "tmp").mkdir()
    before = processor_seconds()
    done = call(
        *("build", "--target", "cortex-m4", "-o", "deep/er/the build"),
        cwd=cwd,
        TMPDIR=str(tmp_path / "tmp"),
        LC_ALL="C",
        TZ="Asia/Tokyo",
        CCACHE_DISABLE="1",  # it would give what the build before it gave
    )
    seconds = processor_seconds() - before
    assert done.returncode == 0, done.stderr
    assert contents(cwd / "deep/er/the build") == contents(m4_build.folder)
    assert seconds < 20
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_rebuild_replaces_the_old_build(m4_build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    first = call("build", "--target", "cortex-m4", "--prefix", "other", "--stride-ms", 500, "-o", folder)
    assert first.returncode == 0, first.stderr
    assert (folder / "include/other.h").exists()
    assert json.loads((folder / "manifest.json").read_text())["stride_frames"] == 50
    assert call("build", "--target", "cortex-m4", "-o", folder).returncode == 0
    assert contents(folder) == contents(m4_build.folder)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def symbols(elf: Path) -> dict[str, tuple[int, str]]:
    """Return {name: (bytes, type)} of what nm finds."""
    listed = subprocess.run(["arm-none-eabi-nm", "-S", str(elf)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {row[3]: (int(row[1], 16), row[2]) for row in rows if len(row) == 4}


def test_memory_report_against_size_and_nm(m4_build: Build) -> None:
    report = json.loads((m4_build.folder / "memory_report.json").read_text())
    listed = subprocess.run(
        ["arm-none-eabi-size", str(m4_build.elf)], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1]
    text, data, bss = map(int, listed.split()[:3])
    stack = 4096
    assert report["compiled"]["flash_bytes"] == text + data
    assert report["compiled"]["ram_bytes"] in (data + bss, data + bss - stack)
    found = symbols(m4_build.elf)
    instances = {name: size for name, (size, kind) in found.items() if kind in "bB" and name.startswith("recognizer")}
    assert list(instances.values()) == [report["ram"]["instance_bytes"]]
    pattern = r"kws_(weights|bias|multiplier|shift|channels|constants|shifts)_"
    weights = sum(size for name, (size, _) in found.items() if re.match(pattern, name))
    assert weights == report["flash"]["weights_bytes"]
    needs = memory_needs(m4_build.model)
    assert report["ram"]["arena_bytes"] == needs.arena
    header = (m4_build.folder / "include/kws.h").read_text()
    sizes = {name: int(value) for name, value in re.findall(r"#define KWS_(\w+) (\d+)u?\b", header)}
    assert sizes.get("ARENA_BYTES", needs.arena) == needs.arena, sizes


def test_the_firmware_has_no_heap_no_floats_and_no_libm(m4_build: Build) -> None:
    names = set(symbols(m4_build.elf))
    plain = subprocess.run(["arm-none-eabi-nm", str(m4_build.elf)], capture_output=True, text=True, check=True).stdout
    names |= {line.split()[-1] for line in plain.splitlines()}
    forbidden = {
        "malloc",
        "free",
        "_sbrk",
        "calloc",
        "realloc",
        "printf",
        "logf",
        "log",
        "cosf",
        "expf",
        "exp",
        "sqrtf",
    }
    assert not names & forbidden
    assert not [name for name in names if re.match(r"__aeabi_[fd](add|mul|sub|div|2)", name)]


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH that holds what cmake, a generator and the compiler are, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cmake", "ninja", "make"):
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    compiler = shutil.which("arm-none-eabi-gcc", path=plain_path())
    assert compiler
    for tool in Path(compiler).parent.glob("arm-none-eabi-*"):
        (folder / tool.name).symlink_to(tool)
    assert not [path for path in folder.iterdir() if "python" in path.name]
    return str(folder)


@pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
def test_the_project_compiles_with_cmake_alone_without_a_warning(
    generator: str, m4_build: Build, bare_path: str, tmp_path: Path
) -> None:
    if generator == "Ninja" and not shutil.which("ninja"):
        pytest.skip("ninja is not installed")
    if generator == "Unix Makefiles" and not shutil.which("make"):
        pytest.skip("make is not installed")
    project = tmp_path / "moved away"
    shutil.copytree(m4_build.folder, project, ignore=shutil.ignore_patterns(*COMPILER_OUTPUT))
    before = contents(project)
    environment = {"PATH": bare_path}
    output = ""
    for command in (["cmake", "-B", "build", "-G", generator], ["cmake", "--build", "build", "--verbose"]):
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        output += done.stdout + done.stderr
        assert done.returncode == 0, output
    assert "warning" not in re.sub(r"-W\S+", "", output).lower(), output
    assert "-Wconversion" in output and "-Wextra" in output
    assert (project / "build/firmware.elf").read_bytes() == m4_build.elf.read_bytes()
    assert {name: data for name, data in contents(project).items() if not name.startswith("build/")} == before


def test_a_pair_of_files_of_different_builds_is_an_error(m4_build: Build, tmp_path: Path) -> None:
    project = tmp_path / "mixed"
    shutil.copytree(m4_build.folder, project)
    other = tmp_path / "other"
    assert call("build", "--target", "cortex-m4", "--stride-ms", 500, "-o", other).returncode == 0
    shutil.copy(other / "generated/kws_data.h", project / "generated/kws_data.h")
    subprocess.run(["cmake", "-B", "build"], cwd=project, capture_output=True, check=True)
    done = subprocess.run(["cmake", "--build", "build"], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "#error" in done.stdout + done.stderr


@pytest.mark.parametrize("holding", ["notes.txt", ".hidden", "folder/"])
def test_a_folder_with_somebody_elses_files_is_refused(holding: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / holding).mkdir() if holding.endswith("/") else (folder / holding).write_text("precious")
    before = sorted(folder.iterdir())
    assert_refused(call("build", "--target", "cortex-m4", "-o", folder), "not empty and not an earlier build: .*mine")
    assert sorted(folder.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert call("build", "--target", "host", "-o", tmp_path / "empty").returncode == 0


def test_a_file_or_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "dangling"):
        assert_refused(call("build", "--target", "cortex-m4", "-o", tmp_path / name), f"not a folder: .*{name}")
    assert_refused(call("build", "--target", "cortex-m4", "-o", tmp_path / "file/below"), "can't write .*file/below")
    assert (tmp_path / "file").read_text() == "precious"
    assert list((tmp_path / "real").iterdir()) == []
    assert len(list(tmp_path.iterdir())) == 4


PR_CAPBSET_DROP = 24  # linux/prctl.h
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2  # linux/capability.h


def respect_permissions() -> None:
    """Make a root's process, from its next exec on, heed the permissions of files as others must."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "locked"])
def test_an_unwritable_folder_is_told(mode: int, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(mode)
    if os.geteuid() == 0:
        os.chown(locked, 65534, 65534)
    probe = subprocess.run(
        ["touch", str(locked / "a")], preexec_fn=respect_permissions, capture_output=True, check=False
    )
    if probe.returncode == 0:
        pytest.skip("this user may write everywhere, and may not give that up")
    done = call("build", "--target", "cortex-m4", "-o", locked / "b", limit=respect_permissions)
    locked.chmod(0o700)
    assert_refused(done, "can't write .*locked/b: permission denied")
    assert list(locked.iterdir()) == []


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    assert_refused(call("build", "--target", "cortex-m4", "-o", tmp_path / ("n" * 300)), "can't write .*too long")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB, on which a build of some 900 KB has no place."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no permission to mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_left_as_it_was(small_disk: Path, temporary: Path) -> None:
    done = call("build", "--target", "cortex-m4", "-o", small_disk / "b", TMPDIR=str(temporary))
    assert_refused(done, "can't write .*disk/b: no space left")
    assert "free some space" in done.stderr
    assert list(small_disk.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_a_full_disk_leaves_the_old_build(small_disk: Path, temporary: Path) -> None:
    old = small_disk / "b"
    old.mkdir()
    (old / OWNER_FILE).write_text("")
    (old / "firmware.elf").write_text("old")
    assert_refused(call("build", "--target", "cortex-m4", "-o", old, TMPDIR=str(temporary)), "no space left")
    assert contents(small_disk) == {f"b/{OWNER_FILE}": b"", "b/firmware.elf": b"old"}


def test_a_full_temporary_disk_is_told(small_disk: Path, tmp_path: Path) -> None:
    done = call("build", "--target", "cortex-m4", "-o", tmp_path / "b", TMPDIR=str(small_disk))
    assert_refused(done, "no space left")
    assert list(small_disk.iterdir()) == []
    assert not (tmp_path / "b").exists()


def test_a_limit_on_the_size_of_files_is_told(tmp_path: Path, temporary: Path) -> None:
    """The same road as a full disk, for machines on which nothing may be mounted."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = call("build", "--target", "cortex-m4", "-o", tmp_path / "b", limit=limit, TMPDIR=str(temporary))
    assert_refused(done, "can't write .*: file too large")
    assert not (tmp_path / "b").exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "to_group", "delay"),
    [
        (signal.SIGINT, True, 0.4),
        (signal.SIGTERM, False, 0.1),
        (signal.SIGTERM, False, 0.25),
        (signal.SIGTERM, True, 0.5),
    ],
)
def test_an_interrupted_build_leaves_nothing_and_keeps_the_old_one(
    number: int, to_group: bool, delay: float, tmp_path: Path, temporary: Path
) -> None:
    old = tmp_path / "b"
    old.mkdir()
    (old / OWNER_FILE).write_text("old")
    with subprocess.Popen(
        [sys.executable, "-m", "mbx_deploy", "build", "--target", "cortex-m4", "-o", str(old)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        assert any(line == "compiling\n" for line in process.stderr)
        time.sleep(delay)
        if process.poll() is not None:
            pytest.fail("the build was done before it could be interrupted")
        (os.killpg if to_group else os.kill)(process.pid, number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in errors.splitlines() if line]
    assert lines[0] == "error: interrupted" and lines[1].startswith("  hint: ") and len(lines) == 2
    assert output == ""
    time.sleep(0.5)  # for what a compiler that outlived its parent might still write
    assert list(temporary.iterdir()) == []
    assert contents(tmp_path) == {f"b/{OWNER_FILE}": b"old"}


def test_without_a_compiler_the_project_is_written_and_it_says_so(m4_build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    done = call("build", "--target", "cortex-m4", "-o", folder, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "not compiled: arm-none-eabi-gcc" in done.stdout and "doctor" in done.stdout
    assert "firmware:" not in done.stdout
    made, whole = contents(folder), contents(m4_build.folder)
    assert set(made) == EXPECTED_FILES - COMPILER_OUTPUT
    differ = {name for name in made if made[name] != whole[name]}
    assert differ == {"manifest.json", "memory_report.json", "memory_report.txt"}
    as_json = call("build", "--target", "cortex-m4", "-o", folder, "--json", PATH=str(tmp_path))
    told = json.loads(as_json.stdout)
    assert told["elf"] is None and "arm-none-eabi-gcc" in told["missing_tools"]
    assert told["memory"]["compiled"] is None


def test_json_tells_the_report_that_is_in_the_folder(tmp_path: Path) -> None:
    done = call("build", "--target", "cortex-m4", "-o", tmp_path / "b", "--json")
    told = json.loads(done.stdout)
    assert told["memory"] == json.loads((tmp_path / "b/memory_report.json").read_text())
    assert Path(told["elf"]).is_file() and told["missing_tools"] == []


def test_an_unknown_target_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    done = call("build", "--target", "cortex-m44", "-o", tmp_path / "b")
    assert_refused(done, "unknown target: got 'cortex-m44'")
    assert all(path.stem in done.stderr.splitlines()[1] for path in targets_folder().glob("*.toml"))
    assert list(tmp_path.iterdir()) == []


def own_target(folder: Path, name: str, **values: int) -> Path:
    """Write a target like cortex-m4 with other numbers, and return its file."""
    text = (targets_folder() / "cortex-m4.toml").read_text().replace('name = "cortex-m4"', f'name = "{name}"', 1)
    for key, value in values.items():
        text, count = re.subn(rf"^{key} = [0-9_]+$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, key
    (folder / f"{name}.toml").write_text(text)
    return folder / f"{name}.toml"


def test_a_target_that_is_too_small_is_told_with_the_numbers(m4_build: Build, tmp_path: Path) -> None:
    own = own_target(tmp_path, "tiny", ram_bytes=4096, stack_bytes=2048)
    needs = memory_needs(m4_build.model)
    done = call("build", "--target", own, "-o", tmp_path / "b")
    assert_refused(done, "the model does not fit the RAM of tiny: need ")
    assert f"need {needs.instance + 2048:,} bytes (arena {needs.arena:,} + " in done.stderr
    assert "have 4,096" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_a_stack_that_is_too_small_is_told_with_the_numbers(m4_build: Build, tmp_path: Path) -> None:
    report = json.loads((m4_build.folder / "memory_report.json").read_text())
    bound = report["compiled"]["stack_bound_bytes"]
    assert bound > 1024
    done = call("build", "--target", own_target(tmp_path, "flat", stack_bytes=1024), "-o", tmp_path / "b")
    assert_refused(done, f"does not fit the stack of flat: need {bound:,} bytes, have 1,024")
    assert not (tmp_path / "b").exists()


def test_a_target_of_ones_own_is_built_and_read_back(m4_build: Build, tmp_path: Path) -> None:
    from mbx_deploy.firmware.folder import load_build

    done = call("build", "--target", own_target(tmp_path, "mine"), "-o", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    build = load_build(tmp_path / "b")
    assert build.target.name == "mine" and build.target.machine == m4_build.target.machine


@pytest.mark.parametrize("prefix", ["", "1a", "a-b", "A", "ä", "mbx", "mbx_kws", "a" * 32, "a b", "../a", "a\n"])
def test_a_prefix_that_is_no_identifier_is_refused(prefix: str, tmp_path: Path) -> None:
    assert_refused(call("build", "--target", "cortex-m4", "--prefix", prefix, "-o", tmp_path / "b"), "bad prefix: got ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prefix", ["string", "stdint", "firmware", "int"])
def test_a_prefix_that_means_something_else_is_refused_or_works(prefix: str, tmp_path: Path) -> None:
    done = call("build", "--target", "cortex-m4", "--prefix", prefix, "-o", tmp_path / "b")
    if done.returncode:
        assert_refused(done, "bad prefix: got ")


@pytest.mark.parametrize("stride", [0, -250, 5, 255, 1020, 10**20])
def test_a_stride_out_of_range_is_refused(stride: int, tmp_path: Path) -> None:
    done = call("build", "--target", "cortex-m4", "--stride-ms", stride, "-o", tmp_path / "b")
    assert_refused(done, f"bad stride between windows .*got {stride}, need a multiple of 10 ms up to 1010")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stride", [10, 1010])
def test_a_stride_at_the_edge_is_built(stride: int, tmp_path: Path) -> None:
    done = call("build", "--target", "host", "--stride-ms", stride, "-o", tmp_path / "b", PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "b/manifest.json").read_text())["stride_frames"] == stride // 10
