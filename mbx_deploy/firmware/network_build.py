"""A network without a front end and a target -> a C project, compiled where the compiler is installed.

The folder appears whole or not at all.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from mbx_deploy.codegen.network_project import generate_network_project, make_network_manifest
from mbx_deploy.codegen.target import Target, read_target
from mbx_deploy.compiler.network_model import Network, load_network, parse_network
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.budgets import NO_BUDGETS, Budgets
from mbx_deploy.firmware.build import (
    DEFAULT_PREFIX,
    ELF_NAME,
    BuildReport,
    Count,
    Progress,
    check_budgets,
    check_compiled,
    compile_project,
    missing_tools,
    need_compiler,
    need_elf,
    read_manifest,
    read_sources,
)
from mbx_deploy.firmware.memory import check_network_fit, network_memory_report, render_report
from mbx_deploy.system.files import check_folder, write_folder


def build_network(
    model: Path,
    target: Target,
    folder: Path,
    prefix: str = DEFAULT_PREFIX,
    progress: Progress = lambda line: None,
    budgets: Budgets = NO_BUDGETS,
    count: Count | None = None,
) -> BuildReport:
    """Write the project of a .tflite's network alone, compile it, and return what it needs.

    model: with our metadata or without. folder: made, or replaced if it is an earlier build.
    Raises InputError for a bad model, a target that it does not fit, a board whose firmware listens, or a folder that
    can't be written; CheckFailed where a budget is exceeded. The folder stays as it was then.
    """
    check_folder(folder)
    if budgets != NO_BUDGETS:
        need_compiler(target)
    network = load_network(model)
    files = generate_network_project(network, target, prefix)
    check_network_fit(network, target)
    progress(f"generated {len(files)} files for {target.name}")
    missing = missing_tools(target)
    compiled = None
    if not missing:
        progress("compiling")
        binaries, compiled = compile_project(files, target)
        check_compiled(compiled, target)
        check_budgets(budgets, network, target, binaries, compiled, count)
    report = network_memory_report(network, target, compiled)
    files["memory_report.json"] = json.dumps(report, indent=2, sort_keys=True) + "\n"
    files["memory_report.txt"] = render_report(report)
    if not missing:
        files |= binaries
    files["manifest.json"] = make_network_manifest(files, network, target, prefix)
    write_folder(folder, files)
    return BuildReport(folder, target.name, None if missing else folder / ELF_NAME, tuple(missing), report)


@dataclass(frozen=True)
class NetworkBuild:
    """A folder that build_network() wrote, read back. files: its C files by relative path."""

    folder: Path
    network: Network
    target: Target
    files: dict[str, str | bytes]

    @property
    def elf(self) -> Path:
        """The firmware. Raises InputError where the build has none."""
        return need_elf(self.folder)


def load_network_build(folder: Path) -> NetworkBuild | None:
    """Return a build of a network alone, or None for one of a recogniser.

    Raises InputError for a folder that is no build, or whose manifest is damaged.
    """
    manifest = read_manifest(folder)
    if not manifest.get("network_only"):
        return None
    try:
        target, files = read_target(folder / f"{manifest['target']}.toml"), read_sources(folder, manifest)
        data = (folder / "model.tflite").read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the build is damaged ({folder}): {error}", "build it again") from None
    return NetworkBuild(folder, parse_network(data, str(folder / "model.tflite")), target, files)
