"""Changes: every fragment is one, and a release moves them all into CHANGELOG.md."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def release(version: str, root: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "changelog.py"
    return subprocess.run([sys.executable, script, version, root], capture_output=True, text=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "README.md").write_text("How.\n")
    return tmp_path


def test_the_changes_that_there_are_can_be_released(tmp_path: Path) -> None:
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    shutil.copytree(ROOT / "changes", tmp_path / "changes")
    texts = [path.read_text().split()[:5] for path in (ROOT / "changes").glob("*.*.md")]
    done = release("9.9.9", tmp_path)
    assert texts or "nothing to release" in done.stderr
    assert done.returncode == 0 or not texts, done.stderr
    written = (tmp_path / "CHANGELOG.md").read_text()
    assert all(" ".join(words) in " ".join(written.split()) for words in texts)
    assert [path.name for path in (tmp_path / "changes").iterdir()] == ["README.md"]


def test_a_release(project: Path) -> None:
    (project / "changes" / "b-thing.fixed.md").write_text("B is\nmended.\n")
    (project / "changes" / "a-thing.added.md").write_text("A is new.\n")
    before = (project / "CHANGELOG.md").read_text()
    assert release("0.2.0", project).returncode == 0
    text = (project / "CHANGELOG.md").read_text()
    assert "## 0.2.0\n\n### Added\n\n- A is new.\n\n### Fixed\n\n- B is\n  mended.\n\n## 0.1.0" in text.replace(
        "\n\n\n", "\n\n"
    )
    assert text.startswith(before.partition("## 0.1.0")[0])
    assert "need a new one" in release("0.2.0", project).stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [("thing.md", "A."), ("thing.news.md", "A."), ("thing.added.md", ""), ("thing.added.md", "# A\n\nB")],
)
def test_a_bad_change(name: str, text: str, project: Path) -> None:
    (project / "changes" / name).write_text(text)
    before = (project / "CHANGELOG.md").read_bytes()
    done = release("0.2.0", project)
    assert done.returncode == 1 and done.stderr.startswith("error: bad ")
    assert (project / "CHANGELOG.md").read_bytes() == before
