"""An RP2040's image in rp2040js, by node. What is modelled, and what is not: rp2040.mjs beside this file."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from mbx_deploy.codegen.target import Target
from mbx_deploy.emulation.heard import Heard, LineCollector
from mbx_deploy.emulation.symbols import read_symbols
from mbx_deploy.errors import CheckFailed, ToolMissing
from mbx_deploy.system.doctor import RP2040JS_INSTALL
from mbx_deploy.system.tools import need_tool, run_tool

_SCRIPT = Path(__file__).with_name("rp2040.mjs")
_MODULE = Path("node_modules/rp2040js/dist/esm/index.js")
_START_S, _LIMIT_S = 60.0, 120.0  # at most; some eight times what a second of audio takes on an idle core
# 03h at clk/4, by which the second stage has the flash read: two words of 8 + 24 + 32 clocks a line of the cache of
# eight bytes, 4 * 2 * 64, and 32 for selecting the chip. Source: RP2040 datasheet, section 2.6.3; W25Q16JV, 8.2.6.
MISS_CYCLES = 544


def run_rp2040(elf: Path, target: Target, samples: np.ndarray, seconds: float, pins: dict[str, int]) -> Heard:
    """Return what an image does while its microphone hears samples; see images.run_image(). pins: of its mbx_pins.h."""
    node = need_tool("node", "boot an image for the RP2040")
    module = find_rp2040js()
    options = {
        "image": str(elf.with_suffix(".uf2").absolute()),
        "module": module.absolute().as_uri(),
        "seconds": seconds,
        "clock_hz": target.clock_hz,
        "miss_cycles": MISS_CYCLES,
        "pins": [pins[name] for name in ("MBX_PIN_PDM_CLK", "MBX_PIN_PDM_DIN", "MBX_PIN_LIGHT")],
        "decision": read_symbols(elf.read_bytes())["mbx_link_tell_scores"],
    }
    with tempfile.TemporaryDirectory(prefix="mbx-rp2040-") as folder:
        heard_file, told = Path(folder) / "heard.s16", Path(folder) / "told.json"
        heard_file.write_bytes(samples.astype("<i2").tobytes())
        options |= {"samples": str(heard_file), "out": str(told)}
        limit = _START_S + _LIMIT_S * seconds
        run_tool([node, str(_SCRIPT), json.dumps(options)], what="booting the image in rp2040js", timeout_s=limit)
        try:
            found = json.loads(told.read_text())
        except (OSError, ValueError) as error:
            raise CheckFailed(f"the emulator of the RP2040 told nothing: {error}") from None
    heard = Heard(
        found["seconds"], idle_share=found["idle_share"], decisions=found["decisions"], faults=found["faults"]
    )
    heard.lights = [(second, bool(on)) for second, on in found["lights"]]
    sent = LineCollector(heard)
    for second, byte in found["sent"]:
        sent.take(byte, second)
    return heard


def find_rp2040js() -> Path:
    """Return the entry of the package rp2040js, beside this Python or below this folder. Raises ToolMissing without."""
    places = [Path(sys.prefix) / _MODULE, Path.cwd() / _MODULE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ToolMissing("the emulator of this chip is not installed: rp2040js", f"run: {RP2040JS_INSTALL}")
    return found
