"""What is in the Cortex-M4 objects of a library: no heap, no floats, no recursion, no writable globals."""

import re
import subprocess
from pathlib import Path

import pytest

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.compiler.model import parse_model
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.system.tools import find_tool
from tests.made.tflite import small_artifact

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
]

ALLOWED = re.compile(r"memcpy|memmove|memset|__aeabi_u?ldivmod|__aeabi_(ll|la|lm|lc|ul)\w*|__aeabi_mem\w+")
CONFIG = FrontendConfig(clip_samples=1000, window_length=64, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4)


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", params=["-O3", "-O2", "-Os", "-O0"])
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the objects and call graphs of src/ and generated/, compiled as the target says."""
    folder = tmp_path_factory.mktemp("objects")
    target = find_target("cortex-m4")
    files = generate_project(parse_model(small_artifact(CONFIG), "x"), target, stride_frames=5)
    for name, content in files.items():
        if isinstance(content, str) and name.startswith(("src/", "generated/", "include/")):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
    units = [name for name in files if name.endswith((".c", ".S")) and name.startswith(("src/", "generated/"))]
    flags = ("-std=c99", request.param, *target.compile_flags, "-fcallgraph-info", "-Iinclude", "-Isrc", "-Igenerated")
    run("arm-none-eabi-gcc", *flags, "-c", *units, cwd=folder)
    assert len(list(folder.glob("*.o"))) == len(units) == 14
    return folder


def test_nothing_is_called_but_memory_functions(objects: Path) -> None:
    run("arm-none-eabi-ld", "-r", "-o", "all.linked", *(path.name for path in objects.glob("*.o")), cwd=objects)
    undefined = [line.split()[-1] for line in run("arm-none-eabi-nm", "-u", "all.linked", cwd=objects).splitlines()]
    assert "memcpy" in undefined, "the check sees nothing"
    assert [name for name in undefined if not ALLOWED.fullmatch(name)] == []


def test_no_floating_point(objects: Path) -> None:
    """A vmov or vldr may move integers through the FPU's registers; nothing computes or converts there."""
    for path in objects.glob("*.o"):
        listing = run("arm-none-eabi-objdump", "-d", path.name, cwd=objects)
        assert not re.findall(r"\bv\w+\.[fsu]\d+\S*", listing), path.name
        assert not re.findall(r"__aeabi_[fd]\w+|__aeabi_\w*2[fd]\b", listing), path.name


def test_no_writable_globals(objects: Path) -> None:
    for path in objects.glob("*.o"):
        for line in run("arm-none-eabi-size", "-A", path.name, cwd=objects).splitlines():
            section, *size = line.split() or ["", "0"]
            if section.startswith((".data", ".bss")) or section == "COMMON":
                assert size[0] == "0", f"{path.name}: {line}"
        symbols = run("arm-none-eabi-nm", path.name, cwd=objects)
        assert not re.findall(r"^\w+ [dDbBcC] .*$", symbols, re.M), path.name


def test_no_recursion(objects: Path) -> None:
    """The call graph that gcc writes has no cycle; by pointer the runtime calls invoke, and the observer, if any."""
    edges: dict[str, set[str]] = {}
    for path in objects.glob("*.ci"):
        for source, target in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', path.read_text()):
            edges.setdefault(source.split(":")[-1], set()).add(target.split(":")[-1])
    assert {"mbx_run", "invoke", "mbx_feed"} <= set(edges)
    for source in edges:
        if "__indirect_call" in edges[source] and not source.startswith("mbx_observe"):
            # By pointer, the runtime may reach the network (and an observer of the application's).
            edges[source] = edges[source] | (
                {"invoke"} if source in ("mbx_invoke", "mbx_run", "mbx_run_features") else set()
            )

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        for target in edges.get(name, ()):
            visit(target, (*above, name))

    for name in edges:
        visit(name, ())


def test_every_public_symbol_has_a_prefix(objects: Path) -> None:
    for path in objects.glob("*.o"):
        symbols = run("arm-none-eabi-nm", "-g", "--defined-only", path.name, cwd=objects)
        names = [line.split()[-1] for line in symbols.splitlines()]
        assert names and all(name.startswith(("mbx_", "kws_")) for name in names), (path.name, names)
