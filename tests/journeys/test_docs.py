"""The documentation: its site builds, its links and anchors lead somewhere, its commands are ones that there are, and
what it says to run does run. The walk's functions are passed in the order that it says.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import FrameType
from typing import Any

import click
import pytest

from mbx_deploy.codegen.target import find_target
from mbx_deploy.commands.cli import cli
from mbx_deploy.commands.console import print_answers
from mbx_deploy.engines import recognize
from mbx_deploy.firmware import build as builder
from mbx_deploy.system.resources import shipped_model_path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
PAPERS = [README, *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))]
FENCE = re.compile(r"^(?:<!-- (?P<mark>\w+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
README_BYTES = 10_000


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fences(path: Path, language: str, mark: str | None = None) -> list[str]:
    """The blocks of a language; with a mark, those that `<!-- mark -->` stands above."""
    found = FENCE.finditer(path.read_text())
    return [m["text"] for m in found if m["language"] == language and mark in (None, m["mark"])]


def commands(text: str) -> list[list[str]]:
    """The lines of a block that call mbx-deploy, as words without the program's name."""
    lines = text.replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words and words[0] == "mbx-deploy"]


def check_command(words: list[str]) -> None:
    """Fail unless click takes the words: the command is there, so are its options, their values are in range."""
    command: click.Command = cli
    # With cli's own settings: click keeps the first help option that a command is asked for.
    context = click.Context(cli, info_name="mbx-deploy", **cli.context_settings)
    rest = list(words)
    while isinstance(command, click.Group):
        found = command.get_command(context, rest[0])
        assert found is not None, f"no command {rest[0]}: mbx-deploy {shlex.join(words)}"
        command, name, rest = found, rest[0], rest[1:]
    try:
        command.make_context(name, rest, parent=context)
    except click.UsageError as error:
        pytest.fail(f"mbx-deploy {shlex.join(words)}: {error.format_message()}")


class Page(HTMLParser):
    """Of a page of the site: the ids in it, what it links to, and what a browser loads for it by itself."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.ids |= {values[key] for key in ("id", "name") if key in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in values:
            self.loads.append(values["src"])
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The site, built strictly: a warning is an error. Its pages by path."""
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Page(path) for path in sorted(folder.rglob("*.html"))}


def test_every_page_is_in_the_site(site: dict[Path, Page]) -> None:
    tried = [path for path in site if path.parent.name == "try"]
    assert len(site) - len(tried) == len(PAGES) + 1  # and 404.html
    assert [path.name for path in tried] == ["kws10.html"]  # it is made with the site
    assert "mbx_live" in tried[0].read_text()


def test_links_and_anchors_of_the_site(site: dict[Path, Page]) -> None:
    broken = []
    for path, page in site.items():
        for link in page.links if path.name != "404.html" else ():
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            place = (path.parent / target).resolve() if target else path
            place = place / "index.html" if place.is_dir() else place
            if not place.is_file() or (anchor and place in site and anchor not in site[place].ids):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_a_page_loads_nothing_from_elsewhere(site: dict[Path, Page]) -> None:
    elsewhere = [f"{path.name}: {load}" for path, page in site.items() for load in page.loads if "//" in load]
    assert not elsewhere


@pytest.mark.parametrize("path", [*PAPERS, *PAGES], ids=name_of)
def test_relative_links_of_the_files(path: Path) -> None:
    """As GitHub or an editor follows them. Anchors are headings in small letters, with hyphens."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        place = path.parent / target if target else path
        if not place.exists():
            broken.append(link)
        elif anchor:
            text = place.read_text()
            included = re.fullmatch(r'--8<-- "(.+)"\n?', text)
            text = (ROOT / included[1]).read_text() if included else text
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            if anchor not in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}:
                broken.append(link)
    assert not broken


@pytest.mark.parametrize("path", [README, ROOT / "CONTRIBUTING.md", *PAGES], ids=name_of)
def test_commands_are_ones_that_there_are(path: Path) -> None:
    for language in ("sh", "console"):
        for block in fences(path, language):
            for words in commands(block):
                check_command(words)


def test_a_command_that_there_is_not_fails() -> None:
    for words in (["bild"], ["build", "--traget", "host"], ["build", "--target", "host", "--layout", "none"]):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check_command(words)


def test_the_readme_is_short() -> None:
    assert README.stat().st_size <= README_BYTES
    assert sum(len(commands(block)) for block in fences(README, "sh")) >= 10


@pytest.mark.parametrize("path", [*PAPERS, *PAGES], ids=name_of)
def test_files_that_are_named_exist(path: Path) -> None:
    """Paths of the checkout in `code`, where they begin with one of its folders."""
    folders = "mbx_deploy|firmware_templates|targets|tests|examples|benchmarks|scripts|docs|changes"
    named = re.findall(rf"`((?:{folders})/[\w./-]*\w)`", path.read_text())
    missing = [name for name in named if not (ROOT / name).exists() and "NAME" not in name]
    assert not missing


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, as a reader's checkout has them."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def marked(language: str, mark: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{path.stem}-{number}")
        for path in [README, *PAGES]
        for number, block in enumerate(fences(path, language, mark))
    ]


def call(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("block", marked("sh", "run"))
def test_commands_that_run(block: str, workplace: Path) -> None:
    printed = [call([sys.executable, "-m", "mbx_deploy", *words], workplace) for words in commands(block)]
    assert all(printed)
    assert any("examples/yes.wav: yes" in text for text in printed)


@pytest.mark.parametrize("block", marked("python", "run"))
def test_python_that_runs(block: str, workplace: Path) -> None:
    call([sys.executable, "-c", block], workplace)


@pytest.mark.parametrize("block", marked("c", "compile"))
def test_c_that_compiles(block: str, workplace: Path) -> None:
    build = workplace / "for_c"
    if not build.is_dir():
        builder.build(shipped_model_path(), find_target("host"), build)
    (workplace / "block.c").write_text(block)
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    call(["gcc", *warnings, "-fsyntax-only", f"-I{build / 'include'}", f"-I{build / 'src'}", "block.c"], workplace)


def road(name: str) -> list[tuple[str, str]]:
    """The (room, function) of a road of the walk, in its order."""
    text = (ROOT / "docs" / "design" / "walk.md").read_text()
    table = text.split(f"<!-- road: {name} -->")[1].split("\n## ")[0]
    return re.findall(r"^\| (\w+) \| `mbx_deploy\.([\w.]+)` \|", table, re.MULTILINE)


def finished(run: Callable[[], object]) -> Iterator[str]:
    """The functions of the package in the order in which each first returns, while something runs."""
    seen: dict[str, None] = {}

    def watch(frame: FrameType, event: str, argument: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "return" and module.startswith("mbx_deploy."):
            seen.setdefault(f"{module.removeprefix('mbx_deploy.')}.{frame.f_code.co_name}", None)

    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
    yield from seen


def walk_wav() -> None:
    clip = ROOT / "examples" / "yes.wav"
    print_answers(recognize.simulate(shipped_model_path(), [clip], "sim", False, lambda line: None), False)


@pytest.mark.parametrize("name", ["wav", "tflite"])
def test_the_walk(name: str, tmp_path: Path) -> None:
    steps = road(name)
    rooms = [room for room, _ in steps]
    entered = [room for place, room in enumerate(rooms) if place == 0 or rooms[place - 1] != room]
    assert len(entered) == len(set(entered)) >= 4, "a road enters a room twice"
    assert all(function.startswith(f"{room}.") for room, function in steps)
    if name == "wav":
        order = list(finished(walk_wav))
    else:
        target = find_target("host")
        order = list(finished(lambda: builder.build(shipped_model_path(), target, tmp_path / "build")))
    places = {function: place for place, function in enumerate(order)}
    missing = [function for _, function in steps if function not in places]
    assert not missing
    passed = sorted((function for _, function in steps), key=places.__getitem__)
    assert passed == [function for _, function in steps]


def test_the_glossary_names_things_that_there_are() -> None:
    text = (ROOT / "docs" / "design" / "glossary.md").read_text()
    names = re.findall(r"`((?:network|compiler|sim|engines)\.[\w.]+)`", text)
    assert len(names) >= 9
    for name in names:
        try:
            importlib.import_module(f"mbx_deploy.{name}")
        except ModuleNotFoundError:
            module, _, member = name.rpartition(".")
            assert hasattr(importlib.import_module(f"mbx_deploy.{module}"), member), name
