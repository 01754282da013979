"""A recogniser and a target -> the files of a C project. Pure: the same input gives the same text, on any machine.

Templates hold data and the list of calls; arithmetic and loops live in firmware_templates/src, copied as it is.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np

from mbx_deploy import __version__
from mbx_deploy.errors import InputError
from mbx_deploy.frontend import feature_multiplier
from mbx_deploy.kernels import DSP_GROUP_INPUTS, Kernel, add_constants_dsp, pack_depthwise_dsp, pack_pointwise_dsp
from mbx_deploy.memory_plan import MemoryPlan, plan_memory
from mbx_deploy.program import Addition, Average, Call, Convolution, Maximum, Pointwise
from mbx_deploy.recognizer import Recognizer
from mbx_deploy.resources import firmware_templates_folder
from mbx_deploy.sim.model import exponential_table
from mbx_deploy.target import Target, find_target

RUNTIME_VERSION = 1
PREFIX_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,30}")
# Names whose <prefix>_t, <prefix>.h or CMake target is somebody else's.
TAKEN_PREFIXES = frozenset(
    (
        *(
            "size",
            "ssize",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "intptr",
            "uintptr",
        ),
        *(
            "intmax",
            "uintmax",
            "ptrdiff",
            "wchar",
            "max_align",
            "string",
            "stdint",
            "stddef",
            "stdio",
            "stdlib",
            "stdbool",
        ),
        *("limits", "math", "time", "errno", "assert", "float", "semihosting", "main"),
        *("firmware", "test", "all", "install", "clean", "help", "package", "edit_cache", "rebuild_cache"),
    )
)
# Labels that a board does not report as words.
NO_WORDS = frozenset(("silence", "unknown", "_silence_", "_unknown_", "background", "_background_noise_", "noise"))
RUNTIME_SOURCES = ("mbx_frontend.c", "mbx_kernels.c", "mbx_recognizer.c")
RUNTIME_HEADERS = ("mbx_fixed_point.h", "mbx_frontend.h", "mbx_kernels.h", "mbx_recognizer.h")


@dataclass(frozen=True)
class CArray:
    """A constant array of the generated C. aligned: to words, which its kernel loads."""

    name: str
    type: str
    values: np.ndarray
    comment: str
    aligned: bool = False

    @property
    def count(self) -> int:
        """Number of elements; C has no empty arrays."""
        return max(1, self.values.size)

    @property
    def size_bytes(self) -> int:
        """Bytes in flash."""
        return int(self.values.size * self.values.dtype.itemsize)

    @property
    def text(self) -> str:
        """The initialiser, some 110 columns wide."""
        words = [_literal(value, self.type) for value in self.values.ravel().tolist()] or ["0"]
        width = max(len(word) for word in words) + 2
        row = max(1, 112 // width)
        return "\n".join("    " + ", ".join(words[start : start + row]) + "," for start in range(0, len(words), row))


def _literal(value: int, kind: str) -> str:
    if kind == "int32_t" and value == -(1 << 31):
        return "INT32_MIN"
    return f"{value}u" if kind.startswith("uint") else str(value)


def generate_project(
    recognizer: Recognizer, target: Target, prefix: str = "kws", stride_frames: int = 25
) -> dict[str, str | bytes]:
    """Return {path: content} of a C project, without the reports that need a compiler.

    prefix: begins every symbol of the model, so that several fit one image. stride_frames: between the windows of
    continuous audio. Raises InputError for a prefix that is no C identifier or a stride out of range.
    """
    if not PREFIX_PATTERN.fullmatch(prefix) or prefix.startswith("mbx") or prefix in TAKEN_PREFIXES:
        raise InputError(
            f"bad prefix: got {prefix!r}, need a lower-case C identifier of at most 31 letters that is not taken and "
            "does not begin with mbx"
        )
    if not 1 <= stride_frames <= recognizer.config.audio_frames:
        need = f"1 to {recognizer.config.audio_frames} frames"
        raise InputError(f"bad stride between windows: got {stride_frames}, need {need}")
    context = _context(recognizer, target, prefix, stride_frames)
    files: dict[str, str | bytes] = {
        f"src/{name}": _template_text(f"src/{name}") for name in RUNTIME_SOURCES + RUNTIME_HEADERS
    }
    for name in kernel_sources(target):
        files[f"src/{name.rpartition('/')[2]}"] = _template_text(f"src/{name}")
    files |= board_files(target, "board")
    rendered = {
        f"include/{prefix}.h": "model.h.j2",
        f"generated/{prefix}_data.h": "model_data.h.j2",
        f"generated/{prefix}_data.c": "model_data.c.j2",
        f"generated/{prefix}_frontend.c": "frontend_tables.c.j2",
        f"generated/{prefix}.c": "model.c.j2",
        "board/main.c": "application.c.j2" if target.is_board else "main.c.j2",
        "README.md": "README.md.j2",
        "CMakeLists.txt": "CMakeLists.txt.j2",
    }
    if target.toolchain != "host":
        rendered |= {"toolchain.cmake": "toolchain.cmake.j2", "linker.ld": "linker.ld.j2"}
    context["library_sources"] = [f"src/{name}" for name in RUNTIME_SOURCES]
    context["library_sources"] += [path for path in files if path.startswith("src/") and path.endswith(".S")]
    context["library_sources"] += [f"src/{name}.c" for name in kernel_modules(target)]
    context["library_sources"] += [f"generated/{prefix}{suffix}.c" for suffix in ("", "_data", "_frontend")]
    context["board_sources"] = _sources_below("board/", files)
    environment = _environment()
    if target.emulated_as:
        machine = find_target(target.emulated_as)
        files |= board_files(machine, "emulator")
        context["emulator_sources"] = _sources_below("emulator/", files)
        files["emulator/main.c"] = environment.get_template("main.c.j2").render(context)
        files["emulator/linker.ld"] = environment.get_template("linker.ld.j2").render(context | {"target": machine})
    for path, template in rendered.items():
        files[path] = environment.get_template(template).render(context)
    files["model.tflite"] = recognizer.data
    files[f"{target.name}.toml"] = target.text
    return files


def board_files(target: Target, folder: str) -> dict[str, str | bytes]:
    """Return {path: text} of a target's board and its parts, in a folder of the project."""
    found: dict[str, str | bytes] = {}
    for part in (*target.parts, target.board):
        for source in sorted((firmware_templates_folder() / "boards" / part).iterdir()):
            found[f"{folder}/{source.name}"] = source.read_text()
    return found


def _sources_below(folder: str, files: dict[str, str | bytes]) -> list[str]:
    found = {name for name in files if name.startswith(folder) and name.endswith((".c", ".S"))}
    return sorted(found | {f"{folder}main.c"})


def kernel_modules(target: Target) -> list[str]:
    """Return the modules of the target's set of kernels, without suffix; the portable ones are always there."""
    return [] if target.kernels == "portable" else [f"mbx_kernels_{target.kernels}"]


def kernel_sources(target: Target) -> list[str]:
    """Return the files of the target's set of kernels, below src/."""
    folder = firmware_templates_folder() / "src" / target.kernels
    return sorted(f"{target.kernels}/{path.name}" for path in folder.iterdir()) if folder.is_dir() else []


def make_manifest(
    files: dict[str, str | bytes], recognizer: Recognizer, target: Target, prefix: str, stride_frames: int
) -> str:
    """Return manifest.json: what the project was made from, and the SHA-256 of every file in it."""
    digests = {
        name: hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
        for name, content in files.items()
    }
    manifest = {
        "format": 1,
        "generator": f"mbx-deploy {__version__}",
        "target": target.name,
        "prefix": prefix,
        "stride_frames": stride_frames,
        "labels": list(recognizer.labels),
        "model_sha256": recognizer.digest,
        "frontend_sha256": recognizer.config.digest(),
        "files": digests,
    }
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"


def constant_arrays(recognizer: Recognizer, plan: MemoryPlan, prefix: str) -> list[CArray]:
    """Return the network's constants in the order of the calls, laid out for the kernels that read them."""
    arrays: list[CArray] = []
    for number, (call, kernel) in enumerate(zip(recognizer.program.calls, plan.kernels, strict=True)):
        if not isinstance(call, Addition | Average | Maximum):
            arrays += _call_arrays(call, kernel, f"{prefix}_{{}}_{number}")
    return arrays


def _call_arrays(call: Pointwise | Convolution, kernel: Kernel, name: str) -> list[CArray]:
    comment = f"{_plain(call.name)}: {' x '.join(str(length) for length in call.weights.shape)}, for {kernel.name}()"
    if kernel.name == "mbx_pointwise_dsp":
        assert isinstance(call, Pointwise)
        packed, channels, shifts = pack_pointwise_dsp(call)
        return [
            CArray(name.format("weights"), "int16_t", packed, comment, aligned=True),
            CArray(
                name.format("channels"),
                "int32_t",
                channels,
                "2 b0, 512 b1 + 2 b0, m0, m1 a pair of channels",
                aligned=True,
            ),
            CArray(name.format("shifts"), "uint8_t", shifts, "s - 1 a channel"),
        ]
    if kernel.name == "mbx_depthwise_line_dsp":
        assert isinstance(call, Convolution)
        taps, constants, shifts = pack_depthwise_dsp(call)
        return [
            CArray(name.format("weights"), "int8_t", taps, comment),
            CArray(name.format("constants"), "int32_t", constants, "2 b, m a channel"),
            CArray(name.format("shifts"), "uint8_t", shifts, "s - 1 a channel"),
        ]
    r = call.requantization
    weights = call.weights
    if kernel.name == "mbx_depthwise_line":
        weights = np.ascontiguousarray(call.weights.reshape(-1, call.weights.shape[-1]).T)
    return [
        CArray(name.format("weights"), "int8_t", weights, comment),
        CArray(name.format("bias"), "int32_t", r.bias.astype(np.int32), "one a channel"),
        CArray(name.format("multiplier"), "int32_t", r.multiplier, "Q31, one a channel"),
        CArray(name.format("shift"), "int8_t", r.shift, "one a channel, positive to the left"),
    ]


def frontend_arrays(recognizer: Recognizer) -> list[CArray]:
    """Return the front end's tables."""
    tables = recognizer.tables
    kind = recognizer.config.window.removeprefix("hann_")
    arrays = [
        CArray("window_q29", "int32_t", tables.window_q29, f"{kind} Hann window, Q29"),
        CArray("twiddle_q31", "int32_t", tables.twiddle_q31, "cos and sin of 2 pi k / n_fft, Q31"),
        CArray("mel_first", "uint16_t", tables.mel_first, "first bin of each mel filter"),
        CArray("mel_count", "uint16_t", tables.mel_count, "bins of each mel filter"),
        CArray("mel_weights_q32", "uint32_t", tables.mel_weights_q32, "the filters' weights one after another, Q32"),
        CArray("log_q24", "int32_t", tables.log_q24, "ln(1 + i / 256), Q24"),
    ]
    if recognizer.config.n_mfcc:
        comment = "left half of each row of the orthonormal DCT-II, Q31"
        arrays.append(CArray("dct_q31", "int32_t", tables.dct_q31, comment))
    return arrays


def _context(recognizer: Recognizer, target: Target, prefix: str, stride_frames: int) -> dict[str, Any]:
    program, tables = recognizer.program, recognizer.tables
    plan = plan_memory(program, target.kernels)
    identity = json.dumps([__version__, RUNTIME_VERSION, recognizer.digest, prefix, stride_frames, target.name])
    multiplier, shift = feature_multiplier(program.input_scale)
    return {
        "banner": f"Generated by mbx-deploy {__version__}; do not edit, generate it again.",
        "p": prefix,
        "P": prefix.upper(),
        "digest": "0x" + hashlib.sha256(identity.encode()).hexdigest()[:8],
        "runtime_version": RUNTIME_VERSION,
        "labels": recognizer.labels,
        "label_macros": label_macros(recognizer.labels),
        "word_flags": [int(label not in NO_WORDS) for label in recognizer.labels],
        "emulator_sources": [],
        "config": recognizer.config,
        "stride_frames": stride_frames,
        "arena_bytes": arena_bytes(recognizer, plan),
        "target": target,
        "embedded": target.toolchain != "host",
        "arrays": constant_arrays(recognizer, plan, prefix),
        "tables": frontend_arrays(recognizer),
        "preemphasis_q30": tables.preemphasis_q30,
        "ln2_q24": tables.ln2_q24,
        "log_bias_q24": tables.log_bias_q24,
        "log_offset": tables.log_offset,
        "exponentials": CArray("exponentials_q15", "uint16_t", exponential_table(program.output_scale), ""),
        "feature_multiplier": multiplier,
        "feature_shift": shift,
        "feature_zero_point": program.input_zero_point,
        "input_offset": plan.offsets[program.input],
        "output_offset": plan.offsets[program.output],
        "kernel_headers": [f"{name}.h" for name in kernel_modules(target)],
        "calls": [_call_context(recognizer, plan, number, call, prefix) for number, call in enumerate(program.calls)],
    }


def arena_bytes(recognizer: Recognizer, plan: MemoryPlan) -> int:
    """Return the size of the arena: the network's activations, or the front end's working memory if that is more."""
    config = recognizer.config
    return max(plan.arena_bytes, 8 * (config.n_fft // 2 + 1 + config.n_mels))


def _call_context(recognizer: Recognizer, plan: MemoryPlan, number: int, call: Call, prefix: str) -> dict[str, Any]:
    program, offsets, kernel = recognizer.program, plan.offsets, plan.kernels[number]
    source, target = program.buffers[call.input], program.buffers[call.output]
    shapes = (
        f"{source.height} x {source.width} x {source.channels} -> {target.height} x {target.width} x {target.channels}"
    )
    context: dict[str, Any] = {
        "number": number,
        "name": _plain(call.name),
        "comment": f"{_plain(call.name)}: {shapes}",
        "kernel": kernel.name,
        "source": source,
        "target": target,
        "input_offset": offsets[call.input],
        "other_offset": offsets[call.other] if isinstance(call, Addition) else None,
        "output_offset": offsets[call.output],
        "output_bytes": target.size_bytes,
        "scratch_offset": plan.scratch_offsets[number] if kernel.scratch_bytes else None,
        "positions": source.height * source.width,
    }
    if isinstance(call, Addition) and kernel.name == "mbx_add_dsp":
        constants = add_constants_dsp(call)
        assert constants is not None
        if constants.swapped:
            context |= {"input_offset": context["other_offset"], "other_offset": context["input_offset"]}
        return context | {"kind": "add_dsp", "add": constants, "count": target.size_bytes}
    if isinstance(call, Addition):
        return context | {"kind": "add", "add": call, "count": target.size_bytes}
    if isinstance(call, Maximum):
        return context | {"kind": "max", "channels": source.channels}
    if isinstance(call, Average):
        return context | {"kind": "mean", "mean": call, "channels": source.channels}
    context |= {
        key: f"{prefix}_{key}_{number}"
        for key in ("weights", "bias", "multiplier", "shift", "channels", "constants", "shifts")
    }
    context["requantization"] = call.requantization
    if isinstance(call, Pointwise):
        shape = {"out_channels": call.weights.shape[0], "in_channels": call.weights.shape[1]}
        kind = "pointwise_dsp" if kernel.name.endswith("_dsp") else "pointwise"
        groups = {"out_pairs": -(-call.weights.shape[0] // 2), "groups": -(-call.weights.shape[1] // DSP_GROUP_INPUTS)}
        return context | shape | groups | {"kind": kind, "positions": call.positions}
    kinds = {"mbx_depthwise_line_dsp": "depthwise_dsp", "mbx_depthwise_line": "depthwise"}
    return context | {"kind": kinds.get(kernel.name, "conv"), "conv": call}


def _plain(text: str) -> str:
    """Return text that can stand in a C comment."""
    return re.sub(r"[^A-Za-z0-9_ .,'-]", "_", text)


def label_macros(labels: tuple[str, ...]) -> list[str]:
    """Return the end of each label's macro, upper-case; two that would be the same carry the label's number."""
    plain = [re.sub(r"[^A-Za-z0-9]", "_", label).upper() for label in labels]
    return [name if plain.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(plain)]


def _c_string(text: str) -> str:
    parts = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()]
    return '"' + "".join(parts) + '"'


def _template_text(name: str) -> str:
    return (firmware_templates_folder() / name).read_text()


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(firmware_templates_folder() / "generated"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # C, not HTML: labels pass through the filters below
    )
    environment.filters["c_string"] = _c_string
    environment.filters["plain"] = _plain
    return environment
