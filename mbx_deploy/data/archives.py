"""The published data sets: where they lie, how large they are, and how to tell that they are whole."""

from dataclasses import dataclass

from mbx_deploy.errors import InputError


@dataclass(frozen=True)
class Archive:
    """A .tar.gz as it was published.

    size_bytes, sha256: of the archive. unpacked_bytes: at most so much lies in it, as the room on the disk is reckoned.
    max_files, max_bytes: what is refused when it is unpacked.
    """

    name: str
    url: str
    size_bytes: int
    sha256: str
    unpacked_bytes: int
    max_files: int
    max_bytes: int
    licence: str


_BASE = "https://storage.googleapis.com/download.tensorflow.org/data/"
_LICENCE = "CC BY 4.0, Pete Warden, Speech Commands, 2018"
_CLIP_BYTES = 32_044  # a second of 16-bit sound and its header: no clip is longer
_NOISE_BYTES = 16_000_000

# Sources: sizes and SHA-256 of version 2 from TensorFlow Datasets (url_checksums/speech_commands.txt), SHA-256 of both
# versions from torchaudio (_CHECKSUMS in datasets/speechcommands.py), size of version 1 as the server gives it;
# numbers of clips from the READMEs of the data sets.
ARCHIVES = (
    Archive(
        name="speech_commands_v1",
        url=_BASE + "speech_commands_v0.01.tar.gz",
        size_bytes=1_489_096_277,
        sha256="743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        unpacked_bytes=64_727 * _CLIP_BYTES + _NOISE_BYTES,
        max_files=200_000,
        max_bytes=8 << 30,
        licence=_LICENCE,
    ),
    Archive(
        name="speech_commands_v2",
        url=_BASE + "speech_commands_v0.02.tar.gz",
        size_bytes=2_428_923_189,
        sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        unpacked_bytes=105_829 * _CLIP_BYTES + _NOISE_BYTES,
        max_files=200_000,
        max_bytes=8 << 30,
        licence=_LICENCE,
    ),
)


def find_archive(name: str) -> Archive:
    """Return the archive of a name. Raises InputError for another name."""
    for archive in ARCHIVES:
        if archive.name == name:
            return archive
    raise InputError(f"unknown data set: got {name!r}, need {' or '.join(archive.name for archive in ARCHIVES)}")
