"""The peripherals of an STM32F407 that the board's firmware uses. Source: RM0090.

Modelled: RCC's switches and ready flags (7.3), the revision in DBGMCU_IDCODE (38.6.1), I2S2 as a master receiver whose
clock follows PLLI2S and I2SPR (28.4.4), stream 3 of DMA1 in double-buffer mode (10.3.9), USART2 sending (30.3.2) at its
baud rate, BSRR of the light's port (8.4.7).
Not modelled: the clock's start-up times, the DMA's FIFO and bus accesses, I2S's overrun flag, the USART's receiver, the
functions of pins, the caches of the flash (their cost is in the cycles of an instruction).
"""

import numpy as np

from mbx_deploy.emulation.core import Core
from mbx_deploy.emulation.heard import Heard, LineCollector
from mbx_deploy.firmware.image import FlashImage
from mbx_deploy.sim.microphone import PDM_CLOCK_HZ, pdm_words

_FLASH, _RAM = (0x0800_0000, 0x10_0000), (0x2000_0000, 0x2_0000)
_CRYSTAL_HZ = 8_000_000
_APB1_HZ = 42_000_000
_RCC_CR, _RCC_CFGR, _RCC_PLLCFGR, _RCC_PLLI2SCFGR = 0x4002_3800, 0x4002_3808, 0x4002_3804, 0x4002_3884
_USART_SR, _USART_DR, _USART_BRR, _USART_CR1 = (0x4000_4400 + offset for offset in (0, 4, 8, 0xC))
_I2SCFGR, _I2SPR, _I2SE = 0x4000_381C, 0x4000_3820, 1 << 10
_S3CR, _S3NDTR, _S3M0AR, _S3M1AR, _CT = 0x4002_6058, 0x4002_605C, 0x4002_6064, 0x4002_6068, 1 << 19
_LIGHT = 0x4002_0C18
_READY = {1 << 16, 1 << 24, 1 << 26}  # each flag is the bit above its switch
_DMA_INTERRUPT, _USART_INTERRUPT = 14, 38
_IDCODE = 0x1007_6413


class Stm32f407:
    """A board with this chip and a PDM microphone whose bits (0 or 1) come from I2S2's start on."""

    def __init__(
        self, image: FlashImage, symbols: dict[str, int], clock_hz: int, cycles_milli: int, bits: np.ndarray
    ) -> None:
        self.core = core = Core(image, [_FLASH, _RAM], clock_hz, cycles_milli)
        core.count_decisions(symbols)
        core.update = self._update
        self.words, self.place = pdm_words(bits[: len(bits) // 16 * 16]).astype("<u2"), 0
        self.second_memory, self.sending = False, False
        self.sent = LineCollector(core.heard)
        core.peripherals(0x4000_0000, 0x3_0000, self._read, self._write)
        core.peripherals(0xE004_2000, 0x1000, lambda address: _IDCODE, lambda address, value: None)

    def run(self, seconds: float) -> Heard:
        """Return what was heard of a time after the reset."""
        return self.core.run(seconds)

    def _read(self, address: int) -> int:
        value = self.core.registers.get(address, 0)
        if address == _RCC_CR:
            return value | sum(2 * switch for switch in _READY if value & switch)
        if address == _RCC_CFGR:
            return (value & ~0xC) | (value & 3) << 2
        if address == _USART_SR:
            return 0 if self.sending else 1 << 7
        if address == _S3CR:
            return (value & ~_CT) | (_CT if self.second_memory else 0)
        return value

    def _write(self, address: int, value: int) -> None:
        before = self.core.registers.get(address, 0)
        if address == _USART_DR:
            self._send(value & 0xFF)
        elif address == _LIGHT:
            on = value < 0x10000
            if self.core.heard.lights or on:
                self.core.heard.lights.append((self.core.second, on))
        else:
            self.core.registers[address] = value
        if address == _I2SCFGR and value & ~before & _I2SE:
            self._start()
        self._update()

    def _update(self) -> None:
        if self.core.registers.get(_USART_CR1, 0) >> 7 & 1 and not self.sending:
            self.core.pending.add(_USART_INTERRUPT)

    def _send(self, byte: int) -> None:
        self.sending = True

        def sent() -> None:
            self.sending = False
            self.sent.take(byte, self.core.second)
            self._update()

        self.core.after(10 * max(self.core.registers.get(_USART_BRR, 0), 1) / _APB1_HZ, sent)

    def _start(self) -> None:
        registers = self.core.registers
        pll, i2s, divider = registers.get(_RCC_PLLCFGR, 0), registers.get(_RCC_PLLI2SCFGR, 0), registers.get(_I2SPR, 0)
        source = _CRYSTAL_HZ / max(pll & 63, 1) * (i2s >> 6 & 511) / max(i2s >> 28, 1)
        clock = source / max(2 * (divider & 0xFF) + (divider >> 8 & 1), 1)
        if clock != PDM_CLOCK_HZ or not registers.get(_S3CR, 0) & 1:
            self.core.heard.faults.append(
                f"I2S2 was started at {clock:.0f} Hz, need {PDM_CLOCK_HZ}, or without its DMA"
            )
            return
        self._later()

    def _later(self) -> None:
        self.core.after(self.core.registers[_S3NDTR] * 16 / PDM_CLOCK_HZ, self._block)

    def _block(self) -> None:
        """A block is complete: CT changes, and the DMA goes on in the other memory."""
        registers = self.core.registers
        count = registers[_S3NDTR]
        block = np.full(count, 0x5555, "<u2")
        heard = self.words[self.place : self.place + count]
        block[: len(heard)] = heard
        self.place += count
        self.core.uc.mem_write(registers[_S3M1AR if self.second_memory else _S3M0AR], block.tobytes())
        self.second_memory = not self.second_memory
        self.core.pending.add(_DMA_INTERRUPT)
        self._later()
