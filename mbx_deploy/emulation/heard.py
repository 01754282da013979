"""What an image did while it listened."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Heard:
    """seconds: of the board's time. lines: of its serial port, with the second at which their last byte left it.

    lights: each change of the light. decisions: the second of each. idle_share: of the time that the core slept, from
    the start of the microphone on. faults: what no board may do, such as touching memory that is not there.
    """

    seconds: float = 0.0
    lines: list[tuple[float, str]] = field(default_factory=list)
    lights: list[tuple[float, bool]] = field(default_factory=list)
    decisions: list[float] = field(default_factory=list)
    idle_share: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[tuple[float, str, float]]:
        """Return (second in the log, word, score) of each line that tells a word."""
        found = []
        for _, line in self.lines:
            parts = line.split()
            if len(parts) == 4 and parts[1] == "s":
                found.append((float(parts[0]), parts[2], float(parts[3])))
        return found

    @property
    def overruns(self) -> int:
        """Return how many blocks the log says were lost, dropped or missed."""
        last = {line.rpartition(" ")[0]: line for _, line in self.lines if line.startswith(("overruns ", "missed "))}
        return sum(int(line.rpartition(" ")[2]) for line in last.values())

    @property
    def decisions_per_s(self) -> float:
        """Return the decisions in a second, from the first to the last; 0 for less than two."""
        if len(self.decisions) < 2:
            return 0.0
        return (len(self.decisions) - 1) / (self.decisions[-1] - self.decisions[0])

    def render(self) -> str:
        """Return it as text."""
        lines = [f"  {second:8.3f} s  {text}" for second, text in self.lines] or [
            "  nothing was said on the serial port"
        ]
        made = f"{len(self.decisions)} decisions ({self.decisions_per_s:.1f} a second)"
        lines += [
            "",
            f"{self.seconds:.1f} s on the board: {made}, {self.overruns} blocks lost, asleep {self.idle_share:.0%}",
            *(f"FAULT: {fault}" for fault in self.faults),
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "seconds": round(self.seconds, 3),
            "lines": [{"second": round(second, 3), "text": text} for second, text in self.lines],
            "lights": [{"second": round(second, 3), "on": on} for second, on in self.lights],
            "words": [{"second": second, "word": word, "score": score} for second, word, score in self.words],
            "decisions": len(self.decisions),
            "decisions_per_s": round(self.decisions_per_s, 2),
            "overruns": self.overruns,
            "idle_share": round(self.idle_share, 3),
            "faults": self.faults,
        }


class LineCollector:
    """Bytes of a serial port -> lines."""

    def __init__(self, heard: Heard) -> None:
        self.heard, self.text = heard, ""

    def take(self, byte: int, second: float) -> None:
        """Take a byte that has left the port."""
        if byte == 0x0A:
            self.heard.lines.append((second, self.text.rstrip("\r")))
            self.text = ""
        else:
            self.text += chr(byte)
