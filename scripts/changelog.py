"""Moves what stands in changes/ into CHANGELOG.md under a version: scripts/changelog.py VERSION [ROOT]."""

import re
import sys
from pathlib import Path

KINDS = ("added", "changed", "fixed", "removed", "security")
MARK = "<!-- releases -->\n"
NAME = re.compile(rf"[a-z0-9]+(-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md")


def fragments(folder: Path) -> list[Path]:
    """Return the files of changes, by kind and name. Raises ValueError for a file that is none, or is empty."""
    found = sorted(path for path in folder.iterdir() if path.name != "README.md")
    for path in found:
        text = path.read_text(encoding="utf-8").strip()
        if not NAME.fullmatch(path.name):
            raise ValueError(f"bad name of a change: got {path.name}, need WHAT.KIND.md, KIND of {', '.join(KINDS)}")
        if not text or "\n\n" in text or text.startswith(("#", "-", "*")):
            raise ValueError(f"bad change ({path.name}): need one paragraph, without heading or list")
    return sorted(found, key=lambda path: (KINDS.index(path.name.split(".")[1]), path.name))


def section(version: str, paths: list[Path]) -> str:
    """Return the changes as a version's section."""
    lines = [f"## {version}", ""]
    for kind in KINDS:
        texts = [path.read_text(encoding="utf-8").strip() for path in paths if path.name.split(".")[1] == kind]
        if texts:
            lines += [f"### {kind.capitalize()}", "", *("- " + text.replace("\n", "\n  ") for text in texts), ""]
    return "\n".join(lines)


def release(version: str, root: Path) -> int:
    """Write a version's section into CHANGELOG.md, remove its fragments, and return how many they were."""
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version) or f"## {version}\n" in text:
        raise ValueError(f"bad version: got {version}, need a new one, such as 0.2.0")
    paths = fragments(root / "changes")
    if not paths or MARK not in text:
        raise ValueError("nothing to release: changes/ is empty, or CHANGELOG.md has lost its mark")
    changelog.write_text(text.replace(MARK, f"{MARK}\n{section(version, paths)}", 1), encoding="utf-8")
    for path in paths:
        path.unlink()
    return len(paths)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        count = release(sys.argv[1], Path(sys.argv[2] if len(sys.argv) == 3 else "."))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"CHANGELOG.md: {count} changes under {sys.argv[1]}")
