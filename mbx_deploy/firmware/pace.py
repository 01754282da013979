"""What a board's life is like while it listens: decisions a second, sleep, current; estimated from counts."""

import math
from dataclasses import dataclass
from typing import Any

from mbx_deploy.codegen.target import Target
from mbx_deploy.errors import InputError

# Of the core's time that the firmware may plan to use: the rest is for the serial port, and for what was estimated.
BUSY_SHARE = 0.9


@dataclass(frozen=True)
class ListeningCost:
    """Instructions of a run of the network, and of a frame of features; counted."""

    run: int
    frame: int


@dataclass(frozen=True)
class Pace:
    """stride_frames: between decisions. busy_share: of the core's time. current_ua: of chip and microphone."""

    stride_frames: int
    decisions_per_s: float
    busy_share: float
    current_ua: int

    @property
    def idle_share(self) -> float:
        """Return the share of the time that the core sleeps, 0 where it can't keep up."""
        return max(0.0, 1 - self.busy_share)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "stride_frames": self.stride_frames,
            "decisions_per_s": round(self.decisions_per_s, 2),
            "idle_share": round(self.idle_share, 3),
            "margin": round(1 / self.busy_share, 2),
            "current_ua": self.current_ua,
        }


def pace_of(target: Target, cost: ListeningCost, stride_frames: int, frames_per_s: float) -> Pace:
    """Return what listening takes of a board that has a table [power]."""
    assert target.power is not None and target.clock_hz is not None
    power, decisions = target.power, frames_per_s / stride_frames
    instructions = cost.frame * frames_per_s + cost.run * decisions + power.interrupt_instructions_per_s
    busy = instructions * power.cycles_per_instruction_milli / 1000 / target.clock_hz
    awake = min(1.0, busy)
    current = awake * power.awake_ua + (1 - awake) * power.asleep_ua + power.microphone_ua
    return Pace(stride_frames, decisions, busy, round(current))


def least_stride(target: Target, cost: ListeningCost, frames_per_s: float) -> int | None:
    """Return the fewest frames between decisions that a board keeps up with, None where no number is enough."""
    without = pace_of(target, ListeningCost(0, cost.frame), 1, frames_per_s).busy_share
    one = pace_of(target, cost, 1, frames_per_s).busy_share - without  # of a decision at each frame
    left = BUSY_SHARE - without
    return math.ceil(one / left - 1e-9) if left > 0 else None


def choose_stride(
    target: Target, cost: ListeningCost, wanted: int, most: int, frames_per_s: float, fixed: str | None
) -> Pace:
    """Return the pace at the wanted stride, or at the least one that a board keeps up with.

    most: frames. fixed: the option that set the stride, which is not changed then. Raises InputError where the board
    does not keep up.
    """
    found = pace_of(target, cost, wanted, frames_per_s)
    if found.busy_share <= BUSY_SHARE:
        return found
    least = least_stride(target, cost, frames_per_s)
    if fixed is not None or least is None or least > most:
        ms = 1000 / frames_per_s
        hint = f"give {fixed or '--stride-ms'} {round(least * ms)} or more" if least and least <= most else ""
        if fixed == "--step-frames":
            hint = f"give --step-frames {least} or more" if least and least <= most else ""
        raise InputError(
            f"{target.name} is too slow for a decision every {round(wanted * ms)} ms: it would take "
            f"{found.busy_share:.0%} of the core's time, need at most {BUSY_SHARE:.0%} (estimate)",
            hint or "take a smaller model, or a faster board",
        )
    return pace_of(target, cost, least, frames_per_s)


def render_pace(pace: dict[str, Any], frame_ms: float) -> list[str]:
    """Return lines of text. pace: of Pace.to_dict()."""
    every = round(pace["stride_frames"] * frame_ms)
    return [
        f"Listening: {pace['decisions_per_s']:g} decisions a second (one every {every} ms); the core sleeps "
        f"{pace['idle_share']:.0%} of the time and could do {pace['margin']:g} times as much.",
        f"Current: {pace['current_ua'] / 1000:.1f} mA, of chip and microphone.",
        "Both are estimates: counted instructions, and what the target's file says of cycles and current.",
    ]
