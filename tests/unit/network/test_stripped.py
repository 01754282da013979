"""The network without metadata: smaller, the same to every reader, and left alone where it is not ours to cut."""

import numpy as np
import pytest

from mbx_deploy.compiler.model import CompiledModel
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.network.metadata import pack_model, read_metadata, unpack_model
from mbx_deploy.network.reader import parse_tflite
from mbx_deploy.network.stripped import bare_network
from tests.made.tflite import small_artifact


def constants(data: bytes) -> list[bytes | None]:
    return [None if t.data is None else t.data.tobytes() for t in parse_tflite(data, "test").tensors]


def test_the_shipped_network_is_whole_and_smaller(shipped: CompiledModel) -> None:
    bare = bare_network(shipped.data)
    metadata = read_metadata(shipped.data)
    assert metadata is not None and read_metadata(bare) is None
    saved = len(shipped.data) - len(bare)
    assert saved > 9000 and b'"labels"' in shipped.data and b'"labels"' not in bare
    left, right = parse_tflite(bare, "bare"), shipped.network
    assert (left.ops, left.input, left.output) == (right.ops, right.input, right.output)
    assert [(t.name, t.shape, t.scales, t.zero_point) for t in left.tensors] == [
        (t.name, t.shape, t.scales, t.zero_point) for t in right.tensors
    ]
    assert constants(bare) == constants(shipped.data)


def test_buffers_stay_aligned_and_other_metadata_stay(shipped: CompiledModel) -> None:
    bare = bare_network(shipped.data)
    before, after = unpack_model(shipped.data), unpack_model(bare)
    assert len(bare) % 16 == 0 and len(after.buffers) == len(before.buffers)
    for old, new in zip(before.buffers[:-1], after.buffers, strict=False):
        assert (old.data is None) == (new.data is None)
        if new.data is not None:
            assert old.data.tobytes() == new.data.tobytes()
            assert any(bare.startswith(new.data.tobytes(), place) for place in range(0, len(bare), 16))
    names = [entry.name for entry in before.metadata]
    assert [entry.name for entry in after.metadata] == [name for name in names if name != b"mbx_deploy"]
    assert after.description == before.description


def test_tflite_micro_runs_both_alike(shipped: CompiledModel) -> None:
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="tflite-micro is not installed")
    interpreters = [
        runtime.Interpreter.from_bytes(data, arena_size=1 << 20) for data in (shipped.data, bare_network(shipped.data))
    ]
    random = np.random.default_rng(3)
    shape = shipped.network.tensors[shipped.network.input].shape
    for _ in range(3):
        features = random.integers(-128, 128, shape).astype(np.int8)
        outputs = []
        for interpreter in interpreters:
            interpreter.set_input(features, 0)
            interpreter.invoke()
            outputs.append(interpreter.get_output(0))
        assert np.array_equal(*outputs)


def test_a_file_without_our_metadata_stays_as_it_is(shipped: CompiledModel) -> None:
    bare = bare_network(shipped.data)
    assert bare_network(bare) == bare


def test_a_file_that_is_arranged_otherwise_stays_as_it_is(shipped: CompiledModel) -> None:
    """Our metadata as the first buffer: the network's lie before it in the file."""
    model = unpack_model(shipped.data)
    last = len(model.buffers) - 1
    model.buffers.insert(1, model.buffers.pop())
    for tensor in model.subgraphs[0].tensors:
        tensor.buffer += 1 if 1 <= tensor.buffer < last else 0
    for entry in model.metadata:
        entry.buffer = 1 if entry.buffer == last else entry.buffer + 1
    other = pack_model(model)
    assert constants(other) == constants(shipped.data) and read_metadata(other) is not None
    assert bare_network(other) == other


@pytest.mark.parametrize("seed", range(4))
def test_small_networks(seed: int) -> None:
    data = small_artifact(FrontendConfig(), seed=seed, channels=3 + seed)
    bare = bare_network(data)
    assert len(bare) < len(data) and read_metadata(bare) is None and constants(bare) == constants(data)


@pytest.mark.slow
def test_damage_is_not_made_worse(shipped: CompiledModel) -> None:
    """A file that the reader would refuse comes back as it is, whatever byte of its first kilobyte is another one."""
    random = np.random.default_rng(8)
    whole = constants(shipped.data)
    for place in random.integers(0, 1024, 40):
        broken = bytearray(shipped.data)
        broken[place] ^= 1 << int(random.integers(8))
        made = bare_network(bytes(broken))
        assert made == bytes(broken) or constants(made) == whole
