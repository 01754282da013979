"""What reads files of a stranger: each with seeds that it takes, made here, and what is changed in them."""

import functools
import gzip
import io
import json
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from mbx_deploy.codegen.target import read_target
from mbx_deploy.compiler.model import load_model, parse_model
from mbx_deploy.data.folders import read_lists
from mbx_deploy.data.lists import read_list
from mbx_deploy.data.manifests import read_manifest as read_data_manifest
from mbx_deploy.data.tracks import find_recordings
from mbx_deploy.data.unpack import unpack
from mbx_deploy.errors import InputError
from mbx_deploy.firmware.folder import read_manifest as read_build_manifest
from mbx_deploy.firmware.image import read_flash_image
from mbx_deploy.frontend.config import FrontendConfig
from mbx_deploy.frontend.recipes import RECIPES
from mbx_deploy.measure.baseline import read_baseline
from mbx_deploy.measure.inputs import read_inputs
from mbx_deploy.network.metadata import read_metadata
from mbx_deploy.system.resources import shipped_model_path, targets_folder
from tests.fuzz.mutation import mutate
from tests.made.stateful import stateful_network
from tests.made.tflite import Network, metadata_for, random_weights, small_artifact

FRONTEND = FrontendConfig(clip_samples=1000, window_length=64, hop_length=32, n_fft=64, n_mels=5, n_mfcc=4)
ROOT = Path(__file__).resolve().parents[2]
Make = Callable[[random.Random, list[bytes]], bytes]


@dataclass(frozen=True)
class Reader:
    """name: of the file's kind and what is changed in it. file: what it is called. read: raises MbxError for what it
    does not take. seeds: files, or the parts of them that are changed; make: a file from changed parts.
    """

    name: str
    file: str
    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    make: Make = mutate


def audio(container: str, subtype: str, channels: int = 1, rate_hz: int = 16000, endian: str = "FILE") -> bytes:
    """Return a short sound file."""
    out = io.BytesIO()
    samples = np.random.default_rng(1).normal(0, 0.1, (700, channels))
    soundfile.write(out, samples, rate_hz, format=container, subtype=subtype, endian=endian)
    return out.getvalue()


def _wavs() -> list[bytes]:
    kinds = ("PCM_16", "PCM_U8", "PCM_24", "FLOAT", "IMA_ADPCM", "ULAW", "GSM610", "MS_ADPCM")
    found = [audio("WAV", kind) for kind in kinds] + [audio("WAV", "PCM_16", 2, 44100), audio("RF64", "PCM_16")]
    return [*found, audio("WAV", "PCM_16", endian="BIG")]


def _sounds() -> list[bytes]:
    return [audio("FLAC", "PCM_16"), audio("FLAC", "PCM_24", 2, 48000), audio("OGG", "VORBIS"), audio("OGG", "OPUS")]


def _others() -> list[bytes]:
    kinds = ("PCM_16", "PCM_24", "ULAW", "FLOAT")
    return [*(audio("AIFF", kind) for kind in kinds), audio("MP3", "MPEG_LAYER_III"), audio("MP3", "MPEG_LAYER_III", 2)]


def _recording(path: Path) -> None:
    from mbx_deploy.data.audio import read_recording

    read_recording(path)


def _tflites() -> list[bytes]:
    network = Network()
    x = network.activation((1, 6, 5, 4), 0.5, 3)
    weights = random_weights(np.random.default_rng(2), (3, 2, 2, 4))
    x = network.conv_2d(x, weights, [0.01] * 3, None, 0.4, 1, stride=(2, 1))
    return [
        *(small_artifact(FRONTEND), small_artifact(FRONTEND, seed=1, channels=3), network.build(x)),
        stateful_network(1, 3).data,
    ]


def _load(path: Path) -> None:
    try:
        load_model(path)
    except InputError:
        load_model(path, network_only=True)


def _metadata_seeds() -> list[bytes]:
    made: list[dict[str, Any]] = [metadata_for(FRONTEND, ("no", "yes", "silence"))]
    for name in ("kws10", "kws10s"):
        found = read_metadata(shipped_model_path(name).read_bytes())
        assert found is not None
        kept = ("format", "labels", "frontend", "frontend_digest", "decision", "streaming", "export")
        made.append({key: value for key, value in found.items() if key in kept})
    return [json.dumps(values).encode() for values in made]


@functools.cache
def _bare() -> bytes:
    return small_artifact(FRONTEND)


def _with_metadata(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Return the artifact with changed JSON in it, written as it is."""
    from mbx_deploy.network import metadata

    model = metadata.unpack_model(_bare())
    metadata._put_metadata(model, mutate(rng, seeds))
    return metadata.pack_model(model)


def _onnx_seeds() -> list[bytes]:
    from tests.made.nemo import build_classifier, small_config
    from tests.unit.nemo.test_onnx_import import onnx_bytes

    return [onnx_bytes(build_classifier(small_config()), frames) for frames in (None, 128)]


def _onnx(path: Path) -> None:
    from mbx_deploy.nemo.onnx_import import import_onnx

    labels, frontend = path.with_name("labels.txt"), path.with_name("config.yaml")
    labels.write_text("a\nb\nc\nd\n")
    frontend.write_bytes(_nemo_configs()[0])
    import_onnx(path, labels, frontend, None, None)


def _onnx_fields(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Return a graph some of whose fields hold something else, in a file that is whole."""
    import onnx
    from onnx import helper

    model = onnx.load_from_string(rng.choice(seeds))
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    for _ in range(rng.randint(1, 4)):
        node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
        values = rng.choice(([], [-1], [0], [1], [1 << 40], [2, 2], [1, 1, 1], 1, 0, -1, 1.5, "x", [0.5], ["a"]))
        change = rng.randrange(9)
        if change == 0 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice([*names, "", "nowhere"])
        elif change == 1 and node.output:
            node.output[0] = rng.choice(names)
        elif change == 2 and node.input:
            del node.input[rng.randrange(len(node.input)) :]
        elif change == 3 and node.attribute and values != []:
            place = rng.randrange(len(node.attribute))
            node.attribute[place].CopyFrom(helper.make_attribute(node.attribute[place].name, values))
        elif change == 4 and node.attribute:
            del node.attribute[rng.randrange(len(node.attribute))]
        elif change == 5:
            node.op_type = rng.choice(graph.node).op_type
        elif change == 6 and tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, 1, 2, 3, -1, 1 << 31, 1 << 62))
        elif change == 7:
            tensor.data_type = rng.randrange(24)
        else:
            graph.node.insert(rng.randrange(len(graph.node)), node)
    return bytes(model.SerializeToString())


def _nemo_configs() -> list[bytes]:
    from tests.made.nemo import mel_preprocessor, small_config

    return [yaml.safe_dump(small_config(**kept)).encode() for kept in ({}, {"preprocessor": mel_preprocessor()})]


@functools.cache
def _nemo_weights() -> bytes:
    from tests.made.nemo import build_classifier, checkpoint_bytes, small_config

    return checkpoint_bytes(build_classifier(small_config()).state_dict())


def _nemo_tar(config: bytes, weights: bytes) -> bytes:
    from tests.made.nemo import tar_bytes

    return tar_bytes({"model_config.yaml": config, "model_weights.ckpt": weights})


def _nemo(path: Path) -> None:
    from mbx_deploy.nemo.conversion import import_nemo

    import_nemo(path)


def _zipped(pickle: bytes, like: bytes) -> bytes:
    """Return torch's zip with another pickle in it, its checksums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(like)) as source, zipfile.ZipFile(out, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            target.writestr(info.filename, pickle if info.filename.endswith("data.pkl") else content)
    return out.getvalue()


@functools.cache
def _checkpoint() -> bytes:
    from mbx_deploy.train.checkpoint import CheckpointInfo, build_network, save_checkpoint
    from mbx_deploy.train.matchboxnet import MatchboxNetConfig

    config = MatchboxNetConfig(
        num_classes=3,
        blocks=1,
        kernels=(3,),
        channels=8,
        prologue_filters=8,
        prologue_kernel=3,
        epilogue_filters=8,
        epilogue_kernel=3,
        input_coefficients=FRONTEND.num_coefficients,
        input_frames=FRONTEND.num_frames,
    )
    info = CheckpointInfo(config, FRONTEND, ("no", "yes", "silence"), {"seed": 1})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        save_checkpoint(path, build_network(config), info)
        return path.read_bytes()


def _pickle_of(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))


def _load_pt(path: Path) -> None:
    from mbx_deploy.train.checkpoint import load_checkpoint

    load_checkpoint(path)


def _config(path: Path) -> None:
    from mbx_deploy.train.config import load_train_config

    load_train_config(path)


def _configs() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "examples" / "configs").glob("*.toml"))]


_CONFIG_YAML = "seed: 3\nepochs: 4\nbatch_size: 1_0\nmodel: &m {channels: 8, blocks: 2}\nfrontend:\n  n_mels: 64\n"


def _targets() -> list[bytes]:
    return [
        path.read_bytes().replace(f'"{path.stem}"'.encode(), b'"target"', 1)
        for path in sorted(targets_folder().glob("*.toml"))
    ]


def _build_manifest(path: Path) -> None:
    read_build_manifest(path.parent)


_BUILD_MANIFEST = {
    "format": 1, "generator": "mbx-deploy 0", "target": "host", "prefix": "kws", "layout": "cmake", "runtime": "c",
    "model_sha256": "0", "files": {"a.c": "0", "src/b.h": "1"}, "stride_frames": 25, "labels": ["a"], "step_frames": 4,
}  # fmt: skip
_DATA_MANIFEST = (
    b'{"audio_filepath": "a.wav", "duration": 1.0, "offset": 0.5, "command": "yes", "speaker": "x"}\n'
    b'{"audio_filename": "a.wav", "duration": 0, "label": "no", "other": [1, {"a": null}]}\n'
    b'{"audio_filepath": "a-sub1.wav", "text": "up", "shard_id": 0}\n{"audio_filepath": "a.wav", "text": "a b"}\n'
)


def _beside_sound(name: str) -> Callable[[Path], None]:
    """Return what reads labels that lie beside a sound file."""

    def read(path: Path) -> None:
        sound = path.with_name("a.wav")
        if not sound.exists():
            sound.write_bytes(audio("WAV", "PCM_16"))
        if name == "manifest":
            read_data_manifest(path)
        elif name == "list":
            read_list(path)
        else:
            find_recordings(path.parent)

    return read


def _lists(path: Path) -> None:
    for word in ("yes", "no"):
        (path.parent / word).mkdir(exist_ok=True)
        (path.parent / word / "a_nohash_0.wav").touch()
    path.with_name("validation_list.txt").touch()
    read_lists(path.parent)


def _tars() -> list[bytes]:
    found = []
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
            for name in ("yes/a.wav", "no/" + "long" * 30 + ".wav" if kind != tarfile.USTAR_FORMAT else "no/b.wav"):
                info = tarfile.TarInfo(name)
                info.size = 600
                tar.addfile(info, io.BytesIO(bytes(600)))
        found.append(out.getvalue())
    return found


def _gzipped(rng: random.Random, seeds: list[bytes]) -> bytes:
    if rng.random() < 0.2:
        return mutate(rng, [gzip.compress(seed, mtime=0) for seed in seeds])
    return gzip.compress(mutate(rng, seeds), 1, mtime=0)


def _unpack(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unpack(path, Path(folder) / "out", 100, 1 << 20, lambda done, of: None)


def _npys() -> list[bytes]:
    found = []
    for values in (np.zeros((2, 6, 5, 4), np.int8), np.zeros((1, 6, 5, 4), np.float32), np.zeros(3, "<U4")):
        out = io.BytesIO()
        np.save(out, values)
        found.append(out.getvalue())
    out = io.BytesIO()
    np.savez(out, a=np.zeros(3))
    return [*found, out.getvalue()]


@functools.cache
def _network() -> Any:
    return parse_model(_tflites()[2], "network", True)


def _inputs(path: Path) -> None:
    read_inputs(path, _network())


def _elfs() -> list[bytes]:
    """Return a small image: two parts of a flash, as a linker writes them."""
    import struct

    header = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<2H5I6H", 2, 40, 1, 0x101, 52, 0, 0, 52, 32, 2, 40, 0, 0)
    parts = b"".join(struct.pack("<8I", 1, 116 + 64 * i, 0x100 * i, 0x100 * i, 64, 64, 5, 4) for i in range(2))
    return [header + parts + bytes(range(128))]


def _image(path: Path) -> None:
    try:
        read_flash_image(path.read_bytes())
    except ValueError as error:  # its caller makes the user's error of it
        raise InputError(str(error)) from None


def _baselines() -> list[bytes]:
    return [(ROOT / "examples" / "ci" / "kws10.json").read_bytes()]


def _words(path: Path) -> None:
    from mbx_deploy.data.synthesis import read_words
    from mbx_deploy.nemo.labels import read_labels

    try:
        read_words(str(path))
    except InputError:
        read_labels(path)


def _frontend(path: Path) -> None:
    from mbx_deploy.frontend.tables import build_tables
    from mbx_deploy.nemo.foreign_tflite import read_frontend

    build_tables(read_frontend(path))


_FRONTENDS = (
    *(f'recipe = "{name}"\nn_mfcc = 9\nlow_hz = 20.0\nlog_offset = 1e-9\nsample_gain = 3.0\n' for name in RECIPES),
    '[frontend]\nspectrum = "magnitude"\nlog_scale = "decibel"\nlog_guard = "clamp"\nn_fft = 1024\nn_mels = 128\n'
    'dct_norm = "htk"\nmel_slopes = "mel"\nmel_first_line = 2\nmel_norm = "slaney"\npreemphasis = 0.97\n',
)


def _text(*texts: str | bytes) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() if isinstance(text, str) else text for text in texts]


READERS = (
    Reader("tflite", "model.tflite", _load, _tflites),
    Reader("tflite-metadata", "model.tflite", _load, _metadata_seeds, _with_metadata),
    Reader("wav", "sound.wav", _recording, _wavs),
    Reader("flac-ogg", "sound.flac", _recording, _sounds),
    Reader("aiff-mp3", "sound.aiff", _recording, _others),
    Reader("onnx", "model.onnx", _onnx, _onnx_seeds),
    Reader("onnx-fields", "model.onnx", _onnx, _onnx_seeds, _onnx_fields),
    Reader("nemo", "model.nemo", _nemo, lambda: [_nemo_tar(_nemo_configs()[0], _nemo_weights())]),
    Reader(
        "nemo-config", "model.nemo", _nemo, _nemo_configs,
        lambda rng, s: _nemo_tar(mutate(rng, s), _nemo_weights()),
    ),
    Reader(
        "nemo-weights", "model.nemo", _nemo, lambda: [_pickle_of(_nemo_weights())],
        lambda rng, s: _nemo_tar(_nemo_configs()[0], _zipped(mutate(rng, s), _nemo_weights())),
    ),
    Reader("pt", "model.pt", _load_pt, lambda: [_checkpoint()]),
    Reader(
        "pt-pickle", "model.pt", _load_pt, lambda: [_pickle_of(_checkpoint())],
        lambda rng, s: _zipped(mutate(rng, s), _checkpoint()),
    ),
    Reader("target-toml", "target.toml", read_target, _targets),
    Reader("frontend-toml", "frontend.toml", _frontend, _text(*_FRONTENDS)),
    Reader("config-toml", "config.toml", _config, _configs),
    Reader("config-yaml", "config.yaml", _config, _text(_CONFIG_YAML)),
    Reader("build-manifest", "manifest.json", _build_manifest, _text(json.dumps(_BUILD_MANIFEST, indent=1))),
    Reader("data-list", "words.txt", _beside_sound("list"), _text("a.wav\tyes\n./a.wav\tno\tanna\n\n../x/a.wav\n")),
    Reader("data-manifest", "words.json", _beside_sound("manifest"), _text(_DATA_MANIFEST)),
    Reader("track", "a.txt", _beside_sound("track"), _text("1.0\t2.0\tyes\n\\\t100\t200\n3\t3.5\tno\n")),
    Reader("track-json", "a.json", _beside_sound("track"), _text('[{"start": 1.2, "end": 1.8, "word": "yes"}]')),
    Reader("track-manifest", "x_manifest.json", _beside_sound("track"), _text(_DATA_MANIFEST.split(b"\n")[0])),
    Reader("track-kinds", "manifest.csv", _beside_sound("track"), _text("file,kind\na.wav,speech\nb.wav,music\n")),
    Reader("list", "testing_list.txt", _lists, _text("yes/a_nohash_0.wav\nno/a_nohash_0.flac\n")),
    Reader("words", "words.txt", _words, _text("yes\nno # comment\n", "left\r\nright\r\n")),
    Reader("tar", "set.tar.gz", _unpack, _tars, _gzipped),
    Reader("npy", "inputs.npy", _inputs, _npys),
    Reader("elf", "firmware.elf", _image, _elfs),
    Reader("baseline", "baseline.json", read_baseline, _baselines),
)  # fmt: skip
