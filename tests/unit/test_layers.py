"""Imports run downwards between rooms, and in no circle inside one."""

import subprocess
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "mbx_deploy"


def circle(imports: Iterable[tuple[str, str]]) -> list[str]:
    """Return modules that import each other in a circle, the first one again at the end; [] where none do.

    imports: (importer, imported).
    """
    needs: dict[str, set[str]] = {}
    for importer, imported in imports:
        needs.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, cache_dir=None)


def test_imports_run_downwards() -> None:
    """In a process of its own: import-linter keeps the streams that it once saw."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_is_in_the_contract() -> None:
    listed = (ROOT / ".importlinter").read_text().partition("layers =")[2].replace("|", " ").split()
    folders = {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    files = {path.stem for path in (ROOT / PACKAGE).glob("*.py") if not path.stem.startswith("__")}
    assert set(listed) == folders | files and len(listed) == len(set(listed))


def test_no_module_is_in_a_circle(graph: grimp.ImportGraph) -> None:
    """Imports under TYPE_CHECKING count, too: who reads the one needs the other."""
    modules = graph.modules
    edges = [(module, found) for module in modules for found in graph.find_modules_directly_imported_by(module)]
    assert len(edges) > 500  # the graph was read
    assert circle(edges) == []


def test_a_circle_is_found() -> None:
    chain = [("a", "b"), ("b", "c"), ("c", "d")]
    assert circle(chain) == []
    assert set(circle([*chain, ("c", "a")])) == {"a", "b", "c"}
