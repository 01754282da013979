"""MatchboxNet from training to a microcontroller, with the same bytes at every step."""

from typing import Any

from mbx_deploy.system.version import __version__ as __version__


def __getattr__(name: str) -> Any:
    """Give from_pretrained() without importing anything before it is asked for."""
    if name == "from_pretrained":
        from mbx_deploy.engines.pretrained import from_pretrained

        return from_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
