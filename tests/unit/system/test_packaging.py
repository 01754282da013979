"""The package: its versions, what a wheel carries, and what an installed wheel can do alone."""

import os
import re
import resource
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mbx_deploy
from mbx_deploy.errors import ToolMissing
from mbx_deploy.system import resources

ROOT = Path(__file__).resolve().parents[3]
DATA_FOLDERS = ("firmware_templates", "targets")
HELP = [sys.executable, "-c", "from mbx_deploy.commands.cli import main; main()", "--help"]
HELP_SECONDS = 0.3
# What a wheel's own Python may see of this process: no checkout, no environment of ours.
ALONE = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}}


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=ALONE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def test_every_requirement_is_pinned_within_its_range() -> None:
    pins = constraints()
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name in {"mbx-deploy", "pyocd", "tflite-micro"}:
            continue
        (pin,) = pins[name].specifier
        assert pin.operator == "==", requirement
        assert requirement.specifier.contains(pin.version), requirement


def test_tflite_micro_has_a_floor_and_no_pin() -> None:
    floor = constraints()["tflite-micro"].specifier
    assert [part.operator for part in floor] == [">="]
    assert floor in [requirement.specifier for requirement in requirements()]


def test_torch_is_pinned_and_no_gpu_library_is() -> None:
    assert str(constraints()["torch"].specifier) == "==2.13.0"
    assert not [name for name in constraints() if name.startswith(("nvidia", "triton", "cuda"))]


def test_no_file_names_a_package_registry() -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile", "scripts/setup.sh", ".ci/run"):
        text = (ROOT / name).read_text()
        assert not re.search(r"index-url|find-links|https?://", text), name


def test_every_pip_call_is_constrained() -> None:
    script = (ROOT / "scripts/setup.sh").read_text()
    calls = re.findall(r"-m pip install(?:.*\\\n)*.*", script)
    assert calls
    assert all("-c constraints.txt" in call for call in calls)


def test_checkout_finds_its_own_folders() -> None:
    assert resources.firmware_templates_folder() == ROOT / "firmware_templates"
    assert resources.targets_folder() == ROOT / "targets"
    assert resources.constraints_file() == ROOT / "constraints.txt"
    assert resources.models_folder() == ROOT / "mbx_deploy" / "models"
    assert resources.checkout_folder() == ROOT


def test_packed_data_wins_over_a_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("mbx_deploy/_data/targets", "targets"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "mbx_deploy")
    monkeypatch.setattr(resources, "_PACKED", tmp_path / "mbx_deploy" / "_data")
    assert resources.targets_folder() == tmp_path / "mbx_deploy" / "_data" / "targets"
    assert resources.checkout_folder() is None


def test_an_incomplete_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "mbx_deploy")
    monkeypatch.setattr(resources, "_PACKED", tmp_path / "mbx_deploy" / "_data")
    with pytest.raises(ToolMissing, match="got no targets, need") as caught:
        resources.targets_folder()
    assert caught.value.hint == "install mbx-deploy again"


@pytest.mark.slow
def test_help_is_fast() -> None:
    # Processor time: on an idle machine that is the time one waits, and a busy one does not spoil it.
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(HELP, cwd=ROOT, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < HELP_SECONDS


def test_help_imports_nothing_heavy() -> None:
    command = [HELP[0], "-X", "importtime", *HELP[1:]]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "mbx_deploy.commands.cli" in imported
    heavy = {"numpy", "torch", "tensorflow", "onnx", "jinja2", "soundfile", "soxr", "tflite"}
    assert imported.isdisjoint(heavy)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bin folder of an environment that holds the wheel and its core requirements alone."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    pip: list[str | Path] = [sys.executable, "-m", "pip"]
    pip += ["--python", environment / "bin" / "python", "install", "--quiet"]
    run(*pip, "-c", ROOT / "constraints.txt", distributions[1], cwd=environment)
    yield environment / "bin"


def shipped_files() -> set[str]:
    """The data files of the checkout, by their paths in it."""
    files = (path for folder in DATA_FOLDERS for path in (ROOT / folder).rglob("*"))
    return {str(path.relative_to(ROOT)) for path in files if path.is_file()}


@pytest.mark.slow
def test_wheel_carries_all_data(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
    assert {f"mbx_deploy/_data/{name}" for name in shipped_files()} <= names
    assert "mbx_deploy/_data/constraints.txt" in names
    models = {f"mbx_deploy/models/{path.name}" for path in resources.models_folder().iterdir()}
    assert models <= names
    assert [name for name in models if name.endswith(".tflite")]
    # Nothing lands beside the package, where it would meet other people's folders.
    assert {name.split("/")[0] for name in names} == {
        "mbx_deploy",
        f"mbx_deploy-{mbx_deploy.__version__}.dist-info",
    }


@pytest.mark.slow
def test_sdist_carries_what_set_up_and_tests_need(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert shipped_files() <= names
    wanted = {"Makefile", "constraints.txt", "scripts/setup.sh", "tests/unit/system/test_packaging.py"}
    wanted |= {"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "mkdocs.yml", "docs/index.md"}
    wanted |= {".importlinter", ".pre-commit-config.yaml"}
    assert wanted <= names


@pytest.mark.slow
def test_two_builds_give_the_same_wheel(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    for first in distributions:
        assert (tmp_path / first.name).read_bytes() == first.read_bytes(), first.name


@pytest.mark.slow
def test_installed_wheel_has_no_heavy_package(installed: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u; print(*[n for n in {names} if u.find_spec(n)])"
    names = ("torch", "tensorflow", "onnx", "onnx2tf", "scipy", "tflite_micro")
    done = run(installed / "python", "-c", code.format(names=names), cwd=tmp_path)
    assert done.stdout.strip() == ""


@pytest.mark.slow
def test_installed_wheel_finds_its_data(installed: Path, tmp_path: Path) -> None:
    code = (
        "from mbx_deploy.system import resources as r\n"
        "print(r.firmware_templates_folder(), r.targets_folder(), r.models_folder(), sep='\\n')\n"
        "assert r.constraints_file().is_file() and r.checkout_folder() is None"
    )
    folders = run(installed / "python", "-c", code, cwd=tmp_path).stdout.split()
    for folder, wanted in zip(folders, ("runtime", "*.toml", "*.tflite"), strict=True):
        assert Path(folder).is_relative_to(installed.parent)
        assert list(Path(folder).glob(wanted)), folder


@pytest.mark.slow
def test_installed_command_helps(installed: Path, tmp_path: Path) -> None:
    assert "build" in run(installed / "mbx-deploy", "--help", cwd=tmp_path).stdout
    version = run(installed / "python", "-c", "import mbx_deploy as m; print(m.__version__)", cwd=tmp_path)
    assert version.stdout.strip() == mbx_deploy.__version__


@pytest.mark.slow
def test_installed_command_builds_firmware_from_the_shipped_model(installed: Path, tmp_path: Path) -> None:
    run(installed / "mbx-deploy", "build", "--target", "cortex-m4", "-o", "out", cwd=tmp_path)
    assert (tmp_path / "out" / "CMakeLists.txt").is_file()
    assert list((tmp_path / "out").rglob("*.c"))
    assert os.listdir(tmp_path) == ["out"]


def test_the_licence_is_named_and_shipped() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "9. Accepting Warranty" in text and "limitations under the License." in text


@pytest.mark.slow
def test_wheel_is_typed_and_has_its_licence(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = wheel.namelist()
        assert "mbx_deploy/py.typed" in names
        (licence,) = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        assert "License-Expression: Apache-2.0\n" in wheel.read(metadata).decode()


def test_hooks_run_what_make_check_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    goal = makefile.partition("\ncheck:")[2].partition("\n\n")[0]
    checked = {words[0] for words in (line.split() for line in re.findall(r"\$\(BIN\)/(.*)", goal))}
    hooks = re.findall(r"entry: \.venv/bin/(\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert set(hooks) == checked == {"ruff", "mypy", "lint-imports"}
    assert "entry: make quick\n" in (ROOT / ".pre-commit-config.yaml").read_text()
    assert "$(MAKE) --no-print-directory quick" in goal


def test_hooks_are_ones_that_pre_commit_takes() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
