"""What every integer engine is: it takes clips, streams or features, and gives results that must be the same bytes."""

from collections.abc import Sequence
from typing import Protocol

from mbx_deploy.engines.session import TRACE_RESULTS, Item, Result


class Engine(Protocol):
    """Runs items of a model. trace: how much of the road the results tell (session.TRACE_...)."""

    name: str

    def run(self, items: Sequence[Item], trace: int = TRACE_RESULTS) -> list[list[Result]]:
        """Return the results of each item."""
