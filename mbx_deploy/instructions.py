"""How many instructions an inference takes, counted in QEMU: exact, and the same on every machine."""

from pathlib import Path

import numpy as np

from mbx_deploy.engines import FirmwareEngine
from mbx_deploy.errors import CheckFailed
from mbx_deploy.profiling.counting import count
from mbx_deploy.profiling.listing import read_listing
from mbx_deploy.recognizer import Recognizer
from mbx_deploy.session import ITEM_FEATURES, Item
from mbx_deploy.target import Target
from mbx_deploy.toolchain import find_tool

# The network's function, and the one that is called behind it.
NETWORK, AFTER_NETWORK = "invoke", "mbx_posteriors"


def can_count(target: Target) -> bool:
    """Return whether this machine can count the instructions of a target's firmware."""
    emulated = target.machine is not None or target.emulated_as is not None
    tools = ("qemu-system-arm", "gcc", f"{target.toolchain}-objdump", f"{target.toolchain}-nm")
    return emulated and all(find_tool(tool) for tool in tools)


def count_inference(recognizer: Recognizer, elf: Path, target: Target) -> int:
    """Return the instructions of one inference of a firmware, from a window's features to its logits.

    Raises ToolMissing where the target has no emulator, or a tool is not installed; CheckFailed where the firmware
    fails or has no such network.
    """
    config = recognizer.config
    features = np.random.default_rng(1).integers(-128, 128, config.num_frames * config.num_coefficients)
    item = Item(ITEM_FEATURES, features.astype(np.int8))
    listing = read_listing(FirmwareEngine(recognizer, elf, target).elf, target.toolchain)
    first, behind = listing.address_of(NETWORK), listing.address_of(AFTER_NETWORK)
    if first is None or behind is None:
        raise CheckFailed("instructions were not counted: the firmware's ELF does not name where the network begins")
    counts = count(lambda plugin: FirmwareEngine(recognizer, elf, target, plugin).run([item]), [first, behind])
    return counts.instructions([segment for segment in counts.segments if segment.mark == first])
