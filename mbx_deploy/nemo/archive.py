"""The .nemo file: a tar, plain or compressed with gzip, of model_config.yaml and model_weights.ckpt.

It is read in memory. Nothing is extracted, so no name in it can reach a file; every entry is looked at all the same,
and a file that holds anything but folders and regular files below its root is refused.
"""

import io
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError, read_document

CONFIG_NAME = "model_config.yaml"
WEIGHTS_NAME = "model_weights.ckpt"
MAX_FILE_BYTES = 256 << 20
MAX_TAR_BYTES = 512 << 20
MAX_CONFIG_BYTES = 4 << 20
MAX_WEIGHTS_BYTES = 256 << 20
MAX_ENTRIES = 1000
_CHUNK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Archive:
    """path: of the .nemo, for messages. config: the bytes of the YAML. weights: those of the checkpoint."""

    path: Path
    config: bytes
    weights: bytes


def read_archive(path: Path) -> Archive:
    """Return the two files of a .nemo.

    Raises InputError, naming the file: it is missing, too large packed or unpacked, no tar, cut short, lacks one of the
    two, or holds a link, a device or a name that leads out of its folder.
    """
    data = _read(Path(path))
    if data[:2] == _GZIP_MAGIC:
        data = _decompress(data, path)
    limits = {CONFIG_NAME: MAX_CONFIG_BYTES, WEIGHTS_NAME: MAX_WEIGHTS_BYTES}
    found: dict[str, bytes] = {}
    entries = 0
    try:
        # "r:" is a plain tar: no second decompression can hide in the first.
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            while (member := tar.next()) is not None:
                entries += 1
                if entries > MAX_ENTRIES:
                    raise _bad(path, f"it holds more than {MAX_ENTRIES} entries")
                _check_member(member, path)
                name = str(PurePosixPath(member.name))
                if not member.isfile() or name not in limits:
                    continue
                if name in found:
                    raise _bad(path, f"it holds {name} twice")
                found[name] = _content(tar, member, limits[name], path)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, zlib.error, RecursionError) as error:
        raise _bad(path, str(error) or type(error).__name__) from None
    for name in limits:
        if name not in found:
            raise InputError(
                f"not a .nemo file ({path}): it holds no {name}",
                "a .nemo is a tar of model_config.yaml and model_weights.ckpt; NeMo's save_to() writes one",
            )
    return Archive(Path(path), found[CONFIG_NAME], found[WEIGHTS_NAME])


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"the model is a folder ({path}): need a .nemo file")
        return read_document(path, MAX_FILE_BYTES)
    except (DocumentError, OSError) as error:
        raise InputError(f"can't read the model ({path}): {error}", "give the path of a .nemo file") from None


def _decompress(data: bytes, path: Path) -> bytes:
    """Return the content of gzip data of one or more members, never more than MAX_TAR_BYTES of it."""
    out = bytearray()
    try:
        while data:
            stream = zlib.decompressobj(wbits=31)
            while not stream.eof:
                chunk = stream.decompress(data, _CHUNK_BYTES)
                data = stream.unconsumed_tail
                out += chunk
                if len(out) > MAX_TAR_BYTES:
                    raise _bad(path, f"it unpacks to more than {MAX_TAR_BYTES} bytes")
                if not chunk and not data and not stream.eof:
                    raise _bad(path, "it ends in the middle of its compressed data")
            data = stream.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise _bad(path, f"its compression is damaged: {error}") from None
    return bytes(out)


def _check_member(member: tarfile.TarInfo, path: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        raise _bad(path, f"the name {member.name!r:.80} leads out of its folder")
    if member.issym() or member.islnk():
        raise _bad(path, f"{member.name!r:.80} is a link")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise _bad(path, f"{member.name!r:.80} is neither a file nor a folder")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int, path: Path) -> bytes:
    if member.size > limit:
        raise _bad(path, f"{member.name} is too large: got {member.size} bytes, need at most {limit}")
    file = tar.extractfile(member)
    content = file.read(limit + 1) if file else b""
    if len(content) != member.size:
        raise _bad(path, f"it is cut short in {member.name}: got {len(content)} of {member.size} bytes")
    return content


def _bad(path: Path, reason: str) -> InputError:
    return InputError(f"the .nemo file is damaged or hostile ({path}): {reason}", "download it again")
