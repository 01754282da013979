"""Reading .nemo files, whole and hostile ones: every refusal is an InputError that names the file, and runs nothing."""

import contextlib
import gzip
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mbx_deploy.errors import InputError
from mbx_deploy.nemo import archive as archive_module
from mbx_deploy.nemo.archive import read_archive
from mbx_deploy.nemo.conversion import import_nemo, read_nemo
from mbx_deploy.nemo.weights import load_weights
from mbx_deploy.train import torch_file
from tests.made.nemo import build_classifier, checkpoint_bytes, small_config, tar_bytes, write_nemo

CONFIG = b"labels: [a, b]\n"
WEIGHTS = checkpoint_bytes({"w": torch.ones(2)})


def nemo(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.nemo"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("prefix", ["./", ""])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_reads_every_form(tmp_path: Path, prefix: str, mode: str, kind: int) -> None:
    files = {f"{prefix}model_config.yaml": CONFIG, f"{prefix}model_weights.ckpt": WEIGHTS, "notes.txt": b"x"}
    read = read_archive(nemo(tmp_path, tar_bytes(files, mode, kind)))
    assert (read.config, read.weights) == (CONFIG, WEIGHTS)


def member(name: str, kind: bytes, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        tar.addfile(info)
    return buffer.getvalue()


def huge_claim() -> bytes:
    info = tarfile.TarInfo("model_weights.ckpt")
    info.size = 1 << 40
    return info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024


WHOLE = tar_bytes({"model_config.yaml": CONFIG, "model_weights.ckpt": WEIGHTS}, kind=tarfile.USTAR_FORMAT)
BAD: dict[str, bytes] = {
    "empty": b"",
    "text": b"hello " * 1000,
    "cut short": WHOLE[:2048],
    "cut in the gzip": gzip.compress(WHOLE)[:-200],
    "gzip of nothing": gzip.compress(b""),
    "symbolic link": member("model_weights.ckpt", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": member("model_weights.ckpt", tarfile.LNKTYPE, "../x"),
    "device": member("model_config.yaml", tarfile.CHRTYPE),
    "fifo": member("model_config.yaml", tarfile.FIFOTYPE),
    "path that leads out": tar_bytes({"../model_config.yaml": CONFIG}),
    "path that leads out below": tar_bytes({"a/../../model_config.yaml": CONFIG}),
    "absolute path": tar_bytes({"/tmp/model_config.yaml": CONFIG}),
    "without weights": tar_bytes({"model_config.yaml": CONFIG}),
    "without configuration": tar_bytes({"model_weights.ckpt": WEIGHTS}),
    "a name twice": tar_bytes({"model_config.yaml": CONFIG, "./model_config.yaml": CONFIG}),
    "a size of a terabyte": huge_claim(),
    "too many entries": tar_bytes({f"file{i}": b"" for i in range(1001)}, kind=tarfile.USTAR_FORMAT),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(tmp_path: Path, name: str) -> None:
    path = nemo(tmp_path, BAD[name])
    with pytest.raises(InputError) as caught:
        read_archive(path)
    assert str(path) in caught.value.what


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.nemo", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_archive(path)


def test_every_cut_is_refused_or_whole(tmp_path: Path) -> None:
    for length in range(0, len(WHOLE), 97):
        with contextlib.suppress(InputError):
            assert read_archive(nemo(tmp_path, WHOLE[:length])).weights == WEIGHTS


@pytest.mark.parametrize("layers", [1, 2])
def test_a_gzip_bomb_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: int) -> None:
    monkeypatch.setattr(archive_module, "MAX_TAR_BYTES", 1 << 20)
    data = b"\0" * (64 << 20)
    for _ in range(layers):
        data = gzip.compress(data)
    path = nemo(tmp_path, data)
    with pytest.raises(InputError, match=str(path)):
        read_archive(path)


def zip_bytes(compression: int, size: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("archive/data.pkl", b"\0" * size)
    return buffer.getvalue()


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "MAX_UNPACKED_BYTES", 1 << 16)
    for data in (zip_bytes(zipfile.ZIP_DEFLATED, 32 << 20), zip_bytes(zipfile.ZIP_STORED, 1 << 20), WEIGHTS[:200]):
        path = nemo(tmp_path, tar_bytes({"model_config.yaml": CONFIG, "model_weights.ckpt": data}))
        with pytest.raises(InputError, match=str(path)):
            load_weights(read_archive(path).weights, path)


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def hostile_zip(mark: Path) -> bytes:
    """Return a torch zip whose data.pkl runs a command."""
    source = zipfile.ZipFile(io.BytesIO(WEIGHTS))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for info in source.infolist():
            is_pickle = info.filename.endswith("data.pkl")
            target.writestr(info.filename, pickle.dumps(Hostile(mark)) if is_pickle else source.read(info))
    return buffer.getvalue()


def test_a_hostile_pickle_is_not_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    for data in (pickle.dumps(Hostile(mark)), checkpoint_bytes({"x": Hostile(mark)}), hostile_zip(mark)):
        files = {"model_config.yaml": yaml.safe_dump(small_config()).encode(), "model_weights.ckpt": data}
        path = nemo(tmp_path, tar_bytes(files))
        with pytest.raises(InputError, match=str(path)):
            import_nemo(path)
        assert not mark.exists()


def test_hostile_yaml_is_not_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    for text in (
        f"!!python/object/apply:os.system ['touch {mark}']",
        f"labels: !!python/object/apply:os.system ['touch {mark}']",
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nlabels: *c\npreprocessor: *c",
        "[" * 5000,
        "a: &a [*a]\nlabels: *a",
        "\xff\xfe",
        "just text",
        "",
    ):
        files = {"model_config.yaml": text.encode("latin-1"), "model_weights.ckpt": WEIGHTS}
        path = nemo(tmp_path, tar_bytes(files))
        with pytest.raises(InputError, match=str(path)):
            import_nemo(path)
        assert not mark.exists()


WEIGHT = "encoder.encoder.1.mconv.5.conv.weight"
SPOIL: dict[str, Callable[[dict[str, Any]], Any]] = {
    "missing": lambda w: w.pop(WEIGHT),
    "of another shape": lambda w: w.update({WEIGHT: torch.zeros(3, 1, 7)}),
    "of integers": lambda w: w.update({WEIGHT: w[WEIGHT].to(torch.int32)}),
    "not finite": lambda w: w.update({WEIGHT: w[WEIGHT] * float("nan")}),
    "sparse": lambda w: w.update({WEIGHT: w[WEIGHT][:, 0].to_sparse()}),
    "no tensor": lambda w: w.update({WEIGHT: [1.0]}),
    "foreign": lambda w: w.update({"encoder.encoder.9.mconv.0.conv.weight": torch.zeros(1)}),
    "of a negative variance": lambda w: w["encoder.encoder.0.mconv.2.running_var"].fill_(-1),
}


@pytest.mark.parametrize("name", SPOIL)
def test_weights_that_do_not_fit(tmp_path: Path, name: str) -> None:
    weights = dict(build_classifier(small_config()).state_dict())
    SPOIL[name](weights)
    path = write_nemo(tmp_path / "model.nemo", small_config(), weights)
    with pytest.raises(InputError, match=str(path)):
        import_nemo(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_old_and_half_precision_checkpoints(tmp_path: Path, legacy: bool, kind: torch.dtype) -> None:
    weights = {
        name: value.to(kind) if value.is_floating_point() else value
        for name, value in build_classifier(small_config()).state_dict().items()
    }
    weights["preprocessor.featurizer.dct_mat"] = torch.zeros(2, 2)
    files = {"model_config.yaml": yaml.safe_dump(small_config()).encode()}
    path = nemo(tmp_path, tar_bytes(files | {"model_weights.ckpt": checkpoint_bytes(weights, legacy)}))
    _, network, _ = read_nemo(path)
    assert all(buffer.dtype == torch.float32 for buffer in network.buffers())
    assert import_nemo(path).labels == ("down", "no", "on", "yes")


@pytest.mark.slow
def test_the_command_line_says_one_line(tmp_path: Path) -> None:
    path = nemo(tmp_path, BAD["symbolic link"])
    command = [sys.executable, "-m", "mbx_deploy", "import", str(path), "-o", str(tmp_path / "m.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert str(path) in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "m.pt").exists()
