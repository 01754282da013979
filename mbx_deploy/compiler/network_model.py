"""A .tflite file without our metadata: a network alone, with neither labels nor a front end."""

from dataclasses import dataclass
from pathlib import Path

from mbx_deploy.compiler.lower import lower
from mbx_deploy.network import ir
from mbx_deploy.network.program import Program
from mbx_deploy.network.reader import parse_tflite, read_model_file


@dataclass(frozen=True)
class Network:
    """name: the file's, for messages. data: its bytes. digest: their SHA-256. network: as read. program: lowered."""

    name: str
    data: bytes
    digest: str
    network: ir.Model
    program: Program

    @property
    def input(self) -> ir.Tensor:
        """The network's input: shape (1, ...), scale, zero point."""
        return self.network.tensors[self.network.input]

    @property
    def output(self) -> ir.Tensor:
        """The network's output."""
        return self.network.tensors[self.network.output]


def load_network(path: str | Path) -> Network:
    """Return the network of a .tflite file, whatever else it holds. Raises InputError as tflite_reader does."""
    return parse_network(read_model_file(path), str(path))


def parse_network(data: bytes, name: str) -> Network:
    """Return the network that the bytes hold. name: for messages. Raises InputError as load_network()."""
    model = parse_tflite(data, name)
    return Network(name, data, model.digest, model, lower(model))
