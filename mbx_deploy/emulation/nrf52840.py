"""The peripherals of an nRF52840 that the boards' firmware uses. Source: nRF52840 Product Specification v1.7.

Modelled: CLOCK's start of the crystal (5.4), PDM with its double-buffered SAMPLE.PTR, STARTED and END (6.15.4), whose
samples arrive as its decimator gives them at 0 dB, UART sending (6.33) at its baud rate, FICR's revision and APPROTECT,
OUTSET and OUTCLR of the light's pin (6.9).
Not modelled: the PDM's own filter and its settling, the DMA's bus accesses, the UART's receiver, the crystal's start-up
time, pins' drive and pull, power.
"""

import numpy as np

from mbx_deploy.emulation.core import Core
from mbx_deploy.emulation.heard import Heard, LineCollector
from mbx_deploy.firmware.image import FlashImage

_FLASH, _RAM = (0x0000_0000, 0x10_0000), (0x2000_0000, 0x4_0000)
_SAMPLE_RATE_HZ = 16_000
_PDM, _UART = 0x4001_D000, 0x4000_2000
_PDM_STARTED, _PDM_END, _PDM_ENABLE = _PDM + 0x100, _PDM + 0x108, _PDM + 0x500
_PDM_RATE = {0x0A00_0000: {1: 16_000}, 0x0800_0000: {0: 15_625}}  # PDMCLKCTRL: {RATIO: samples a second}
_UART_TXDRDY = _UART + 0x11C
_INTENSET, _INTENCLR = 0x304, 0x308
_PDM_EVENTS = {_PDM_STARTED: 0, _PDM + 0x104: 1, _PDM_END: 2}
_UART_EVENTS = {_UART + 0x108: 2, _UART_TXDRDY: 7, _UART + 0x124: 9}
_OUTSET, _OUTCLR = 0x5000_0508, 0x5000_050C  # of port 0; port 1 lies 0x300 behind
_END_TO_STARTED_S = 2e-6


class Nrf52840:
    """A board with this chip and a microphone that hears samples (int16, 16 kHz) from the PDM's start on."""

    def __init__(
        self,
        image: FlashImage,
        symbols: dict[str, int],
        clock_hz: int,
        cycles_milli: int,
        samples: np.ndarray,
        light: tuple[int, int],
    ) -> None:
        """light: the number of its pin, and the level at which it is on."""
        self.core = core = Core(image, [_FLASH, _RAM], clock_hz, cycles_milli)
        core.count_decisions(symbols)
        core.update = self._update
        self.samples, self.place = samples, 0
        self.light, self.on = (0x300 * (light[0] >> 5), 1 << (light[0] & 31)), light[1]
        self.sent = LineCollector(core.heard)
        core.registers |= {0x1000_0130: 8, 0x1000_0134: 3, 0x1000_1208: 0x5A}  # revision 3, debugging allowed
        core.peripherals(0x1000_0000, 0x2000, self._read, self._write)
        core.peripherals(0x4000_0000, 0x3_0000, self._read, self._write)
        core.peripherals(0x5000_0000, 0x1000, self._read, self._write)

    def run(self, seconds: float) -> Heard:
        """Return what was heard of a time after the reset."""
        return self.core.run(seconds)

    def _read(self, address: int) -> int:
        return self.core.registers.get(address, 0)

    def _write(self, address: int, value: int) -> None:
        registers = self.core.registers
        if address in (_PDM + _INTENSET, _UART + _INTENSET):
            registers[address] = registers.get(address, 0) | value
        elif address in (_PDM + _INTENCLR, _UART + _INTENCLR):
            registers[address - 4] = registers.get(address - 4, 0) & ~value
        elif address == 0x4000_0000:  # HFCLKSTART
            registers[0x4000_0100] = 1
        elif address == _UART + 0x51C and registers.get(_UART + 0x500) == 4:
            self._send(value & 0xFF)
        elif address == _PDM:
            self._start()
        elif value == self.light[1] and address - self.light[0] in (_OUTSET, _OUTCLR):
            self._light((address - self.light[0] == _OUTSET) == bool(self.on))
        else:
            registers[address] = value
        self._update()

    def _update(self) -> None:
        registers = self.core.registers
        for number, base, events in ((29, _PDM, _PDM_EVENTS), (2, _UART, _UART_EVENTS)):
            mask = registers.get(base + _INTENSET, 0)
            if any(registers.get(event, 0) and mask >> bit & 1 for event, bit in events.items()):
                self.core.pending.add(number)

    def _light(self, on: bool) -> None:
        lights = self.core.heard.lights
        if not lights and not on:
            return
        lights.append((self.core.second, on))

    def _send(self, byte: int) -> None:
        baud = 16_000_000 * self.core.registers.get(_UART + 0x524, 0) / 2**32

        def sent() -> None:
            self.sent.take(byte, self.core.second)
            self.core.registers[_UART_TXDRDY] = 1
            self._update()

        self.core.after(10 / max(baud, 1.0), sent)

    def _start(self) -> None:
        registers = self.core.registers
        rate = _PDM_RATE.get(registers.get(_PDM + 0x504, 0), {}).get(registers.get(_PDM + 0x520, 0))
        if rate != _SAMPLE_RATE_HZ or not registers.get(_PDM_ENABLE) or registers.get(_PDM + 0x518) != 0x28:
            self.core.heard.faults.append("the PDM was started with other registers than for 16 kHz at 0 dB")
            return
        self._latch()

    def _latch(self) -> None:
        """SAMPLE.PTR is taken, and STARTED told: at the start, and a moment after each END."""
        registers = self.core.registers
        buffer, count = registers.get(_PDM + 0x560, 0), registers.get(_PDM + 0x564, 0)
        registers[_PDM_STARTED] = 1
        self._update()
        self.core.after(count / _SAMPLE_RATE_HZ - _END_TO_STARTED_S, lambda: self._end(buffer, count))

    def _end(self, buffer: int, count: int) -> None:
        block = np.zeros(count, "<i2")
        heard = self.samples[self.place : self.place + count]
        block[: len(heard)] = heard
        self.place += count
        self.core.uc.mem_write(buffer, block.tobytes())
        self.core.registers[_PDM_END] = 1
        self._update()
        self.core.after(_END_TO_STARTED_S, self._latch)
