"""A Cortex-M4 in Unicorn with an interrupt controller, a clock, and peripherals that a chip's module adds.

Modelled: the instructions (Unicorn's), priorities and nesting of interrupts (DDI 0403E B1.5), VTOR, sleep by WFI, time
as instructions times a fixed number of cycles each, wait states included.
Not modelled: the cycles of each instruction, the flash's and the buses' own behaviour (their cost is in that number),
lazy stacking, tail-chaining, faults but accesses to where nothing is, the MPU, SysTick, what an exception pushes (the
registers are kept outside, 104 bytes of stack are left free for them).
"""

import heapq
import struct
from collections.abc import Callable
from typing import Any

from mbx_deploy.emulation.heard import Heard
from mbx_deploy.errors import ToolMissing
from mbx_deploy.firmware.image import FlashImage

_RETURN = 0xFFFFFFF9  # EXC_RETURN: thread mode, main stack, no floating-point frame
_STOP = _RETURN & ~1
_FRAME_BYTES = 104
_MOST_INSTRUCTIONS = 20_000  # at once: how late an interrupt may be that nobody foresees
_WFI = b"\x30\xbf"
_PPB = 0xE000E000  # DDI 0403E B3.1: the core's own registers
_DECISION = "mbx_link_tell_scores"  # called once a decision

Read = Callable[[int], int]
Write = Callable[[int, int], None]


def import_unicorn() -> Any:
    """Return the module unicorn. Raises ToolMissing without it."""
    try:
        import unicorn
        import unicorn.arm_const
    except ImportError:
        raise ToolMissing(
            "the emulator of this chip is not installed: unicorn", "pip install 'mbx-deploy[boards]'"
        ) from None
    return unicorn


class Core:
    """One core with its memories. now: cycles since the reset. registers: what was written to plain ones."""

    def __init__(self, image: FlashImage, memories: list[tuple[int, int]], clock_hz: int, cycles_milli: int) -> None:
        """memories: (address, bytes), the flash's first. cycles_milli: thousandths of a cycle an instruction."""
        unicorn = import_unicorn()
        self.arm = unicorn.arm_const
        self.error = unicorn.UcError
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self.uc.ctl_set_cpu_model(self.arm.UC_CPU_ARM_CORTEX_M4)
        for address, size in memories:
            self.uc.mem_map(address, size)
        self.uc.mem_map(_STOP & ~0xFFF, 0x1000)
        self.uc.mem_write(image.origin, image.data)
        self.clock_hz, self.cycles = clock_hz, cycles_milli / 1000
        self.now = self.idle = 0.0
        self.heard = Heard()
        self.registers: dict[int, int] = {}
        self.vector_table = image.origin
        self.enabled: set[int] = set()
        self.pending: set[int] = set()
        self.update: Callable[[], None] = lambda: None  # the chip's: pends what its events and masks ask for
        self._priority: dict[int, int] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._frames: list[tuple[int, list[int]]] = []
        self._waiting = False
        self.uc.mmio_map(_PPB, 0x1000, self._read_own, None, self._write_own, None)
        self._hook_sleep(unicorn, image)
        self._kept = [
            getattr(self.arm, f"UC_ARM_REG_{name}") for name in ("R0", "R1", "R2", "R3", "R12", "LR", "XPSR", "SP")
        ]
        self._kept += [getattr(self.arm, f"UC_ARM_REG_D{number}") for number in range(16)]
        stack, reset = struct.unpack_from("<2I", image.data)
        self.uc.reg_write(self.arm.UC_ARM_REG_SP, stack)
        self.uc.reg_write(self.arm.UC_ARM_REG_PC, reset)

    def peripherals(self, address: int, size: int, read: Read, write: Write) -> None:
        """Add registers. read, write: of an absolute address, words."""
        self.uc.mmio_map(
            address,
            size,
            lambda uc, offset, width, data: read(address + offset) & 0xFFFFFFFF,
            None,
            lambda uc, offset, width, value, data: write(address + offset, value),
            None,
        )

    def count_decisions(self, symbols: dict[str, int]) -> None:
        """Count the calls that tell a decision."""
        place = symbols[_DECISION]
        hook = self._hooks.UC_HOOK_CODE
        self.uc.hook_add(
            hook, lambda uc, at, size, data: self.heard.decisions.append(self.second), begin=place, end=place
        )

    def _hook_sleep(self, unicorn: Any, image: FlashImage) -> None:
        self._hooks = unicorn
        place = image.data.find(_WFI)
        while place >= 0:
            if place % 2 == 0:  # data that looks like it is never executed
                at = image.origin + place
                self.uc.hook_add(unicorn.UC_HOOK_CODE, self._sleep, begin=at, end=at)
            place = image.data.find(_WFI, place + 1)

    def _sleep(self, uc: Any, address: int, size: int, data: object) -> None:
        self._waiting = True
        uc.emu_stop()

    @property
    def second(self) -> float:
        """Return the time since the reset."""
        return self.now / self.clock_hz

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something happen after a time, counted from what happens now."""
        self._order += 1
        heapq.heappush(self._events, (self.now + seconds * self.clock_hz, self._order, act))

    def _read_own(self, uc: Any, offset: int, width: int, data: object) -> int:
        return self.registers.get(_PPB + offset, 0)

    def _write_own(self, uc: Any, offset: int, width: int, value: int, data: object) -> None:
        first = 8 * (offset & 0x1F)
        numbers = {first + bit for bit in range(32) if value >> bit & 1}
        if 0x100 <= offset < 0x120:  # ISER
            self.enabled |= numbers
        elif 0x180 <= offset < 0x1A0:  # ICER
            self.enabled -= numbers
        elif 0x280 <= offset < 0x2A0:  # ICPR
            self.pending -= numbers
        elif offset == 0xD08:
            self.vector_table = value
        else:
            self.registers[_PPB + offset] = value
            if 0x400 <= offset < 0x500:  # IPR
                for byte in range(4):
                    self._priority[offset - 0x400 + byte] = value >> 8 * byte & 0xFF

    def _next_interrupt(self) -> int | None:
        found = self.pending & self.enabled
        if not found or self.uc.reg_read(self.arm.UC_ARM_REG_PRIMASK):
            return None
        number = min(found, key=lambda n: (self._priority.get(n, 0), n))
        now = self._priority.get(self._frames[-1][0], 0) if self._frames else 256
        return number if self._priority.get(number, 0) < now else None

    def _enter(self, number: int) -> None:
        pc = self.uc.reg_read(self.arm.UC_ARM_REG_PC)
        kept = [self.uc.reg_read(register) for register in self._kept]
        self._frames.append((number, [*kept, pc]))
        self.pending.discard(number)
        stack = self.uc.reg_read(self.arm.UC_ARM_REG_SP)
        self.uc.reg_write(self.arm.UC_ARM_REG_SP, (stack - _FRAME_BYTES) & ~7)
        self.uc.reg_write(self.arm.UC_ARM_REG_LR, _RETURN)
        handler = struct.unpack("<I", self.uc.mem_read(self.vector_table + 4 * (16 + number), 4))[0]
        self.uc.reg_write(self.arm.UC_ARM_REG_PC, handler)

    def _leave(self) -> None:
        _, (*kept, pc) = self._frames.pop()
        for register, value in zip(self._kept, kept, strict=True):
            self.uc.reg_write(register, value)
        self.uc.reg_write(self.arm.UC_ARM_REG_PC, pc | 1)

    def _wake(self) -> None:
        self._waiting = False
        self.uc.reg_write(self.arm.UC_ARM_REG_PC, (self.uc.reg_read(self.arm.UC_ARM_REG_PC) + 2) | 1)

    def run(self, seconds: float) -> Heard:
        """Run until a time after the reset, or a fault; return what was heard."""
        end = seconds * self.clock_hz
        while self.now < end and not self.heard.faults:
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            if self._waiting and self.pending & self.enabled:  # masked or not: DDI 0403E B1.5.19
                self._wake()
            number = self._next_interrupt()
            if number is not None:
                self._enter(number)
            elif self._waiting:
                until = self._events[0][0] if self._events else end
                self.idle += until - self.now
                self.now = until
            else:
                self._execute()
        self.heard.seconds = self.second
        self.heard.idle_share = self.idle / self.now if self.now else 0.0
        return self.heard

    def _execute(self) -> None:
        room = self._events[0][0] - self.now if self._events else _MOST_INSTRUCTIONS * self.cycles
        count = max(1, min(_MOST_INSTRUCTIONS, int(room / self.cycles)))
        begin = self.uc.reg_read(self.arm.UC_ARM_REG_PC)
        try:
            self.uc.emu_start(begin | 1, _STOP, count=count)
        except self.error as error:
            if self.uc.reg_read(self.arm.UC_ARM_REG_PC) & ~1 != _STOP:
                where = self.uc.reg_read(self.arm.UC_ARM_REG_PC)
                self.heard.faults.append(f"{error} at {where:#010x}, after {self.second:.3f} s")
                return
        self.now += count * self.cycles
        if self._frames and self.uc.reg_read(self.arm.UC_ARM_REG_PC) & ~1 == _STOP:
            self._leave()
            self.update()
