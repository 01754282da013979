"""Other words from a few dozen clips a word: a trained network begins where it is, with a new head.

Nothing is frozen: measured on 30 clips each of bed, cat and happy, from NeMo's model of eight other words, on 553 clips
of other speakers: 96.5 % with all layers trained, 86 % with all but the last two blocks frozen, 80 % with only the head
trained, 90 % from random weights in the same time. How sure a result is, is measured by cross-validation over speakers:
each clip is judged by a model that never heard its speaker.

Beside the words it learns what none of them is: other words (the data set's, folders of negatives, or spoken by
espeak-ng where there are none) and silence. A model without them takes everything for a word.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mbx_deploy.data.accuracy import command_interval, speaker_interval
from mbx_deploy.data.context import in_context
from mbx_deploy.data.dataset import CLIP_SAMPLES, SILENCE, UNKNOWN, Split, load_noise, load_split
from mbx_deploy.data.negatives import Negatives, load_negatives, own_words
from mbx_deploy.data.synthesis import speak_some
from mbx_deploy.errors import InputError
from mbx_deploy.frontend.continuous import ContinuousFrontend
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.train.augment import (
    AugmentConfig,
    NoiseSources,
    augment_clip,
    float_features,
    mask_features,
    noise_sources,
)
from mbx_deploy.train.checkpoint import CheckpointInfo, save_checkpoint
from mbx_deploy.train.evaluation import predict, to_inputs
from mbx_deploy.train.initial import calibrate_norms, has_folded_norms
from mbx_deploy.train.open_world import OpenWorldConfig, Windows
from mbx_deploy.train.streaming import to_streaming

LEAST_CLIPS = 10
LEAST_OTHER_CLIPS = 200  # fewer, and espeak-ng speaks other words
SYNTHETIC_WORDS = 400
SPLITS_BY = SPEAKER, RECORDING, AUTO = "speaker", "recording", "auto"
_ORDER, _CLIPS, _FOLDS, _CHOICE = range(4)  # what a seed is for

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FinetuneConfig:
    """words: the new labels. clips_per_word: at most, drawn over as many speakers as there are; None for all.

    scratch: a network of the base's shape from random weights instead, for comparison. streaming: make a streaming
    model of a windowed base. negatives: folders of what is no word. only_words: neither unknown nor silence is learned.
    split_by: what cross-validation holds out, "speaker", "recording", or "auto": speakers where there are enough.
    """

    words: tuple[str, ...]
    clips_per_word: int | None = None
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 0.006
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    folds: int = 5
    seed: int = 1
    threads: int = 1
    scratch: bool = False
    streaming: bool = False
    negatives: tuple[Path, ...] = ()
    only_words: bool = False
    split_by: str = SPEAKER

    @property
    def labels(self) -> tuple[str, ...]:
        """Return what the new model tells apart."""
        return self.words if self.only_words else (*self.words, UNKNOWN, SILENCE)

    def __post_init__(self) -> None:
        """Raise InputError for words that make no task, or a number out of range."""
        if len(self.words) < 2 or len(set(self.words)) != len(self.words):
            raise InputError(f"bad words (--words): got {','.join(self.words)!r}, need two or more, each once")
        for name in self.words:
            if name in (UNKNOWN, SILENCE):
                raise InputError(
                    f"bad words (--words): {name!r} is not a word", "train the whole task with mbx-deploy train instead"
                )
        for name, least in (("epochs", 1), ("batch_size", 2), ("folds", 2), ("seed", 0), ("threads", 1)):
            if getattr(self, name) < least:
                raise InputError(f"bad fine-tuning ({name}): got {getattr(self, name)}, need {least} or more")
        if self.split_by not in SPLITS_BY:
            raise InputError(f"bad fine-tuning (split_by): got {self.split_by!r}, need {', '.join(SPLITS_BY)}")
        if self.only_words and (self.negatives or self.streaming):
            raise InputError(
                "bad fine-tuning (only_words): it goes with neither negatives nor a streaming model",
                "leave out --only-words",
            )
        if self.clips_per_word is not None and self.clips_per_word < LEAST_CLIPS:
            raise InputError(f"too few clips a word (--clips): got {self.clips_per_word}, need {LEAST_CLIPS} or more")


@dataclass(frozen=True)
class FinetuneReport:
    """accuracy: by cross-validation, a share of the clips; interval: its 95 % by drawing speakers anew.

    testing: the final model on the data set's testing split, which no part of this has seen; None without one.
    split_by: what was held out; by recording, a model may have heard the speaker that it is judged on, and speakers is
    the number of recordings. other_words, negative_hours: how many different words, and how much of recordings, it
    learned to be none.
    """

    words: tuple[str, ...]
    clips: dict[str, int]
    speakers: int
    folds: int
    accuracy: float
    interval: tuple[float, float]
    testing: float | None
    testing_interval: tuple[float, float] | None
    testing_clips: int
    split_by: str = SPEAKER
    other_words: int = 0
    negative_hours: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return asdict(self)


def finetune(
    base: tuple[nn.Module, CheckpointInfo],
    data_root: Path,
    output: Path,
    config: FinetuneConfig,
    say: Say = lambda line: None,
    progress: Progress = lambda what, done, of: None,
) -> FinetuneReport:
    """Write a model of new words, and return how sure it is.

    base: a trained network and what its file says. progress: hears of each epoch, and of what.
    Raises InputError for a word with too few clips or speakers.
    """
    torch.set_num_threads(config.threads)
    module, info = base
    if config.streaming:
        module, info = to_streaming(module, info)  # type: ignore[arg-type]
    task = _load_task(data_root, info, config, getattr(module.config, "streaming", False), say)
    config = _decide_split(task.split, config, say)
    split = choose_clips(task.split, config)
    speakers = speakers_of(split, config)
    right = np.zeros(len(split), bool)
    folds = divide_speakers(speakers, config.folds, config.seed)
    for fold in range(config.folds):
        held_out = folds == fold
        what = f"fold {fold + 1} of {config.folds}"
        fitted = fit(module, info, split.take(~held_out), task, config, partial(progress, what))
        logits = predict(fitted, task.inputs(split.samples[held_out]))
        right[held_out] = logits.argmax(axis=1) == split.classes[held_out]
        say(f"cross-validation {fold + 1}/{config.folds}: {right[held_out].mean():.1%} of {held_out.sum()} clips")
    fitted = fit(module, info, split, task, config, partial(progress, "all clips"))
    testing, testing_interval, testing_clips = _measure_testing(fitted, data_root, task, config)
    report = FinetuneReport(
        words=config.words,
        clips={word: int((split.classes == i).sum()) for i, word in enumerate(config.words)},
        speakers=len(set(speakers)),
        folds=config.folds,
        accuracy=float(right.mean()),
        interval=speaker_interval(right, speakers),
        testing=testing,
        testing_interval=testing_interval,
        testing_clips=testing_clips,
        split_by=config.split_by,
        other_words=task.other_words,
        negative_hours=round(task.negatives.seconds / 3600.0, 3),
    )
    provenance = {
        "finetuning": {
            **asdict(config),
            "words": list(config.words),
            # Where they lay is no fact of the model; what they held is in the report.
            "negatives": [path.name for path in config.negatives],
        },
        "base": {"labels": list(info.labels), "digest": _digest(module), "provenance": info.provenance},
        "report": report.to_dict(),
        "torch": str(torch.__version__),
    }
    model_config = replace(info.model_config, num_classes=len(config.labels))
    save_checkpoint(output, fitted, CheckpointInfo(model_config, info.frontend, config.labels, provenance))
    return report


def choose_clips(split: Split, config: FinetuneConfig) -> Split:
    """Return at most clips_per_word of each word: first one of every speaker, drawn by the seed, then second ones.

    Raises InputError for a word with fewer than LEAST_CLIPS clips, or than one speaker a fold.
    """
    rng = np.random.default_rng([config.seed, _CHOICE])
    by_speaker = config.split_by == SPEAKER
    speakers = np.array(speakers_of(split, config))
    chosen: list[int] = []
    for word in config.words:
        own = rng.permutation(split.indices_of(word))
        if len(own) < LEAST_CLIPS:
            raise InputError(f"too few clips of {word!r}: got {len(own)}, need {LEAST_CLIPS} or more")
        if len(set(speakers[own])) < config.folds:
            raise InputError(
                f"too few {config.split_by}s of {word!r}: got {len(set(speakers[own]))}, need {config.folds}",
                "--split-by recording judges each clip by a model that may know its speaker" if by_speaker else None,
            )
        seen: dict[str, int] = {}
        turns = []
        for index in own:
            turns.append(seen.get(speakers[index], 0))
            seen[speakers[index]] = turns[-1] + 1
        chosen += own[np.argsort(turns, kind="stable")][: config.clips_per_word].tolist()
    return split.take(np.array(sorted(chosen)))


def speakers_of(split: Split, config: FinetuneConfig) -> list[str]:
    """Return who speaks each clip, or by recording each clip's name. A clip of which nothing says who speaks counts as
    one and the same speaker's: that many people made it is not known.
    """
    if config.split_by == RECORDING:
        return list(split.names)
    return ["" if voice == name else voice for voice, name in zip(split.voices, split.names, strict=True)]


def _decide_split(split: Split, config: FinetuneConfig, say: Say) -> FinetuneConfig:
    """Return the config with AUTO replaced by what the recordings allow, said where it is not speakers."""
    if config.split_by != AUTO:
        return config
    by_speaker = replace(config, split_by=SPEAKER)
    voices = np.array(speakers_of(split, by_speaker))
    counts = {word: len(set(voices[split.indices_of(word)])) for word in config.words}
    if min(counts.values()) >= config.folds:
        return by_speaker
    word = min(counts, key=lambda name: counts[name])
    say(
        f"note: {counts[word]} speaker{'s' * (counts[word] != 1)} of {word!r} are too few to judge by speaker, so each "
        "clip is judged by a model that may know its speaker: other people will be understood less well"
    )
    return replace(config, split_by=RECORDING)


def divide_speakers(speakers: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """Return the fold of each clip, int64 (clips,): a speaker's clips stay together, folds are of about one size."""
    names, numbers = np.unique(np.array(speakers), return_inverse=True)
    counts = np.bincount(numbers)
    rng = np.random.default_rng([seed, _FOLDS])
    order = rng.permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    sizes = np.zeros(folds, np.int64)
    fold_of = np.zeros(len(names), np.int64)
    for speaker in order:
        fold_of[speaker] = int(np.argmin(sizes))
        sizes[fold_of[speaker]] += counts[speaker]
    return fold_of[numbers]


@dataclass(frozen=True, eq=False)
class _Task:
    """What is learned from and how it is heard. split: with the other words, where they are learned. other_words: how
    many different ones there are.
    """

    split: Split
    negatives: Negatives
    noise: NoiseSources
    front_end: HostFrontend | ContinuousFrontend
    augment: AugmentConfig
    other_words: int

    def inputs(self, samples: np.ndarray) -> torch.Tensor:
        """Return the network's inputs, float32 (N, C, 1, T), of clips of words: alone, or of a stream in context."""
        if isinstance(self.front_end, ContinuousFrontend):
            spoken = np.ones(len(samples), bool)
            samples = in_context(samples, spoken, self.split.noise, self.front_end.window_samples)
        return to_inputs(float_features(self.front_end, samples))


def _load_task(data_root: Path, info: CheckpointInfo, config: FinetuneConfig, streaming: bool, say: Say) -> _Task:
    if streaming and config.only_words:
        raise InputError(
            "a streaming model needs to know what is no word (only_words): it hears that all day",
            "leave out --only-words",
        )
    size = CLIP_SAMPLES if streaming else info.frontend.clip_samples
    split = load_split(data_root, "training", config.labels, size)
    negatives = load_negatives(config.negatives, config.labels)
    front_end = ContinuousFrontend(info.frontend) if streaming else HostFrontend(info.frontend)
    sources = noise_sources(load_noise(data_root, "training"), split.samples)
    if config.only_words:
        say("no other words, no silence (--only-words): the model will take whatever it hears for one of its words")
        return _Task(split, negatives, sources, front_end, AugmentConfig(), 0)
    own = own_words(split)
    if len(own.words) + sum(len(source.words) for source in negatives.sources) < LEAST_OTHER_CLIPS:
        say(f"few other words: espeak-ng speaks {SYNTHETIC_WORDS} (give more with --negatives)")
        spoken = speak_some(config.words, SYNTHETIC_WORDS, config.seed)
        negatives = replace(negatives, sources=(*negatives.sources, spoken))
    # Where nobody recorded silence, it is noise of five colours.
    split = replace(split, noise=split.noise or tuple(sources.coloured))
    names = {word for source in (own, *negatives.sources) for word in source.words}
    say(f"no word of the model: {len(names)} other words, {negatives.seconds / 3600.0:.2f} h of recordings, silence")
    # A second microphone and a room: what a few dozen clips do not tell of.
    augment = AugmentConfig(
        gain_db=(-30.0, 6.0), coloured_noise_share=0.25, room_probability=0.2, channel_probability=0.3
    )
    return _Task(split, negatives, sources, front_end, augment, len(names))


def fit(
    base: nn.Module,
    info: CheckpointInfo,
    split: Split,
    task: _Task,
    config: FinetuneConfig,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> nn.Module:
    """Return a network for the words of a split, in evaluation mode; the base stays as it is.

    split: of task.split, the clips of words that it may hear. The same seed gives the same weights.
    """
    examples = _Examples(split, task, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        module = _prepare(base, info, config)
    optimizer = torch.optim.AdamW(module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * max(1, examples.count // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    step = 0
    for epoch in range(config.epochs):
        order = np.random.default_rng([config.seed, _ORDER, epoch]).permutation(examples.count)
        inputs, targets = examples.of_epoch(epoch)
        if not epoch and has_folded_norms(module):
            calibrate_norms(module, inputs)
            module.train()
        for batch in np.array_split(order, max(1, len(order) // config.batch_size)):
            logits = module(inputs[batch])
            classes = torch.from_numpy(targets[batch])
            loss = nn.functional.cross_entropy(logits, classes, label_smoothing=config.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step < steps:
                schedule.step()
        progress(epoch + 1, config.epochs)
    return module.eval()


class _Examples:
    """An epoch's clips, augmented: the words alone, or as many again of what is none. All follows from the seed."""

    def __init__(self, split: Split, task: _Task, config: FinetuneConfig) -> None:
        self.split, self.task, self.seed = split, task, config.seed
        self.windows: Windows | None = None
        self.count = len(split)
        if not config.only_words:
            others = task.split.take(task.split.indices_of(UNKNOWN))
            both = replace(
                split,
                samples=np.concatenate([split.samples, others.samples]),
                classes=np.concatenate([split.classes, others.classes]),
                names=(*split.names, *others.names),
                speakers=(*split.speakers, *others.speakers),
                spoken=(*split.spoken, *others.spoken),
                noise=task.split.noise,
            )
            streaming = isinstance(task.front_end, ContinuousFrontend)
            size = task.front_end.window_samples if streaming else split.samples.shape[1]  # type: ignore[union-attr]
            world = OpenWorldConfig(draws=2 * len(split))
            self.windows = Windows(world, task.augment, both, task.negatives, task.noise, size, streaming)
            self.count = len(self._draws(0))

    def _draws(self, epoch: int) -> np.ndarray:
        assert self.windows is not None
        return self.windows.draw_round(epoch, self.seed, np.zeros((0, 3), np.int64))

    def of_epoch(self, epoch: int) -> tuple[torch.Tensor, np.ndarray]:
        """Return the inputs, float32 (N, C, 1, T), and classes, int64 (N,), of an epoch."""
        task, windows = self.task, self.windows
        draws = self._draws(epoch) if windows else None
        clips: list[np.ndarray] = []
        classes = self.split.classes.copy() if draws is None else np.zeros(len(draws), np.int64)
        for index in range(self.count):
            rng = np.random.default_rng([self.seed, _CLIPS, epoch, index])
            if windows is None or draws is None:
                clips.append(augment_clip(self.split.samples[index], task.noise, task.augment, rng))
            else:
                clip, classes[index] = windows.make(draws[index], rng)
                clips.append(clip)
        features = float_features(task.front_end, np.stack(clips))
        for index in range(self.count):
            rng = np.random.default_rng([self.seed, _CLIPS, epoch, index, 1])
            mask_features(features[index], task.augment, rng)
        return to_inputs(features), classes


def _prepare(base: nn.Module, info: CheckpointInfo, config: FinetuneConfig) -> nn.Module:
    """Return a copy with a new head, to be trained; with random weights where that is asked for."""
    module = copy.deepcopy(base).train()
    if config.scratch:
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                part.reset_parameters()
    decoder = module.decoder
    assert isinstance(decoder, nn.Linear)
    head = nn.Linear(decoder.in_features, len(config.labels))
    known = [] if config.scratch else [label for label in config.labels if label in info.labels]
    with torch.no_grad():  # what the base knows already, unknown and silence perhaps, it need not learn anew
        for label in known:
            row, old = config.labels.index(label), info.labels.index(label)
            head.weight[row], head.bias[row] = decoder.weight[old], decoder.bias[old]
    module.decoder = head
    return module


def _measure_testing(
    module: nn.Module, data_root: Path, task: _Task, config: FinetuneConfig
) -> tuple[float | None, tuple[float, float] | None, int]:
    try:
        split = load_split(data_root, "testing", config.labels, task.split.samples.shape[1])
    except InputError:  # a set of recordings too small to be divided
        return None, None, 0
    split = split.take(np.flatnonzero(split.classes < len(config.words)))
    if not len(split):
        return None, None, 0
    logits = predict(module, task.inputs(split.samples))
    right = logits.argmax(axis=1) == split.classes
    return float(right.mean()), command_interval(logits, split), len(split)


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
