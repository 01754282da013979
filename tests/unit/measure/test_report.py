"""The report: one page that needs nothing beside it, says what was measured, and trusts no text that others wrote."""

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mbx_deploy.codegen.target import find_target
from mbx_deploy.commands.cli import cli
from mbx_deploy.compiler.model import CompiledModel, parse_model
from mbx_deploy.errors import ToolMissing
from mbx_deploy.firmware.build import build
from mbx_deploy.firmware.folder import Build, load_build
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.tables import build_tables
from mbx_deploy.measure.report import findings as gathering
from mbx_deploy.measure.report import plots
from mbx_deploy.measure.report.findings import Findings, gather
from mbx_deploy.measure.report.page import flash_rows, render_page
from mbx_deploy.measure.report.sounds import float_log_mel, spectrograms, synthetic_sounds
from mbx_deploy.network.metadata import write_metadata
from mbx_deploy.sim.frontend import coefficients
from mbx_deploy.system.resources import shipped_model_path
from mbx_deploy.system.tools import find_tool
from tests.reference.mfcc_float64 import mfcc

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
needs_firmware = pytest.mark.skipif(
    not all(map(find_tool, ("arm-none-eabi-gcc", "qemu-system-arm", "gcc"))),
    reason="arm-none-eabi-gcc, qemu-system-arm or gcc is not installed",
)
pytestmark = pytest.mark.slow  # firmware is built, run and drawn
SECTIONS = ("model", "accuracy", "noise", "room", "memory", "layers", "sqnr", "frontend", "parity")
HOSTILE = "<script>alert('$x^2$')</script>&\"]]>"
CHROMIUM = shutil.which("chromium")


class _Page(HTMLParser):
    """Collects tags, ids, what is referred to, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                self.references.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def found(m4_build: Build) -> Findings:
    return gather(m4_build, None, 10)


@pytest.fixture(scope="module")
def page(found: Findings) -> str:
    return render_page(found)


def sections(page: str) -> Iterator[str]:
    return iter(re.findall(r'<section id="(\w+)">', page))


@needs_firmware
def test_the_page_needs_nothing_beside_it(page: str) -> None:
    parsed = _Page(page)
    assert parsed.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    assert parsed.references
    for reference in parsed.references:
        assert reference.startswith(("#", "data:image/png;base64,")), reference[:60]
    assert "@import" not in page and "http://" not in page and "https://" not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    targets = {reference[1:] for reference in parsed.references if reference.startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert targets <= set(parsed.ids)
    assert len(set(parsed.ids)) == len(parsed.ids)


@needs_firmware
def test_each_section_is_there_and_says_what_it_would_need(found: Findings) -> None:
    why = "The model's file holds no confusion matrix."
    page = render_page(replace(found, accuracy=None, missing={"accuracy": why}))
    assert tuple(sections(page)) == SECTIONS
    text = _Page(page).text
    assert why in text and "Recordings with labels are needed: mbx-deploy report BUILD --data DIR" in text
    assert page.count("<svg") == 7


@needs_firmware
def test_the_card_of_the_shipped_model_is_there(page: str, found: Findings, shipped: CompiledModel) -> None:
    card = shipped.metadata["card"]
    assert found.accuracy is not None and found.missing == {}
    assert found.accuracy.clips == card["clips"] == found.accuracy.best_known.confusion.sum()
    text = _Page(page).text
    assert page.count("<svg") == 9
    assert "trained without noise" in text and page.count("trained without noise") >= 2  # in the table, and the plot
    assert len(found.accuracy.without_noise) == len(card["float"]["noise"])
    for row in (*card["float"]["noise"], *card["int8"]["noise"], *card["without_noise_training"]["noise"]):
        assert f"{row['command_accuracy']:.1%}" in text
    assert all(line in text for line in card["limits"])


@needs_firmware
def test_the_numbers_are_those_of_the_memory_report_and_the_profile(
    page: str, found: Findings, m4_build: Build
) -> None:
    memory = json.loads((m4_build.folder / "memory_report.json").read_text())
    text = _Page(page).text
    for value in (*memory["compiled"].values(), memory["arena"]["bytes"], memory["arena"]["peak"]["bytes"]):
        assert f"{value:,}" in text
    assert sum(value for _, value in flash_rows(memory)) == memory["compiled"]["flash_bytes"]
    assert found.profile is not None
    network = found.profile["network"]
    assert f"{network['instructions']:,}" in text
    assert sum(layer.instructions or 0 for layer in found.layers) == network["instructions"]
    assert [layer.name for layer in found.layers] == memory["calls"]
    assert memory["arena"]["cascades"]
    assert all(f"{first} to {last} run in stripes" in text for first, last in memory["arena"]["cascades"])
    for layer in found.layers:
        assert f"{layer.instructions:,}" in text and layer.name in text
    assert found.comparison.digests.keys() >= {"sim", "c", "firmware"}
    assert all(digest in text for digest in found.comparison.digests.values())
    assert found.model.digest in text


@needs_firmware
def test_bytes_by_layer_are_the_same_planned_and_counted(found: Findings, m4_build: Build) -> None:
    planned = gathering._layers(m4_build, None, found.sqnr)
    structs = Counter(
        re.findall(
            r"^static const mbx_\w+_call call_(?:v\d+_)?(\d+) =",
            (m4_build.folder / "generated/kws.c").read_text(),
            re.MULTILINE,
        )
    )
    for number, (one, other) in enumerate(zip(planned, found.layers, strict=True)):
        assert 16 * structs[str(number)] <= other.bytes - one.bytes <= 32 * structs[str(number)]
    assert sum(layer.bytes for layer in planned) == found.memory["flash"]["weights_bytes"]


@needs_firmware
def test_the_same_build_gives_the_same_bytes(page: str, m4_build: Build) -> None:
    assert render_page(gather(m4_build, None, 10)) == page


@needs_firmware
def test_colours_are_the_pages_so_that_both_schemes_can_be_read(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    used = set(re.findall(r"var\(--(\w+)\)", page))
    light, dark = (set(re.findall(r"--(\w+):", part)) for part in page.split("prefers-color-scheme: dark")[:2])
    assert used <= light and light == dark
    assert not any(colour in page for colour in plots.VARIABLES)
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert not re.search(r"<text[^>]*(?:fill: #|font-family|font: )", svg)


def hostile(found: Findings) -> Findings:
    """Return findings in which every text that others wrote is an attack."""
    recognizer = found.model
    labels = [f"{HOSTILE}{i}" for i in range(len(recognizer.labels))]
    names = ["accuracy", "accuracy_interval", "balanced_accuracy", "command_accuracy"]
    count = len(labels)
    score: dict[str, Any] = dict.fromkeys(names, 0.5) | {"accuracy_interval": [0.4, 0.6]}
    score |= {"precision": dict.fromkeys(labels, 0.5), "recall": dict.fromkeys(labels)}
    score |= {"confusion": (np.eye(count, dtype=int) + 1).tolist()}
    score |= {"noise": [{"snr_db": ratio, "accuracy": 0.5} for ratio in (None, 10.0, 0.0)]}
    card = {"labels": labels, "split": HOSTILE, "clips": 20, "command_clips": 10, "speakers": 2, "limits": [HOSTILE]}
    metadata = {
        **(recognizer.metadata),
        "labels": labels,
        "card": card | {"float": score, "int8": score},
        "training": {"data_source": HOSTILE, "splits": {HOSTILE: {"clips": HOSTILE, "speakers": []}}},
        "accuracy": {HOSTILE: HOSTILE, "more": ["x"]},
    }
    changed = parse_model(write_metadata(recognizer.data, metadata), "hostile")
    return replace(found, model=changed, sound=HOSTILE, accuracy=gathering.read_card(changed)[0])


@needs_firmware
def test_text_of_others_is_text(found: Findings) -> None:
    page = render_page(hostile(found))
    parsed = _Page(page)
    assert "script" not in parsed.tags
    assert "<script" not in page
    assert parsed.text.count(HOSTILE) > 10
    assert tuple(sections(page)) == SECTIONS
    assert page.count("<svg") == 9
    assert "10 dB" in parsed.text


@pytest.mark.parametrize("card", [{"labels": 3}, ["x"], "x", {"labels": ["a"]}, {"clips": None}, {}])
def test_a_card_that_can_not_be_read_is_told(shipped: CompiledModel, card: Any) -> None:
    data = write_metadata(shipped.data, {**shipped.metadata, "card": card})
    accuracy, why = gathering.read_card(parse_model(data, "card"))
    assert accuracy is None
    assert ("can't be read" if card else "holds no confusion matrix") in why


@needs_firmware
@pytest.mark.slow
def test_with_data_accuracy_noise_and_recordings_are_there(m4_build: Build, small_data: Path) -> None:
    found = gather(m4_build, small_data, 11)
    text = _Page(render_page(found)).text
    assert found.accuracy is not None and found.missing == {}
    assert [score.engine for score in found.accuracy.scores] == ["float", "int8"]
    assert found.accuracy.best_known.confusion.sum() == found.accuracy.clips
    assert f"{found.accuracy.best_known.accuracy:.1%}" in text
    assert len(found.accuracy.best_known.noise) == 7 and "-10 dB" in text
    assert found.comparison.clips == 11 and found.comparison.mismatched_bytes == 0
    assert found.sqnr_source == "11 recordings" and found.sound in text
    assert str(small_data) not in render_page(found)


@pytest.mark.slow
@pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")
def test_a_build_that_was_not_compiled_says_so_and_names_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    build(shipped_model_path(), find_target("cortex-m4"), folder, layout="arduino")
    found = gather(load_build(folder), None, 10)
    page = render_page(found)
    assert found.profile is None and found.memory["compiled"] is None and "firmware" in found.comparison.skipped
    assert "Instructions were not counted." in page and "The build was not compiled" in page
    assert tuple(sections(page)) == SECTIONS
    assert str(tmp_path) not in page


@needs_firmware
def test_bytes_that_differ_are_told_and_exit_with_1(
    found: Findings, m4_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"clip": "a.wav", "engine": "c", "stage": "mel", "index": [1], "got": 3, "expected": 4}
    changed = replace(found, comparison=replace(found.comparison, mismatched_bytes=7, first_mismatch=where))
    monkeypatch.setattr(gathering, "gather", lambda *_: changed)
    path = tmp_path / "r.html"
    result = CliRunner().invoke(cli, ["report", str(m4_build.folder), "-o", str(path)])
    assert result.exit_code == 1
    assert "Different. 7 of" in _Page(path.read_text()).text


@needs_firmware
@pytest.mark.parametrize("data", ["missing", "empty", "words"])
def test_bad_data_is_one_line_and_no_page(m4_build: Build, tmp_path: Path, data: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "words" / "nonsense").mkdir(parents=True)
    shutil.copy("examples/yes.wav", tmp_path / "words" / "nonsense" / "a.wav")
    path = tmp_path / "r.html"
    result = CliRunner().invoke(cli, ["report", str(m4_build.folder), "-o", str(path), "--data", str(tmp_path / data)])
    assert result.exit_code == 2, result.output
    assert "error: " in result.stderr and "hint: " in result.stderr and "Traceback" not in result.stderr
    assert not path.exists()


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match="matplotlib"):
        plots.require_matplotlib()
    result = CliRunner().invoke(cli, ["report", "nowhere", "-o", str(tmp_path / "r.html")])
    assert result.exit_code == 2
    assert "matplotlib" in result.stderr and "mbx-deploy[report]" in result.stderr


@pytest.mark.parametrize(
    "config",
    [
        FrontendConfig(),
        FrontendConfig(n_mfcc=0, n_mels=40, center=False),
        FrontendConfig(preemphasis=0.97, window="hann_symmetric", mel_scale="slaney", mel_norm="slaney", edge="zero"),
    ],
    ids=["nemo", "log-mel", "nemo of 2024"],
)
def test_float_and_integer_front_end_agree_on_the_synthetic_sounds(config: FrontendConfig) -> None:
    tables = build_tables(config)
    clips = synthetic_sounds(config)
    assert clips.dtype == np.int16 and clips.shape[1] == config.clip_samples
    np.testing.assert_array_equal(clips, synthetic_sounds(config))
    for clip in clips:
        found = spectrograms(clip, tables)
        assert found.float_log_mel.shape == (config.audio_frames, config.n_mels)
        assert found.largest_log_mel_error < 0.02
        assert found.rms_coefficient_error <= found.largest_coefficient_error < 0.02
    assert coefficients(clips[0], tables).shape == (config.num_frames, config.num_coefficients)


def test_the_float_front_end_is_the_reference() -> None:
    config = FrontendConfig(n_mfcc=0)
    clip = synthetic_sounds(config)[0]
    options = {name: getattr(config, name) for name in ("sample_rate_hz", "window_length", "hop_length", "n_fft")}
    options |= {name: getattr(config, name) for name in ("n_mels", "low_hz", "high_hz", "log_offset", "center")}
    wanted = mfcc(clip, n_mfcc=0, **options)
    np.testing.assert_allclose(float_log_mel(clip, config), wanted, rtol=0, atol=1e-9)


def test_too_many_labels_are_not_drawn() -> None:
    count = plots.MOST_PLOTTED_LABELS + 1
    assert plots.confusion([str(i) for i in range(count)], np.eye(count, dtype=int)) is None
    assert plots.confusion(["a", "b"], np.eye(2, dtype=int)) is not None


@needs_firmware
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows_in_a_browser(found: Findings, tmp_path: Path, width: int) -> None:
    measure = """
    <script>
    const frame = document.querySelector("iframe");
    frame.srcdoc = PAGE;
    frame.onload = () => {
      const page = frame.contentDocument;
      page.querySelectorAll("details").forEach(each => { each.open = true; });
      const texts = [...page.querySelectorAll("svg text")].filter(each => {
        const box = each.getBoundingClientRect(), outer = each.closest("svg").getBoundingClientRect();
        return box.left < outer.left - 2 || box.right > outer.right + 2;
      });
      document.body.dataset.found = [page.documentElement.scrollWidth, texts.length,
        page.querySelectorAll("svg").length].join(" ");
    };
    </script>
    """
    text = json.dumps(render_page(hostile(found))).replace("</", "<\\/").replace("<!--", "<\\!--")
    file = tmp_path / "measure.html"
    file.write_text(
        f'<body><iframe width="{width}" height="900" style="border:0"></iframe>' + measure.replace("PAGE", text)
    )
    done = subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", file.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    measured = re.search(r'data-found="(\d+) (\d+) (\d+)"', done.stdout)
    assert measured, done.stderr[-500:]
    assert int(measured[1]) <= width
    assert (int(measured[2]), int(measured[3])) == (0, 9)
