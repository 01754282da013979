"""The compilers behind ccache: hundreds of builds in tests compile the same runtime, each in a folder of its own."""

import os
import shutil
import sys
from pathlib import Path
from tempfile import gettempdir

COMPILERS = ("gcc", "clang", "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")
FOLDER = Path(__file__).resolve().parents[2] / "build" / "ccache"


def use_compiler_cache() -> None:
    """Put ccache in front of the compilers for this process and those it starts; nothing where it is not installed.

    CCACHE_DISABLE=1 in the environment leaves it out.
    """
    ccache = Path(sys.executable).parent / "ccache"  # the environment's: an older one forgets gcc's call graphs
    if not ccache.exists() or os.environ.get("CCACHE_DISABLE"):
        return
    links = FOLDER / "bin"
    links.mkdir(parents=True, exist_ok=True)
    for name in COMPILERS:
        if shutil.which(name) is not None and not (links / name).exists():
            made = links / f".{name}.{os.getpid()}"
            made.symlink_to(ccache)
            made.replace(links / name)
    if str(links) not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((str(links), os.environ["PATH"]))
    # A folder's name is in no object: paths are relative, and -fmacro-prefix-map takes out what is not.
    os.environ |= {
        "CCACHE_DIR": str(FOLDER),
        "CCACHE_BASEDIR": gettempdir(),
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_MAXSIZE": "500M",
    }


def plain_path() -> str:
    """Return PATH without it."""
    return os.pathsep.join(entry for entry in os.environ["PATH"].split(os.pathsep) if entry != str(FOLDER / "bin"))
