"""A serial port of this machine: found, opened for us alone, read and written in raw bytes."""

import contextlib
import errno
import fcntl
import os
import select
import termios
import time
from pathlib import Path
from types import TracebackType

from mbx_deploy.errors import InputError, visible

DEFAULT_BAUD = 921_600
BAUDS = (DEFAULT_BAUD, 460_800)  # of the boards
READ_BYTES = 4096
WRITE_S = 5.0
PORT_PATTERNS = ("ttyACM*", "ttyUSB*", "cu.usbmodem*", "cu.usbserial*")
GONE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF, errno.EPIPE)
DEVICES = Path("/dev")
SYSTEM_NAMES = Path("/sys/class/tty")


def list_ports(devices: Path = DEVICES) -> list[Path]:
    """Return the serial ports on USB, as boards and probes have them, by name."""
    return sorted(path for pattern in PORT_PATTERNS for path in devices.glob(pattern))


def describe_port(port: Path, names: Path = SYSTEM_NAMES) -> str:
    """Return a port with the name that its USB device gives itself, where that is known."""
    interface = names / port.name / "device"
    for folder in (interface / "..", interface):
        product = folder / "product"
        try:
            return f"{port} ({visible(product.read_text(errors='replace').strip())[:100]})"
        except OSError:
            continue
    return str(port)


def find_port(devices: Path = DEVICES) -> Path:
    """Return the one serial port on USB. Raises InputError where there is none, or more than one."""
    ports = list_ports(devices)
    if not ports:
        raise InputError(
            f"no serial port on USB found ({devices / 'ttyACM*'}, {devices / 'ttyUSB*'})",
            "plug the board in, or name its port with --port",
        )
    if len(ports) > 1:
        listed = ", ".join(describe_port(port) for port in ports)
        raise InputError(f"{len(ports)} serial ports found: {listed}", "choose one with --port")
    return ports[0]


def open_alone(path: Path, option: str = "--port") -> int:
    """Return the file of a port that nobody else has open, or may open until it is closed. option: that names ports.

    Raises InputError for a path that is no port, that may not be opened, or that somebody else has open.
    """
    file = _open(path, option)
    try:
        if not os.isatty(file):
            raise InputError(f"not a serial port: {path}", f"name the board's port with {option}")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(file, termios.TIOCEXCL)
    except BlockingIOError:
        os.close(file)
        raise _busy(path) from None
    except BaseException:
        os.close(file)
        raise
    return file


def close_port(file: int) -> None:
    """Give a port back that open_alone() opened."""
    with contextlib.suppress(OSError):  # it may be gone
        fcntl.ioctl(file, termios.TIOCNXCL)
    os.close(file)


def _open(path: Path, option: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT:
            ports = ", ".join(map(str, list_ports())) or "none"
            raise InputError(f"no such port: {path}", f"serial ports on USB: {ports}") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "join the group that owns it: sudo usermod -aG dialout $USER, and log in again"
            raise InputError(f"the port {path} may not be opened: permission denied", hint) from None
        if error.errno == errno.EBUSY:
            raise _busy(path) from None
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"can't open the port {path}: {reason}", f"check the cable and {option}") from None


def _busy(path: Path) -> InputError:
    return InputError(
        f"the port {path} is busy: another program has it open", "close its terminal or monitor, then try again"
    )


class Port:
    """An open port. Every failure of it is an InputError that names it."""

    def __init__(self, path: Path, baud: int = DEFAULT_BAUD) -> None:
        """path: of a serial port or a pseudo-terminal. baud: bits a second.

        Raises InputError as open_alone(), and for a speed that this machine does not know.
        """
        self.path = path
        speed = getattr(termios, f"B{baud}", None)
        if not speed:  # B0 hangs up
            raise InputError(f"this machine can't set a port to {baud} baud ({path})", "boards speak at 921600")
        self.file = open_alone(path)
        try:
            self._configure(speed)
        except BaseException:
            self.close()
            raise

    def _configure(self, speed: int) -> None:
        """8 data bits, no parity, one stop bit, no flow control, no line editing."""
        try:
            kept = termios.tcgetattr(self.file)
            control = kept[2] & ~(termios.CSIZE | termios.PARENB | termios.CSTOPB | termios.CRTSCTS)
            control |= termios.CS8 | termios.CLOCAL | termios.CREAD
            termios.tcsetattr(self.file, termios.TCSANOW, [0, 0, control, 0, speed, speed, kept[6]])
            termios.tcflush(self.file, termios.TCIFLUSH)
        except termios.error as error:
            raise InputError(f"can't set up the port {self.path}: {error.args[-1]}", "check the cable") from None

    def _lost(self) -> InputError:
        return InputError(f"the port {self.path} is gone", "check the cable and the board's supply, then try again")

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived, waiting at most timeout_s for the first byte; b"" for nothing."""
        try:
            ready, _, _ = select.select([self.file], [], [], max(0.0, timeout_s))
            if not ready:
                return b""
            data = os.read(self.file, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno in GONE:
                raise self._lost() from None
            raise
        if not data:  # readable, and nothing there: hung up
            raise self._lost()
        return data

    def write(self, data: bytes) -> None:
        """Send bytes. Raises InputError where the port does not take them for WRITE_S."""
        view = memoryview(data)
        give_up = time.monotonic() + WRITE_S
        while view:
            try:
                _, ready, _ = select.select([], [self.file], [], max(0.0, give_up - time.monotonic()))
                if not ready:
                    raise InputError(
                        f"the port {self.path} takes no bytes", "check that the board runs, then plug it in again"
                    )
                view = view[os.write(self.file, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in GONE:
                    raise self._lost() from None
                raise

    def close(self) -> None:
        """Give the port back."""
        if self.file >= 0:
            close_port(self.file)
            self.file = -1

    def __enter__(self) -> "Port":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
