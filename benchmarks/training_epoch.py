"""How much longer a training epoch takes than forward and backward alone, over as many cached features.

    python benchmarks/training_epoch.py --data speech_commands [--config examples/configs/kws10.toml] [--json F]

The epochs are those of `mbx-deploy train`: variants of clips, features, masks, optimizer, averaged weights, validation,
checkpoints. Processor time of all threads is counted, so that what else the machine does changes little. A teacher is
left out of both.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import torch

from mbx_deploy.data.dataset import load_split
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.train.config import load_train_config
from mbx_deploy.train.loop import TrainConfig, train
from mbx_deploy.train.matchboxnet import build_matchboxnet
from mbx_deploy.train.plan import EpochBatches


def bare_seconds(config: TrainConfig, data: Path) -> tuple[float, int]:
    """Return the processor time of forward and backward over one epoch's cached batches, and the steps."""
    split = load_split(data, "training", config.labels, config.frontend.clip_samples, progress=False)
    source = EpochBatches(config, split, HostFrontend(config.frontend))
    batches = list(source.batches(0))
    network = build_matchboxnet(config.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    for inputs, classes in batches[:5]:
        torch.nn.functional.cross_entropy(network(inputs), classes).backward()
    start = time.process_time()
    for inputs, classes in batches:
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), classes).backward()
    return time.process_time() - start, len(batches)


def epoch_seconds(config: TrainConfig, data: Path, epochs: int) -> float:
    """Return the processor time of one more epoch of a training, on average over as many rounds of features."""

    def seconds(count: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            train(dataclasses.replace(config, epochs=count, stop_after=0), data, Path(folder))
            return time.process_time() - start

    return (seconds(2 * epochs) - seconds(epochs)) / epochs  # loading and starting fall out


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    config = load_train_config(arguments.config) if arguments.config else TrainConfig()
    config = dataclasses.replace(config, teacher="", threads=1)
    torch.set_num_threads(1)
    bare, steps = bare_seconds(config, arguments.data)
    epoch = epoch_seconds(config, arguments.data, config.feature_epochs)
    result = {"steps": steps, "bare_seconds": bare, "epoch_seconds": epoch, "ratio": epoch / bare}
    print(f"forward and backward {bare:.2f} s, an epoch {epoch:.2f} s: {epoch / bare:.2f} times, {steps} steps of both")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
