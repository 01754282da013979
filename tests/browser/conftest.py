"""Builds for the browser, made once for all test processes, and Chromium with a recording as its microphone."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from mbx_deploy.codegen.target import find_target
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.compile import missing_tools
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.tools import find_tool

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WORDS = EXAMPLES / "words.wav"
ENDS_S = (1.70, 3.70, 5.75)  # of yes, left and stop in words.wav
QUIET_FLAGS = [
    "--no-sandbox",  # tests run as root in places
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OpenPage = Callable[..., Page]


def need_compiler() -> None:
    missing = missing_tools(find_target("browser"))
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: scripts/setup.sh test installs it")


def need_chromium() -> str:
    path = find_tool("chromium")
    if path is None:
        pytest.skip("chromium is not installed: scripts/setup.sh test installs it")
    return path


@pytest.fixture(scope="session")
def browser_builds(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Build]:
    """The shipped models, built for the browser, by name."""
    need_compiler()
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "browser-builds"
    root.mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("kws10", "kws10s"):
            if not (root / name).exists():
                build(shipped_model_path(name), find_target("browser"), root / name)
    return {name: load_build(root / name) for name in ("kws10", "kws10s")}


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    need_chromium()
    with sync_playwright() as started:
        yield started


def launch(playwright: Playwright, *flags: str) -> Browser:
    return playwright.chromium.launch(executable_path=need_chromium(), args=[*QUIET_FLAGS, *flags])


def microphone_flags(recording: Path) -> list[str]:
    """Chromium's flags for a recording, played once, as the microphone that the user allows."""
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={recording}%noloop",
    ]


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Chromium, whose microphone plays words.wav."""
    browser = launch(playwright, *microphone_flags(WORDS))
    yield browser
    browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Opens a page, by its path or address, and waits until it has begun. Errors in its console fail the test."""
    complaints: list[str] = []
    contexts = []

    def opened(where: Path | str, before: str = "", browser: Browser = chromium, **options: object) -> Page:
        context = browser.new_context(accept_downloads=True, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if before:
            page.add_init_script(before)
        page.goto(where.as_uri() if isinstance(where, Path) else where)
        page.wait_for_selector("html[data-opened]", state="attached", timeout=60_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


@contextmanager
def changed_page(made: Build, folder: Path, old: str, new: str) -> Iterator[Path]:
    """The page of a build with one thing other, and a policy that lets it run."""
    text = made.page.read_text()
    assert text.count(old) >= 1
    path = folder / "changed.html"
    path.write_text(text.replace(old, new, 1))
    yield path


def seconds_of(path: Path) -> float:
    return float(soundfile.info(path).duration)
