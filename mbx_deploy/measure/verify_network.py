"""Runs the engines side by side on a network without a front end: random inputs and the user's own."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mbx_deploy.compiler.network_model import Network
from mbx_deploy.engines.c import Engine
from mbx_deploy.engines.network_engines import NetworkFirmware, NetworkProgram, NetworkSim, NetworkTflm, compile_host
from mbx_deploy.engines.session import ITEM_FEATURES, Item
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.network_build import NetworkBuild
from mbx_deploy.measure.verify import RANDOM_SEED, Comparison, NamedItem, Progress, compare_engines, open_engines

RANDOM_INPUTS = 20
MAX_INPUTS_BYTES = 256 << 20


def read_inputs(path: Path, network: Network) -> np.ndarray:
    """Return the inputs of an .npy file, int8 (N, *the model's input shape without its batch).

    Raises InputError for a file that can't be read, or of another type or shape.
    """
    shape = network.input.shape
    need = f"int8 (N, {', '.join(str(length) for length in shape[1:])})"
    hint = f"save one with numpy.save: {need}"
    try:
        if path.stat().st_size > MAX_INPUTS_BYTES:
            raise InputError(f"the inputs are too many ({path}): need at most {MAX_INPUTS_BYTES >> 20} MiB")
        values = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"can't read the inputs ({path}): {(error.strerror or str(error)).lower()}") from None
    except (ValueError, EOFError, struct.error, SyntaxError, MemoryError) as error:
        raise InputError(
            f"the inputs are no .npy file ({path}): {error}", f"save one with numpy.save: {need}"
        ) from None
    if not isinstance(values, np.ndarray):
        raise InputError(f"the inputs are no .npy file ({path}): an .npz?", hint)
    fits = values.dtype == np.int8 and values.ndim >= 1 and len(values) > 0
    if not fits or values.shape[1:] not in (shape[1:], shape):
        got = f"{values.dtype} {values.shape}"
        raise InputError(f"the inputs do not fit the network ({path}): got {got}, need {need}")
    return values.reshape(-1, *shape[1:])


def network_items(network: Network, inputs: np.ndarray | None) -> list[NamedItem]:
    """Return uniform noise, constants, a ramp and the user's inputs; the same for the same network."""
    shape = network.input.shape
    random = np.random.default_rng(RANDOM_SEED)
    values = {f"random input {i}": random.integers(-128, 128, shape) for i in range(RANDOM_INPUTS)}
    values |= {f"all {value}": np.full(shape, value) for value in (-128, network.input.zero_point, 127)}
    values["a ramp"] = (np.arange(network.input.size) % 256 - 128).reshape(shape)
    values |= {f"input {i}": row for i, row in enumerate(inputs if inputs is not None else ())}
    return [NamedItem(name, Item(ITEM_FEATURES, row.astype(np.int8).ravel())) for name, row in values.items()]


def verify_network_build(
    build: NetworkBuild, inputs: np.ndarray | None = None, progress: Progress = lambda done, of: None
) -> Comparison:
    """Return how the engines compare, every byte of every layer and of the output. inputs: from read_inputs()."""
    network = build.network

    def firmware() -> Engine:
        if build.target.toolchain == "host":
            return NetworkProgram("firmware", network, build.elf)
        return NetworkFirmware(network, build.elf, build.target)

    makers: dict[str, Callable[[], Engine]] = {
        "c": lambda: NetworkProgram("c", network, compile_host(network, build.files)),
        "firmware": firmware,
        "tflm": lambda: NetworkTflm(network),
    }
    engines, skipped = open_engines(NetworkSim(network), makers)
    items = network_items(network, inputs)
    comparison = Comparison(0, len(items), 0, [engine.name for engine in engines], skipped)
    compare_engines(engines, items, comparison, progress)
    return comparison
