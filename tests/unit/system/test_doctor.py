"""The doctor: what it finds, what it calls missing, and the lines it says to run."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mbx_deploy.system import doctor, resources
from mbx_deploy.system.doctor import Finding

ROOT = Path(__file__).resolve().parents[3]


def finding(
    name: str,
    found: str | None,
    source: doctor.Source = "apt",
    required: bool = True,
    package: str = "",
) -> Finding:
    return Finding(name, "building firmware", found, "an install line", required, source, package)


def fake_tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_packages_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {"": project["dependencies"], **project["optional-dependencies"]}
    del declared["test"]
    assert {extra: sorted(names) for extra, names in doctor.PACKAGES.items()} == {
        extra: sorted(Requirement(line).name for line in lines) for extra, lines in declared.items()
    }


def test_each_thing_is_found_once_with_an_install_line() -> None:
    findings = doctor.diagnose()
    assert len(by_name(findings)) == len(findings)
    assert all(finding.install and finding.needed_for for finding in findings)
    required = {finding.name for finding in findings if finding.required}
    assert {"python", "numpy", "arm-none-eabi-gcc", "newlib", "cmake"} <= required
    assert {"torch", "tensorflow", "onnx2tf", "tflite-micro", "pyocd", "gcc"}.isdisjoint(required)


def test_versions_of_packages_are_those_installed() -> None:
    found = by_name(doctor.diagnose())
    assert found["numpy"].found == metadata.version("numpy")
    assert found["python"].found == ".".join(map(str, sys.version_info[:3]))


def test_diagnose_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mbx_deploy.system import doctor; doctor.diagnose(); "
        "print(*{'numpy', 'torch', 'tensorflow', 'click'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_an_empty_machine_lacks_every_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = {finding.name for finding in doctor.diagnose() if finding.found is None}
    assert {
        "gcc",
        "libc headers",
        "arm-none-eabi-gcc",
        "newlib",
        "cmake",
        "ninja or make",
        "qemu-system-arm",
    } <= missing


@pytest.mark.parametrize(
    ("tool", "first_line", "version"),
    [
        ("gcc", "gcc (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0"),
        ("arm-none-eabi-gcc", "arm-none-eabi-gcc (15:12.2.rel1-1) 12.2.1 20221205", "12.2.1"),
        ("arm-none-eabi-gcc", "arm-none-eabi-gcc (Arm GNU Toolchain 13.3.Rel1) 13.3.1", "13.3.1"),
        ("cmake", "cmake version 3.25.1", "3.25.1"),
        ("qemu-system-arm", "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)", "7.2.22"),
        ("cmake", "cmake, built from source", "present"),
    ],
)
def test_version_lines(
    tool: str, first_line: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tool(tmp_path, tool, f"echo '{first_line}'; echo 'Copyright 1.2.3'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert by_name(doctor.diagnose())[tool].found == version


def test_a_broken_tool_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tool(tmp_path, "cmake", "echo 'cmake version 3.25.1'; exit 127")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert by_name(doctor.diagnose())["cmake"].found is None


def test_either_ninja_or_make_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tool(tmp_path, "make", "echo 'GNU Make 4.3'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert by_name(doctor.diagnose())["ninja or make"].found == "4.3"


def test_a_compiler_without_its_c_library_lacks_newlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'case "$*" in --version) echo "arm-none-eabi-gcc 12.2.1";; *) exit 1;; esac'
    fake_tool(tmp_path, "arm-none-eabi-gcc", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = by_name(doctor.diagnose())
    assert found["arm-none-eabi-gcc"].found == "12.2.1"
    assert found["newlib"].found is None


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc")
def test_newlib_is_found_with_its_version() -> None:
    version = by_name(doctor.diagnose())["newlib"].found
    assert version is not None
    assert version == "present" or version[0].isdigit()


def test_one_apt_line_and_one_pip_line_install_all_that_is_missing() -> None:
    lines = doctor.install_lines(
        [
            finding("qemu-system-arm", None, package="qemu-system-arm"),
            finding("newlib", None, package="libnewlib-arm-none-eabi"),
            finding("torch", None, "pip", package="train"),
            finding("tensorflow", None, "pip", package="export"),
            finding("onnx", None, "pip", package="export"),
            finding("numpy", None, "pip", package=""),
        ]
    )
    apt, pip = lines
    assert apt.endswith("apt-get install --no-install-recommends libnewlib-arm-none-eabi qemu-system-arm")
    words = shlex.split(pip)
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    assert words[words.index("-c") + 1] == str(resources.constraints_file())
    assert words[-1].endswith("[export,train]")


def test_sudo_only_where_the_user_is_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert doctor.apt_line(["cmake"]) == "sudo apt-get install --no-install-recommends cmake"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert doctor.apt_line(["cmake"]) == "apt-get install --no-install-recommends cmake"


def test_the_pip_line_of_an_installed_wheel_names_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources, "checkout_folder", lambda: None)
    assert shlex.split(doctor.pip_line(["export"]))[-1] == "mbx-deploy[export]"


def test_table_marks_what_is_missing_and_what_may_be() -> None:
    table = doctor.render(
        [
            finding("cmake", "3.25.1"),
            finding("newlib", None, package="libnewlib-arm-none-eabi"),
            finding("pyocd", None, "pip", required=False, package="flash"),
        ]
    )
    marks = {line.split()[1]: line.split()[0] for line in table.splitlines()[1:4]}
    assert marks == {"cmake": "ok", "newlib": "MISSING", "pyocd": "-"}
    assert "To install what is missing:" in table


def test_nothing_missing_asks_for_nothing() -> None:
    findings = [finding("cmake", "3.25.1")]
    assert doctor.install_lines([]) == []
    assert "install" not in doctor.render(findings)


def test_json_holds_every_field() -> None:
    rows = json.loads(doctor.to_json([finding("cmake", None, package="cmake")]))
    assert rows == [
        {
            "name": "cmake",
            "needed_for": "building firmware",
            "found": None,
            "install": "an install line",
            "required": True,
            "source": "apt",
            "package": "cmake",
        }
    ]


def test_set_up_reads_the_missing_debian_packages(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mbx_deploy.system.doctor"],
        env={**os.environ, "PATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "gcc",
        "libc6-dev",
        "gcc-arm-none-eabi",
        "libnewlib-arm-none-eabi",
        "libstdc++-arm-none-eabi-newlib",
        "cmake",
        "make",
        "qemu-system-arm",
    ]


def test_what_no_package_manager_brings_is_named_and_not_installed() -> None:
    rows = by_name(doctor.diagnose())
    assert {rows[name].source for name in ("bossac", "picotool")} == {"other"}
    assert not {rows[name].required for name in ("openocd", "bossac", "picotool")} - {False}
    missing = [finding("bossac", None, "other"), finding("cmake", None, package="cmake")]
    (line,) = doctor.install_lines(missing)
    assert line.endswith(" cmake")
