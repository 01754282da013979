"""A short fuzz of each reader, of the C and of the engines, with fixed seeds. `make fuzz MINUTES=n` does more."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from mbx_deploy.errors import InputError
from tests.fuzz import campaign, native, networks
from tests.fuzz.campaign import complaint, run_cases
from tests.fuzz.mutation import mutate
from tests.fuzz.readers import READERS, ROOT, Reader

SEED = 20_261
CASES = 40  # of each reader
SLOW = {
    "onnx": 10,
    "onnx-fields": 15,
    "nemo": 8,
    "nemo-config": 8,
    "nemo-weights": 6,
    "config-toml": 20,
}  # more to read
RUNS = {
    "c-api": 1500,
    "c-api-stream": 100,
    "c-frames": 20_000,
    "c-link": 2000,
    "c-link-stream": 300,
    "c-remote": 3000,
    "c-remote-stream": 300,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of the test's own for what is found."""
    for module in (campaign, native):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "fuzz")
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_reader(reader: Reader) -> None:
    outcome = run_cases(reader, SEED, 0, SLOW.get(reader.name, CASES), None)
    assert outcome.cases == SLOW.get(reader.name, CASES)
    assert not outcome.findings, "\n".join(f"{found.what}\n{found.detail}" for found in outcome.findings)


@pytest.mark.slow
@pytest.mark.skipif(not native.is_installed(), reason="clang with libFuzzer is not installed: scripts/setup.sh test")
@pytest.mark.parametrize("name", native.NAMES)
def test_the_c(name: str) -> None:
    outcome = native.run(name, SEED, RUNS.get(name, 1000), None)
    assert not outcome.findings, f"{outcome.findings[0].what}\n{outcome.findings[0].detail}"
    assert outcome.cases >= RUNS.get(name, 1000)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("networks", 6), ("mutants", 60)])
def test_the_engines(name: str, count: int) -> None:
    outcome = networks.run(name, SEED, 0, count, None)
    assert outcome.cases == count and outcome.taken > 0 and not outcome.findings, outcome.findings


def test_the_same_numbers_make_the_same_file() -> None:
    seeds = [b'{"a": 1, "b": [2, 3]}\n' * 5, bytes(range(256))]
    made = [mutate(random.Random(number), seeds) for number in range(200)]
    assert made == [mutate(random.Random(number), seeds) for number in range(200)]
    assert len(set(made)) > 190 and max(map(len, made)) <= 1 << 20


def test_what_is_wrong_is_found_and_can_be_seen_again(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def read(path: Path) -> None:
        data = path.read_bytes()
        if b"x" in data:
            raise KeyError("x")
        if b"b" in data:
            raise InputError("two\nlines are one")
        raise InputError("no" * 2000)

    reader = Reader("made", "made.txt", read, lambda: [b"axb", b"ab"], lambda rng, seeds: rng.choice(seeds))
    monkeypatch.setattr(campaign, "READERS", (reader,))
    outcome = run_cases(reader, 1, 0, 50, None)
    assert [found.what for found in outcome.findings] == ["KeyError: 'x'"]
    kept = folder / outcome.findings[0].file
    assert (
        kept.read_bytes() == b"axb" and f"--only made --input {outcome.findings[0].file}" in outcome.findings[0].command
    )
    kept.write_bytes(b"c")
    found = complaint(reader, kept)
    assert found is not None and "one line" in found[0]


def test_what_never_ends_and_what_is_large_is_found(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def endless(path: Path) -> None:
        while True:
            pass

    monkeypatch.setattr(campaign, "MOST_SECONDS", 0.1)
    found = complaint(Reader("a", "a", endless, list), folder)
    assert found is not None and found[0].startswith("more than 0.1 s")
    monkeypatch.setattr(campaign, "MOST_BYTES", -1)
    found = complaint(Reader("a", "a", lambda path: bytes(1000), list), folder)
    assert found is not None and "memory" in found[0]


@pytest.mark.slow
def test_a_process_that_dies_is_found() -> None:
    """Through the command itself, as `make fuzz` runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--only", "track", "--runs", "5", "--seed", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0 and "track: 5 cases" in done.stdout, done.stdout + done.stderr
