"""One door: a build and recordings -> what its board's image does with them, in an emulator of its chip."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from mbx_deploy.codegen.target import Target
from mbx_deploy.emulation.heard import Heard
from mbx_deploy.emulation.modulator import microphone_bits
from mbx_deploy.emulation.nrf52840 import Nrf52840
from mbx_deploy.emulation.rp2040 import run_rp2040
from mbx_deploy.emulation.stm32f407 import Stm32f407
from mbx_deploy.emulation.symbols import read_symbols
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.folder import Build
from mbx_deploy.firmware.image import read_flash_image

SAMPLE_RATE_HZ = 16_000
MOST_SECONDS = 60.0
_QUIET_S = 1.0  # before the first recording, between two, and after the last
_DEFAULT_CYCLES_MILLI = 1500
_START_S = 0.1  # from the reset to the microphone's start, at most

Run = Callable[[Build, np.ndarray, float], Heard]


def join_recordings(recordings: Sequence[np.ndarray]) -> np.ndarray:
    """Return int16 recordings with a second of quiet around each, as a microphone's faint noise."""
    random = np.random.default_rng(0)

    def quiet() -> np.ndarray:
        return random.integers(-1, 2, round(_QUIET_S * SAMPLE_RATE_HZ)).astype(np.int16)

    parts = [part for recording in recordings for part in (quiet(), recording)]
    return np.concatenate([*parts, quiet()])


def before_gain(samples: np.ndarray, target: Target) -> np.ndarray:
    """Return what a board's microphone gives where its firmware, after its gain, hears samples."""
    gain_db = target.microphone.gain_db if target.microphone else 0
    quiet: np.ndarray = np.rint(samples * 10 ** (-gain_db / 20)).astype(np.int16)
    return quiet


def run_image(build: Build, samples: np.ndarray, progress: Callable[[str], None] = lambda line: None) -> Heard:
    """Return what a board's own image does while its microphone hears samples: int16 at 16 kHz, full scale 32768.

    The samples are what the microphone gives, before the firmware's gain. Raises InputError for a build whose chip has
    no emulator here or for more than MOST_SECONDS, ToolMissing where the emulator is not installed, CheckFailed where
    it fails.
    """
    target = build.target
    chips: dict[str, Run] = {"nrf52840": _nrf52840, "stm32f407": _stm32f407, "rp2040": _rp2040}
    run = next((chips[part] for part in target.parts if part in chips), None)
    if run is None:
        raise InputError(
            f"no emulator here boots an image of {target.name}: got {target.cpu}, need one of {', '.join(chips)}",
            "leave --image out: the recogniser's library runs in QEMU",
        )
    seconds = len(samples) / SAMPLE_RATE_HZ
    if seconds > MOST_SECONDS:
        raise InputError(f"too much to hear for an emulator: got {seconds:.1f} s, need at most {MOST_SECONDS:g}")
    progress(f"booting {build.elf} in an emulator, for {seconds:.1f} s of audio: it is slower than the board")
    return run(build, samples, seconds + _START_S)


def cycles_milli(target: Target) -> int:
    """Return what an instruction costs on a board, in thousandths of a cycle."""
    return target.power.cycles_per_instruction_milli if target.power else _DEFAULT_CYCLES_MILLI


def pins_of(build: Build) -> dict[str, int]:
    """Return {macro: number} of a board's mbx_pins.h, as it is in a build."""
    text = str(build.files.get("board/mbx_pins.h", ""))
    return {name: int(value) for name, value in re.findall(r"^#define (MBX_PIN_\w+) +(\d+)u?\b", text, re.M)}


def _nrf52840(build: Build, samples: np.ndarray, seconds: float) -> Heard:
    data, target, pins = build.elf.read_bytes(), build.target, pins_of(build)
    light = (pins["MBX_PIN_LIGHT"], pins["MBX_PIN_LIGHT_ON_LEVEL"])
    clock = int(target.clock_hz or 0)
    chip = Nrf52840(read_flash_image(data), read_symbols(data), clock, cycles_milli(target), samples, light)
    return chip.run(seconds)


def _stm32f407(build: Build, samples: np.ndarray, seconds: float) -> Heard:
    data, target = build.elf.read_bytes(), build.target
    bits, clock = microphone_bits(samples), int(target.clock_hz or 0)
    return Stm32f407(read_flash_image(data), read_symbols(data), clock, cycles_milli(target), bits).run(seconds)


def _rp2040(build: Build, samples: np.ndarray, seconds: float) -> Heard:
    return run_rp2040(build.elf, build.target, samples, seconds, pins_of(build))
