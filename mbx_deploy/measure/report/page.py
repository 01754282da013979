"""Findings -> one HTML page that needs nothing beside it: no script, no font, no picture from elsewhere."""

from typing import Any

import jinja2
from markupsafe import Markup

from mbx_deploy.codegen.model_facts import Rows, model_limits, model_rows
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.measure.card import render_card
from mbx_deploy.measure.items import RANDOM_SEED
from mbx_deploy.measure.report import plots
from mbx_deploy.measure.report.findings import Findings
from mbx_deploy.system.version import __version__

_TEMPLATE = "page.html.j2"
_MOST_MISTAKES = 20


def render_page(findings: Findings, hear: str | None = None) -> str:
    """Return the page. The same findings give the same bytes. Raises ToolMissing without matplotlib.

    hear: where the page lies that listens, of a build for the browser; relative to this one's place.
    """
    plots.require_matplotlib()
    recognizer, accuracy = findings.model, findings.accuracy
    config = recognizer.config
    score = accuracy.best_known if accuracy else None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mbx_deploy", "measure/report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    environment.filters["percent"] = lambda value: "-" if value is None else f"{value:.1%}"
    environment.filters["decibels"] = lambda value: "exact" if value is None else f"{value:.1f}"
    environment.filters["count"] = lambda value: "-" if value is None else f"{value:,}"
    return environment.get_template(_TEMPLATE).render(
        found=findings,
        hear=hear,
        recognizer=recognizer,
        accuracy=accuracy,
        score=score,
        version=__version__,
        tiles=_tiles(findings),
        card_rows=model_rows(recognizer),
        card_text=_card_text(recognizer),
        limits=model_limits(recognizer),
        frontend_rows=_frontend_rows(config),
        mistakes=_mistakes(findings),
        flash_rows=flash_rows(findings.memory),
        ram_rows=ram_rows(findings.memory),
        stack=stack_bytes(findings.memory["compiled"] or {}),
        buffers=sorted(findings.memory["arena"]["buffers"], key=lambda b: (b["first_call"], b["offset"])),
        last_call=len(findings.memory["calls"]) - 1,
        stages=findings.profile["frontend"]["stages"] if findings.profile else [],
        random_seed=RANDOM_SEED,
        plots={name: Markup(svg) if svg else "" for name, svg in _plots(findings).items()},
    )


def _plots(findings: Findings) -> dict[str, str | None]:
    accuracy = findings.accuracy
    config = findings.model.config
    drawn = {
        "arena": plots.arena(findings.memory),
        "flash": plots.parts("flash", flash_rows(findings.memory)),
        "ram": plots.parts("ram", ram_rows(findings.memory)),
        "layers": plots.layers(findings.layers),
        "sqnr": plots.sqnr(findings.layers),
        "frontend": plots.front_end(findings.spectrograms, config.hop_length / config.sample_rate_hz),
        "confusion": None,
        "noise": None,
        "room": plots.detection_error(findings.room) if findings.room else None,
    }
    if accuracy is None:
        return drawn
    drawn["confusion"] = plots.confusion(findings.model.labels, accuracy.best_known.confusion)
    if len(accuracy.best_known.noise) > 1:
        drawn["noise"] = plots.noise(accuracy)
    return drawn


def flash_rows(memory: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what the flash holds, in bytes; together they are the firmware's, where it was compiled."""
    flash, compiled = memory["flash"], memory["compiled"]
    rows = [("weights and their constants", flash["weights_bytes"]), ("front end's tables", flash["tables_bytes"])]
    if compiled:
        rows.append(("code", compiled["code_bytes"]))
        rows.append(("everything else", compiled["flash_bytes"] - sum(value for _, value in rows)))
    return rows


def stack_bytes(compiled: dict[str, int]) -> int | None:
    """Return the most stack that a program uses: its bound, or what was measured; None where nobody knows."""
    return compiled.get("stack_bound_bytes", compiled.get("stack_measured_bytes"))


def ram_rows(memory: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what the RAM holds, in bytes; the stack is a bound that the compiler's call graph gives."""
    ram, compiled = memory["ram"], memory["compiled"]
    rows = [
        ("arena", ram["arena_bytes"]),
        ("ring of features", ram["feature_ring_bytes"]),
        ("audio history", ram["audio_history_bytes"]),
    ]
    rows.append(("rest of the recogniser", ram["instance_bytes"] - sum(value for _, value in rows)))
    if compiled:
        rows.append(("program and its buffers", max(0, compiled["ram_bytes"] - ram["instance_bytes"])))
        rows += [("stack, at most", stack)] if (stack := stack_bytes(compiled)) else []
    return rows


def _tiles(findings: Findings) -> list[tuple[str, str, str]]:
    """Return (what, number, small print) of what a reader looks for first."""
    tiles = []
    accuracy, compiled, profile = findings.accuracy, findings.memory["compiled"], findings.profile
    if accuracy:
        score = accuracy.best_known
        words = score.command_accuracy is not None
        share, interval = (
            (score.command_accuracy, score.command_interval) if words else (score.accuracy, score.accuracy_interval)
        )
        small = f"95 %: {interval[0]:.1%} to {interval[1]:.1%}" if interval else f"{accuracy.clips} clips"
        tiles.append((f"{'command words' if words else 'clips'} right, int8", f"{share:.1%}", small))
    if profile:
        network = profile["network"]
        tiles.append(("an inference", f"{network['instructions']:,}", "instructions, counted"))
    if compiled:
        tiles.append(("flash", f"{compiled['flash_bytes']:,}", "bytes"))
        stack = stack_bytes(compiled)
        tiles.append(("RAM", f"{compiled['ram_bytes']:,}", f"bytes, and {stack:,} of stack" if stack else "bytes"))
    comparison = findings.comparison
    same = comparison.mismatched_bytes == 0
    small = f"of {comparison.compared_bytes:,} compared, {len(comparison.engines)} engines"
    tiles.append(("bytes that differ", "0" if same else f"{comparison.mismatched_bytes:,}", small))
    return tiles


def _card_text(recognizer: CompiledModel) -> str:
    if not recognizer.metadata.get("card"):
        return ""
    try:
        return render_card("model", recognizer.metadata)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return ""


def _frontend_rows(config: FrontendConfig) -> Rows:
    ms = 1000.0 / config.sample_rate_hz
    kind = f"{config.n_mfcc} MFCCs" if config.n_mfcc else "log-mel energies"
    return [
        ("samples", f"{config.sample_rate_hz:,} Hz, int16, {config.clip_samples:,} a window"),
        ("frames", f"{config.num_frames}, of {config.window_length * ms:g} ms every {config.hop_length * ms:g} ms"),
        ("features", f"{kind} from {config.n_mels} mel bands, {config.low_hz:g} to {config.high_hz:g} Hz"),
        ("transform", f"{config.n_fft} points, window {config.window.replace('_', ', ')}"),
    ]


def _mistakes(findings: Findings) -> list[tuple[str, str, int]]:
    """Return (said, answered, times) of the most frequent confusions."""
    if findings.accuracy is None:
        return []
    labels, counts = findings.model.labels, findings.accuracy.best_known.confusion
    pairs = [(int(counts[i, j]), i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j]
    worst = sorted((pair for pair in pairs if pair[0] > 0), key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [(labels[i], labels[j], times) for times, i, j in worst[:_MOST_MISTAKES]]
