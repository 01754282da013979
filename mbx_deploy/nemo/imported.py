"""What an importer makes of a foreign file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbx_deploy.frontend.config import FrontendConfig

if TYPE_CHECKING:
    from mbx_deploy.train.jasper import JasperNet


@dataclass(frozen=True)
class Imported:
    """A foreign model as one of ours. name: of its file. network: in evaluation mode. frontend: what feeds it.

    provenance: where it comes from, as JSON. notes: what the user ought to know.
    """

    name: str
    network: "JasperNet"
    frontend: FrontendConfig
    labels: tuple[str, ...]
    provenance: dict[str, Any]
    notes: tuple[str, ...]
