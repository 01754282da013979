"""The boards' microphone drivers against models of their chips: which block is handed over, what the registers hold.

The models are the manuals' words, not the chips: they show that a driver does what we read there, no more.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from mbx_deploy.codegen.project import generate_project
from mbx_deploy.codegen.target import find_target
from mbx_deploy.codegen.templates import board_files
from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.sim.microphone import pcm_condition, pdm_decimate
from mbx_deploy.system.tools import find_tool, run_tool

pytestmark = [
    pytest.mark.skipif(find_tool("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed"),
    pytest.mark.skipif(find_tool("qemu-system-arm") is None, reason="qemu-system-arm is not installed"),
]
HERE = Path(__file__).parent
FLAGS = ("-std=c99", "-O2", "-ffunction-sections", "-fdata-sections", "-Wall", "-Wextra", "-Wconversion", "-Werror")
LINKER = ("-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections", "-Wl,--fatal-warnings", "-Tlinker.ld")

# By hand: the pins' numbers, and the formulas of the manuals' sections that the drivers name.
REGISTERS = {
    "nrf52840-dk": {
        0x4001D504: 0x0A000000,  # PDMCLKCTRL: 32 MHz / 25
        0x4001D508: 1,  # MODE: mono, left on the falling edge
        0x4001D520: 1,  # RATIO: 80
        0x4001D540: 35,  # PSEL.CLK: P1.03
        0x4001D544: 36,  # PSEL.DIN: P1.04
        0x4001D564: 160,  # SAMPLE.MAXCNT
        0x4001D500: 1,  # ENABLE
        0x40002524: 0x10000000,  # BAUDRATE: 1 M
        0x40002500: 4,  # ENABLE: the UART, no longer the UARTE
        0x40002004: 1,  # STOPRX, and
        0x4000200C: 1,  # STOPTX, of the UARTE that was on
        0x40000558: 0x5A,  # APPROTECT.DISABLE: what UICR says
        0x4001D304: 1,  # INTENSET: STARTED alone
        0x4000250C: 6,  # PSEL.TXD
        0x40002514: 8,  # PSEL.RXD
        0x4000251C: ord("h"),  # TXD
    },
    "stm32f4-discovery": {
        0x40023804: 8 | 336 << 6 | 1 << 22 | 7 << 24,  # PLLCFGR
        0x40023884: 256 << 6 | 5 << 28,  # PLLI2SCFGR: 51.2 MHz
        0x40003820: 12 | 1 << 8,  # I2SPR: / 25
        0x40023C00: 5 | 7 << 8,  # FLASH_ACR: 5 wait states, prefetch, both caches
        0x4000381C: 1 << 11 | 1 << 10 | 3 << 8 | 1 << 4 | 1 << 3,  # I2SCFGR
        0x40026060: 0x4000380C,  # S3PAR: SPI2_DR
        0x4002605C: 1280,  # S3NDTR
        0x40004408: 42,  # BRR: 42 MHz / 1,000,000
        0x40020C00: 1 << 24,  # GPIOD MODER: PD12 an output
        0x40020C18: 1 << 12,  # GPIOD BSRR: the light
        0x40020424: 5 << 8,  # GPIOB AFRH: PB10 is I2S2_CK
        0x40020820: 5 << 12,  # GPIOC AFRL: PC3 is I2S2_SD
        0x40020020: 7 << 8 | 7 << 12,  # GPIOA AFRL: PA2, PA3 are USART2's
    },
    "raspberry-pi-pico": {
        0x40028008: 128,  # FBDIV_INT
        0x4002800C: 6 << 16 | 2 << 12,  # PRIM
        0x40034024: 8,  # IBRD, of 128 MHz / 16 / 1,000,000
        0x40034028: 0,  # FBRD
        0x502000C8: 0x00064000,  # SM0_CLKDIV: 6.25
        0x50200048: 0x5401,  # in pins, 1 side 1 [4]
        0x5020004C: 0xA442,  # nop side 0 [4]
        0x502000D0: 1 << 31 | 16 << 20 | 1 << 16,  # SM0_SHIFTCTRL
        0x502000DC: 1 << 29 | 1 << 26 | 3 << 15 | 2 << 10 | 2 << 5,  # SM0_PINCTRL
        0x50000000: 0x50200020,  # READ_ADDR: the FIFO
        0x50000008: 2048,  # TRANS_COUNT
        0x50000048: 2048,
        0x50000050: 0x1 | 1 << 2 | 1 << 5 | 12 << 6 | 1 << 10 | 0 << 11 | 4 << 15,  # channel 1 starts 0
        0xD0000014: 1 << 25,  # the light
    },
}
NO_DRIVERS = ("application", "report", "link", "frame", "remote")
INTERRUPTS = {"nrf52840-dk": (2, 29), "stm32f4-discovery": (38, 14), "raspberry-pi-pico": (20, 11)}
CHIPS = {"nrf52840-dk": "NRF52840", "stm32f4-discovery": "STM32F407", "raspberry-pi-pico": "RP2040"}


@pytest.fixture(scope="module", params=list(CHIPS))
def model(
    request: pytest.FixtureRequest, shipped: CompiledModel, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A board's name, and the folder with what its driver did."""
    name = request.param
    folder = tmp_path_factory.mktemp("drivers") / name
    folder.mkdir()
    target = find_target(name)
    machine = find_target(str(target.emulated_as))
    board = board_files(target, "board")
    kept = {p: t for p, t in board.items() if not p.endswith(("mbx_vectors.c", "mbx_startup.c", ".S", ".md"))}
    kept = {p: t for p, t in kept.items() if p.split("/")[1][4:].split(".")[0] not in NO_DRIVERS}
    kept |= {p: t for p, t in board_files(machine, "machine").items() if "startup" in p or "semihosting" in p}
    kept["linker.ld"] = generate_project(shipped, target)["emulator/linker.ld"]
    kept |= {f"board/{file}": (HERE / file).read_text() for file in ("driver_model.c", "driver_model.h")}
    for path, content in kept.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(str(content))
    ours = sorted(path for path in kept if path.startswith("board/") and path.endswith(".c"))
    theirs = sorted(path for path in kept if path.startswith("machine/") and path.endswith(".c"))
    flags = (*FLAGS, *target.compile_flags, "-Iboard", "-Imachine")
    defines = ("-include", "board/driver_model.h", f"-DMODEL_{CHIPS[name]}")
    run_tool(["arm-none-eabi-gcc", *flags, *defines, "-c", *ours], cwd=folder, what="compiling the driver")
    objects = [Path(path).with_suffix(".o").name for path in ours]
    command = ["arm-none-eabi-gcc", *flags, *theirs, *objects, *LINKER, "-o", "model.elf"]
    run_tool(command, cwd=folder, what="linking the model")
    command = ["qemu-system-arm", "-M", str(machine.machine), "-nographic", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", "model.elf"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return name, folder


def test_blocks_come_in_order_and_none_twice(model: tuple[str, Path]) -> None:
    name, folder = model
    words = np.fromfile(folder / "words.bin", "<u2")
    samples = np.fromfile(folder / "samples.bin", "<i2")
    if name == "nrf52840-dk":  # its PDM gives samples, not bits
        expected = pcm_condition(words.view("<i2"), 160)
    else:
        expected = pdm_decimate(np.unpackbits(words.astype(">u2").view(np.uint8)), 160)
    np.testing.assert_array_equal(samples, expected)


def test_the_registers_hold_what_the_manuals_formulas_give(model: tuple[str, Path]) -> None:
    name, folder = model
    found = dict(zip(np.fromfile(folder / "addresses.bin", "<u4").tolist(),
                     np.fromfile(folder / "values.bin", "<u4").tolist(), strict=True))  # fmt: skip
    wanted = REGISTERS[name]
    assert {hex(key): hex(found.get(key, -1)) for key in wanted} == {
        hex(key): hex(value) for key, value in wanted.items()
    }
    for number, level in zip(INTERRUPTS[name], (0x00, 0x40), strict=True):  # serial before audio
        assert found[0xE000E400 + 4 * (number >> 2)] >> 8 * (number & 3) & 0xFF == level
        assert found[0xE000E100 + 4 * (number >> 5)] != 0
