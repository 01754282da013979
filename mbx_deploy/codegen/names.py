"""Names in the generated C: which prefixes a model may have, and how labels are written."""

import re

from mbx_deploy.errors import InputError

PREFIX_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,30}")
# Names whose <prefix>_t, <prefix>.h or CMake target is somebody else's.
TAKEN_PREFIXES = frozenset(
    (
        *(
            "size",
            "ssize",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "intptr",
            "uintptr",
        ),
        *(
            "intmax",
            "uintmax",
            "ptrdiff",
            "wchar",
            "max_align",
            "string",
            "stdint",
            "stddef",
            "stdio",
            "stdlib",
            "stdbool",
        ),
        *("limits", "math", "time", "errno", "assert", "float", "semihosting", "main"),
        *("firmware", "test", "all", "install", "clean", "help", "package", "edit_cache", "rebuild_cache"),
    )
)


def check_prefix(prefix: str) -> None:
    """Raise InputError for a prefix of the model's symbols that is no C identifier, or somebody else's."""
    if not PREFIX_PATTERN.fullmatch(prefix) or prefix.startswith("mbx") or prefix in TAKEN_PREFIXES:
        raise InputError(
            f"bad prefix: got {prefix!r}, need a lower-case C identifier of at most 31 letters that is not taken and "
            "does not begin with mbx"
        )


def label_macros(labels: tuple[str, ...]) -> list[str]:
    """Return the end of each label's macro, upper-case, no two the same; those that would be carry the label's number,
    behind as many underscores as make it unlike any other.
    """
    plain = [re.sub(r"[^A-Za-z0-9]", "_", label).upper() for label in labels]
    taken = {name for name in plain if plain.count(name) == 1}
    found = []
    for number, name in enumerate(plain):
        unique, line = name, "_"
        while plain.count(name) > 1 and (unique == name or unique in taken):
            unique, line = f"{name}{line}{number}", line + "_"
        taken.add(unique)
        found.append(unique)
    return found
