"""Which sound files are read: what libsndfile decodes, and what telephones and browsers give, by ffmpeg where it is.

A file is told by its first bytes; its name only says whether a folder's file looks like sound.
"""

import io
import subprocess
import tempfile

from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.system.tools import find_tool

NATIVE_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
FFMPEG_SUFFIXES = (".m4a", ".mp4", ".aac", ".3gp", ".3gpp", ".webm", ".mka", ".amr", ".wma", ".caf")
SOUND_SUFFIXES = (*NATIVE_SUFFIXES, *FFMPEG_SUFFIXES)
FFMPEG_HINT = "install ffmpeg (apt-get install ffmpeg), or convert the file to WAV or FLAC"
_DECODE_S = 60  # of processor and wall time: a phone's recording of an hour takes some seconds


def is_readable(suffix: str) -> bool:
    """Return whether files that are so called can be read on this machine. suffix: with its dot, in small letters."""
    return suffix in NATIVE_SUFFIXES or (suffix in FFMPEG_SUFFIXES and find_tool("ffmpeg") is not None)


def native_format(head: bytes) -> str | None:
    """Return the name of a format that libsndfile decodes, by the file's first 12 bytes; None for any other."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return "WAV"
    if head[:4] == b"fLaC":
        return "FLAC"
    if head[:4] == b"OggS":
        return "Ogg"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    # A frame's first 11 bits are set, and its layer is the third; ADTS, AAC's, has layer 0.
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "MP3"
    return None


def foreign_format(head: bytes) -> str | None:
    """Return the name of a format that ffmpeg decodes for us, by the file's first 12 bytes; None for any other."""
    if head[4:8] == b"ftyp":
        return "3GP" if head[8:11] == b"3gp" else "M4A"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "WebM"
    if head[:5] == b"#!AMR":
        return "AMR"
    if head[:4] == b"caff":
        return "CAF"
    if head[:4] == b"0&\xb2u":
        return "WMA"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    return None


def decode(file: io.FileIO, name: str, where: str, most_seconds: int, start_s: float = 0.0) -> io.FileIO:
    """Return a WAV of a foreign file's sound, with its own rate and channels, that goes away when it is closed.

    ffmpeg gets the open file on its standard input or as /dev/fd, no name and no network, and a second more than may be
    taken. start_s: where the sound begins in the file. Raises ToolMissing without ffmpeg, InputError for what it can't
    decode.
    """
    tool = find_tool("ffmpeg")
    if tool is None:
        raise ToolMissing(f"{name} needs ffmpeg, which is not installed ({where})", FFMPEG_HINT)
    file.seek(0)
    made = tempfile.TemporaryFile(prefix="mbx-sound-", buffering=0)  # noqa: SIM115 (the caller closes it)
    command = [
        *(tool, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe,fd"),
        *(("-ss", f"{start_s:.2f}") if start_s else ()),
        *("-i", f"/dev/fd/{file.fileno()}", "-map", "0:a:0", "-t", str(most_seconds + 1)),
        *("-c:a", "pcm_s16le", "-bitexact", "-f", "wav", "-fs", str(1 << 30), "pipe:1"),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=made, stderr=subprocess.PIPE, pass_fds=(file.fileno(),),
            timeout=_DECODE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        made.close()
        raise InputError(f"the recording takes too long to decode ({where}): more than {_DECODE_S} s") from None
    except OSError as error:
        made.close()
        raise ToolMissing(f"ffmpeg does not start ({where}): {error.strerror}", FFMPEG_HINT) from None
    if done.returncode or made.seek(0, io.SEEK_END) <= 44:
        made.close()
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = said[-1].split("] ")[-1][:120] if said else "no sound in it"
        raise InputError(
            f"not a sound file that can be decoded ({where}): got {name}, and ffmpeg says {why!r}",
            "record it again, or convert it to WAV",
        )
    made.seek(0)
    return made
