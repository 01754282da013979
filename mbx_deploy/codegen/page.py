"""The page of a build for the browser: one HTML file with all in it. Pure: the same module gives the same text."""

import base64
import hashlib
import html
import json
from typing import Any

import jinja2
from markupsafe import Markup

from mbx_deploy.codegen.manifest import build_digest
from mbx_deploy.codegen.model_facts import model_limits, model_rows
from mbx_deploy.codegen.self_test import test_checksum, test_samples
from mbx_deploy.codegen.target import Target
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.system.resources import firmware_templates_folder
from mbx_deploy.system.version import __version__

# In the order in which the page reads them.
SCRIPTS = ("recognizer.js", "self_test.js", "resampler.js", "sound_files.js", "microphone.js", "view.js", "page.js")
FRAMES_SHOWN = 300  # SPECTROGRAM_FRAMES of view.js


def render_page(model: CompiledModel, target: Target, prefix: str, stride_frames: int, module: bytes) -> str:
    """Return the page of a model that hears. module: its compiled WebAssembly.

    What the test signal must give is the simulator's: computed here, by no code of the page's.
    """
    folder = firmware_templates_folder() / "browser"
    script = '"use strict";\n' + "\n".join((folder / name).read_text() for name in SCRIPTS)
    style = (folder / "page.css").read_text()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    told = describe(model, target, prefix, stride_frames)
    wasm_row = ("SHA-256 of the WebAssembly", hashlib.sha256(module).hexdigest())
    return environment.get_template("page.html.j2").render(
        version=__version__,
        name=prefix,
        prefix=prefix,
        words=[label for label, word in zip(model.labels, told["decision"]["isWord"], strict=True) if word],
        policy=Markup(html.escape(_policy(script, style))),
        style=Markup(style),
        script=Markup(script),
        model_json=Markup(_json_in_html(told)),
        wasm=base64.b64encode(module).decode(),
        rows=[("labels", ", ".join(model.labels)), *model_rows(model), wasm_row, ("build", f"{told['build']:08x}")],
        limits=model_limits(model),
        seconds_shown=f"{FRAMES_SHOWN * model.config.hop_length / model.config.sample_rate_hz:g}",
    )


def describe(model: CompiledModel, target: Target, prefix: str, stride_frames: int) -> dict[str, Any]:
    """Return what the page's script needs to know of a model: MODEL of page.js."""
    assert model.hearing is not None
    rule = model.hearing.decision
    return {
        "prefix": prefix,
        "labels": list(model.labels),
        "rate": model.config.sample_rate_hz,
        "clipSamples": model.config.clip_samples,
        "streaming": model.streaming is not None,
        "decision": {
            "smoothing": rule.smoothing,
            "thresholdsQ15": list(rule.thresholds_q15),
            "isWord": [bool(word) for word in rule.is_word],
        },
        "build": build_digest(model, target, prefix, stride_frames),
        "test": {"samples": test_samples(model, stride_frames), "checksum": test_checksum(model, stride_frames)},
    }


def _policy(script: str, style: str) -> str:
    """Return the Content-Security-Policy: this script, this style, no connection to anywhere.

    data: is for the audio thread's few lines, which a page from the disk can't load in another way.
    """
    scripts, styles = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style))
    return (
        f"default-src 'none'; script-src 'sha256-{scripts}' 'wasm-unsafe-eval' data:; style-src 'sha256-{styles}'; "
        "img-src data:; connect-src 'none'; form-action 'none'; base-uri 'none'"
    )


def _json_in_html(value: Any) -> str:
    """Return JSON that ends no script element, and begins no comment."""
    return json.dumps(value, sort_keys=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
