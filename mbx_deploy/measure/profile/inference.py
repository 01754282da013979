"""How many instructions an inference takes, counted in QEMU: exact, and the same on every machine."""

from pathlib import Path

import numpy as np

from mbx_deploy.codegen.target import Target
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.engines.firmware import FirmwareEngine
from mbx_deploy.engines.session import ITEM_CLIP, Item
from mbx_deploy.errors import CheckFailed
from mbx_deploy.firmware.pace import ListeningCost
from mbx_deploy.measure.items import random_input
from mbx_deploy.measure.profile.counting import count
from mbx_deploy.measure.profile.listing import Listing, read_listing
from mbx_deploy.system.emulator import emulator_of
from mbx_deploy.system.tools import find_tool

# The network's function, what a recogniser calls behind it, and who calls that of a network alone, through a pointer.
_FRAME, _AFTER_FRAME = "mbx_frame_coefficients", "mbx_quantize_features"
NETWORK, _POSTERIORS, _CALLER = "invoke", "mbx_posteriors", "mbx_network_observe"


def can_count(target: Target) -> bool:
    """Return whether this machine can count the instructions of a target's firmware."""
    emulated = target.machine is not None or target.emulated_as is not None
    tools = (emulator_of(target.machine or ""), "gcc", f"{target.toolchain}-objdump", f"{target.toolchain}-nm")
    return emulated and all(find_tool(tool) for tool in tools)


def network_end(listing: Listing, alone: bool) -> int:
    """Return the address of what runs next behind the network. alone: it has no front end.

    Raises CheckFailed for an ELF that does not tell.
    """
    if alone:
        found = [listing.behind(one.address) for one in listing.inside(_CALLER) if one.name == "blx"]
    else:
        found = sorted({symbol.address for symbol in listing.symbols if symbol.name == _POSTERIORS})
    if len(found) != 1:
        raise CheckFailed("instructions were not counted: the firmware's ELF does not name where the network ends")
    return found[0]


def count_inference(model: CompiledModel, elf: Path, target: Target) -> int:
    """Return the instructions of one inference of a firmware, from the network's input to its output.

    Raises ToolMissing where the target has no emulator, or a tool is not installed; CheckFailed where the firmware
    fails or has no such network.
    """
    listing = read_listing(FirmwareEngine(model, elf, target).elf, target.toolchain)
    first, end = listing.address_of(NETWORK), network_end(listing, model.hearing is None)
    if first is None:
        raise CheckFailed("instructions were not counted: the firmware's ELF does not name where the network begins")
    item = random_input(model)
    counts = count(lambda plugin: FirmwareEngine(model, elf, target, plugin).run([item]), [first, end])
    return counts.instructions([segment for segment in counts.segments if segment.mark == first])


def count_listening(model: CompiledModel, elf: Path, target: Target) -> ListeningCost | None:
    """Return what a run of the network and a frame of features cost a board, counted on noise; None where this machine
    can't count.

    Raises CheckFailed where the firmware fails, or its ELF does not name them.
    """
    if not can_count(target):
        return None
    listing = read_listing(FirmwareEngine(model, elf, target).elf, target.toolchain)
    first, end, frame, behind = (
        listing.address_of(NETWORK),
        network_end(listing, False),
        listing.address_of(_FRAME),
        listing.address_of(_AFTER_FRAME),
    )
    if first is None or frame is None or behind is None:
        raise CheckFailed("instructions were not counted: the firmware's ELF does not name its network and front end")
    noise = np.random.default_rng(0).integers(-8192, 8192, model.config.clip_samples).astype(np.int16)
    item = Item(ITEM_CLIP, noise)
    counts = count(lambda plugin: FirmwareEngine(model, elf, target, plugin).run([item]), [first, end, frame, behind])
    runs, frames = ([s for s in counts.segments if s.mark == mark] for mark in (first, frame))
    return ListeningCost(
        round(counts.instructions(runs) / max(len(runs), 1)), round(counts.instructions(frames) / max(len(frames), 1))
    )
