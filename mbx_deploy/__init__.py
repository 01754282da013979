"""MatchboxNet from training to a microcontroller, with the same bytes at every step.

The public names are those of mbx_deploy.api; nothing is imported before it is asked for.
"""

from typing import TYPE_CHECKING, Any

from mbx_deploy.system.version import __version__ as __version__

if TYPE_CHECKING:
    from mbx_deploy.api import build as build
    from mbx_deploy.api import evaluate as evaluate
    from mbx_deploy.api import from_pretrained as from_pretrained
    from mbx_deploy.api import load as load
    from mbx_deploy.api import simulate as simulate
    from mbx_deploy.api import verify as verify

__all__ = ["__version__", "build", "evaluate", "from_pretrained", "load", "simulate", "verify"]


def __getattr__(name: str) -> Any:
    """Give a public name, imported late."""
    if name in __all__:
        from mbx_deploy import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
