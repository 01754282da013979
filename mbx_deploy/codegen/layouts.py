"""The sources of a project as an ecosystem expects them: a library, a module, a component.

The C is the same, byte for byte; only paths and what describes them differ. Assembly is fenced off from other cores,
for tools that compile every file they find.

A new layout: a folder in firmware_templates/templates/layouts/, a Layout below, and its tests in
tests/emulator/test_layouts.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mbx_deploy.codegen.languages import Verbatim
from mbx_deploy.codegen.templates import FRONTEND_ASSEMBLY, render_files
from mbx_deploy.system.resources import runtime_file
from mbx_deploy.system.version import __version__

CMAKE = "cmake"
# What the preprocessor says of a core that runs a file of assembly, by a word in the file's name.
ASSEMBLY_FENCES = {
    "helium": "defined(__ARM_FEATURE_MVE)",
    "thumb": "defined(__thumb__)",
    "": "defined(__ARM_FEATURE_DSP)",
}
# What a README says of the sets of kernels.
CORES = {
    "portable": "any core",
    "dsp": "cores with the DSP extension (Cortex-M4, M7, M33); on others C of the same bytes stands in",
    "thumb": "Arm Cortex-M (M0+, M3); on others C of the same bytes stands in",
    "helium": "cores with Helium (Cortex-M55); on others C of the same bytes stands in",
}
EXAMPLES = {True: "listen", False: "run"}  # what the example is called, by whether the model hears
SOURCE_FOLDERS = ("include/", "generated/", "src/")


@dataclass(frozen=True)
class Layout:
    """templates: {path in the project: template}; {example} in a path is what the example is called. place: where a
    source goes.

    heading and usage: for the README. portable: only kernels that run on any core. main: what the example's main() is.
    """

    heading: str
    usage: str
    templates: dict[str, str]
    place: Callable[[str], str]
    portable: bool = False
    signature: str = "int main(void)"
    leave: str = "return 1"
    leave_well: str = "return 0"


def _flat(path: str) -> str:
    return "src/" + path.rpartition("/")[2]


def _include_and_src(path: str) -> str:
    return path if path.startswith("include/") else _flat(path)


def _same(path: str) -> str:
    return path


LAYOUTS = {
    "arduino": Layout(
        "an Arduino library",
        "Put this folder into the Arduino IDE's `libraries` folder, or zip it and take Sketch, Include Library, "
        "Add .ZIP Library.\nThe example {Example}{microphone}: `arduino-cli compile -b "
        "arduino:mbed_nano:nano33ble --library .\nexamples/{Example}`.",
        {
            "library.properties": "arduino/library.properties.j2",
            "examples/{Example}/{Example}.ino": "arduino/Example.ino.j2",
        },
        _flat,
    ),
    "platformio": Layout(
        "a PlatformIO library",
        "Put this folder into a project's `lib` folder. `examples/{example}` runs on this machine: `pio run -d "
        "examples/{example} -e native`.",
        {
            "library.json": "platformio/library.json.j2",
            "examples/{example}/platformio.ini": "platformio/platformio.ini.j2",
            "examples/{example}/src/main.c": "main.c.j2",
        },
        _include_and_src,
    ),
    "zephyr": Layout(
        "a Zephyr module",
        "Give this folder to a build with `-DZEPHYR_EXTRA_MODULES=...`, or name it in the manifest of west, and set "
        "`CONFIG_MBX_{P}=y`.\nThe sample: `west build -b BOARD samples/{example}`.",
        {
            "zephyr/module.yml": "zephyr/module.yml.j2",
            "Kconfig": "zephyr/Kconfig.j2",
            "CMakeLists.txt": "zephyr/CMakeLists.txt.j2",
            "samples/{example}/CMakeLists.txt": "zephyr/sample_CMakeLists.txt.j2",
            "samples/{example}/prj.conf": "zephyr/prj.conf.j2",
            "samples/{example}/sample.yaml": "zephyr/sample.yaml.j2",
            "samples/{example}/src/main.c": "main.c.j2",
        },
        _same,
    ),
    "esp-idf": Layout(
        "an ESP-IDF component",
        "Put this folder into a project's `components` folder. The example: "
        "`idf.py -C examples/{example} set-target esp32s3 build`.",
        {
            "CMakeLists.txt": "esp-idf/CMakeLists.txt.j2",
            "idf_component.yml": "esp-idf/idf_component.yml.j2",
            "examples/{example}/CMakeLists.txt": "esp-idf/example_CMakeLists.txt.j2",
            "examples/{example}/main/CMakeLists.txt": "esp-idf/main_CMakeLists.txt.j2",
            "examples/{example}/main/main.c": "main.c.j2",
        },
        _same,
        portable=True,
        signature="void app_main(void)",
        leave="return",
        leave_well='printf("done\\n")',
    ),
}
NAMES = (CMAKE, *LAYOUTS)


def _fenced(path: str, text: str | bytes) -> str:
    assert isinstance(text, str)
    condition = next(condition for word, condition in ASSEMBLY_FENCES.items() if word in path)
    return f"#if {condition}\n{text}#endif\n"


def _named(text: str, context: dict[str, Any]) -> str:
    """Return a path or a text with the prefix and the example's name."""
    example = EXAMPLES[context["hearing"]]
    needs = " is for boards with a PDM microphone" if context["hearing"] else ""
    names = {"{P}": context["P"], "{example}": example, "{Example}": example.capitalize(), "{microphone}": needs}
    for mark, name in names.items():
        text = text.replace(mark, name)
    return text


def _summary(context: dict[str, Any]) -> str:
    if context["hearing"]:
        return f"Recognises {len(context['labels'])} spoken classes, in integers, on the device"
    return "Runs a quantized network, int8 in and out, in integers, on the device"


def arrange(name: str, files: dict[str, str | bytes], context: dict[str, Any]) -> dict[str, str | bytes]:
    """Return {path: content} of a layout other than CMake's, from a generated project.

    files: the project, whose C sources, model and target are taken. context: what its templates were rendered with.
    """
    layout = LAYOUTS[name]
    sources = {path: text for path, text in files.items() if path.startswith(SOURCE_FOLDERS)}
    # The front end calls its assembly on any core that runs it: a library may be compiled for one, whatever its target.
    needs_all = context["hearing"] and not layout.portable
    lacks = [name for files in FRONTEND_ASSEMBLY.values() for name in files] if needs_all else []
    missing = [name for name in lacks if f"src/{name}" not in sources]
    for assembly in missing:
        sources[f"src/{assembly}"] = runtime_file(assembly).read_text()
    library_sources = [*context["library_sources"], *(f"src/{assembly}" for assembly in missing)]
    arranged = {
        layout.place(path): _fenced(path, text) if path.endswith(".S") else text for path, text in sources.items()
    }
    assert len(arranged) == len(sources)  # a file of one folder would hide another's
    context = context | {
        "version": __version__,
        "cores": CORES.get(context["target"].kernels, "the target's core; on others C of the same bytes stands in"),
        "library_sources": [layout.place(path) for path in library_sources],
        "heading": layout.heading,
        "usage": Verbatim(_named(layout.usage, context)),
        "example": EXAMPLES[context["hearing"]],
        "summary": _summary(context),
        "signature": layout.signature,
        "leave": layout.leave,
        "leave_well": Verbatim(layout.leave_well),
        "instance_kb": -(-context["arena_bytes"] // 1024) + (8 if context["hearing"] else 1),
    }
    templates = {**layout.templates, "README.md": "README.md.j2"}
    arranged |= render_files(
        {_named(path, context): f"layouts/{template}" for path, template in templates.items()}, context
    )
    kept = ("model.tflite", f"{context['target'].name}.toml")
    return arranged | {path: files[path] for path in kept}
