"""The commands `train` and `finetune`: they need torch only from here on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mbx_deploy.errors import ToolMissing


def run_training(
    config_path: Path | None,
    overrides: dict[str, Any],
    data: Path,
    output: Path,
    resume: bool,
    devices: dict[str, Any] | None = None,
    negatives: Sequence[Path] = (),
) -> dict[str, Any]:
    """Train, or go on with a run, and return its summary as JSON takes it; empty in all but the first
    of several processes.

    config_path: TOML or YAML, None for the defaults. overrides: keys of TrainConfig that win over
    it. devices: the fields of EngineOptions. negatives: folders of what is no command.
    Raises InputError for a bad configuration or data
    folder, ToolMissing where torch or Lightning is not installed.
    """
    try:  # Lightning takes seconds to come: a configuration that is refused is refused before
        from mbx_deploy.train.config import TrainConfig, load_train_config

        base = load_train_config(config_path) if config_path else TrainConfig()
        values = {**base.to_dict(), **overrides}
        if "labels" in overrides:  # the number of classes follows from them
            values["model"] = {key: value for key, value in values["model"].items() if key != "num_classes"}
        config = TrainConfig.from_dict(values)
        from mbx_deploy.train.lightning import EngineOptions
        from mbx_deploy.train.loop import is_first_process, train
    except ImportError as error:
        hint = "install it: pip install 'mbx-deploy[train]'"
        raise ToolMissing(f"{error.name} is not installed (needed to train)", hint) from None
    options = EngineOptions(**(devices or {}))
    summary = train(config, data, output, resume=resume, options=options, negatives=negatives)
    return summary.to_dict() if is_first_process() else {}


def run_finetuning(
    base: Path,
    data: Path,
    words: tuple[str, ...],
    clips_per_word: int | None,
    output: Path,
    seed: int,
    say: Callable[[str], None],
    streaming: bool = False,
    negatives: tuple[Path, ...] = (),
    only_words: bool = False,
    split_by: str = "auto",
    epochs: int | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> dict[str, Any]:
    """Teach a checkpoint other words, and return how sure the result is, as JSON takes it.

    Raises InputError for a bad checkpoint, words or data, ToolMissing where torch is not installed.
    """
    try:
        from mbx_deploy.nemo.conversion import load_base
        from mbx_deploy.train.finetune import FinetuneConfig, finetune
    except ImportError as error:
        hint = "install it: pip install 'mbx-deploy[train]'"
        raise ToolMissing(f"{error.name} is not installed (needed to train)", hint) from None
    config = FinetuneConfig(
        words,
        clips_per_word,
        seed=seed,
        streaming=streaming,
        negatives=negatives,
        only_words=only_words,
        split_by=split_by,
    )
    config = config if epochs is None else replace(config, epochs=epochs)
    return finetune(load_base(base), data, output, config, say, progress).to_dict()
