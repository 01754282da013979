"""What an epoch trains on: which clips, in which order, bent how. All of it follows from (seed,
epoch, place).
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from mbx_deploy.data.dataset import SILENCE, UNKNOWN, Split, command_words, silence_clips
from mbx_deploy.frontend.native import HostFrontend
from mbx_deploy.train.augment import (
    NoiseSources,
    augment_clip,
    bend_silence,
    float_features,
    mask_features,
    noise_sources,
)
from mbx_deploy.train.config import TrainConfig
from mbx_deploy.train.evaluation import to_inputs

Batch = tuple[torch.Tensor, torch.Tensor]

_BATCHES_AHEAD = 4
# What a seed is for, behind (seed, epoch or round, place).
_ORDER, _VARIANT, _MASKS = 0, 1, 2


def round_clips(config: TrainConfig, training: Split, number: int) -> np.ndarray:
    """Return the clips of a round of feature_epochs epochs, int64 (clips,), shuffled: indices into
    the split, -1 for a silence clip. An index into it is a clip's place.
    """
    rng = np.random.default_rng([config.seed, number])
    words = [training.indices_of(word) for word in command_words(config.labels)]
    mean_count = sum(len(word) for word in words) / max(len(words), 1)
    unknown = training.indices_of(UNKNOWN)
    drawn = rng.permutation(unknown)[: round(config.unknown_ratio * mean_count)]
    silent = round(config.silence_ratio * mean_count) if SILENCE in config.labels else 0
    return rng.permutation(np.concatenate([*words, drawn, np.full(silent, -1)]).astype(np.int64))


def epoch_places(config: TrainConfig, clips: int, epoch: int) -> np.ndarray:
    """Return the places of each step of an epoch, int64 (steps, batch_size); the last few clips that
    fill no batch are left out.
    """
    order = np.arange(clips)
    if epoch % config.feature_epochs:
        order = np.random.default_rng([config.seed, epoch, _ORDER]).permutation(clips)
    size = min(config.batch_size, clips)
    return order[: clips // size * size].reshape(-1, size)


class EpochBatches:
    """An epoch's batches for one of several processes, prepared a few ahead by a thread.

    A variant of a clip follows from (seed, round, place), its masks from (seed, epoch, place): the
    number of threads and of processes, and where a run was stopped, change nothing.
    """

    def __init__(self, config: TrainConfig, training: Split, front_end: HostFrontend) -> None:
        self.config = config
        self.training = training
        self.front_end = front_end
        self.noise: NoiseSources = noise_sources(training.noise, training.samples)
        self._round = -1
        self._clips = round_clips(config, training, 0)
        shape = (front_end.config.num_frames, front_end.config.num_coefficients)
        # Kept for the round's other epochs.
        self._features = np.zeros((len(self._clips) if config.feature_epochs > 1 else 0, *shape), np.float32)
        self._made = np.zeros(len(self._features), bool)

    def steps(self) -> int:
        """Return the steps an epoch has."""
        return len(epoch_places(self.config, len(self._clips), 0))

    def batch_size(self) -> int:
        """Return the clips of a batch, all processes together."""
        return min(self.config.batch_size, len(self._clips))

    def batches(self, epoch: int, rank: int = 0, processes: int = 1) -> Generator[Batch, None, None]:
        """Yield (inputs, classes) of each step: float32 (n, C, 1, T) and int64 (n,), where n is this
        process's share of a batch.
        """
        number = epoch // self.config.feature_epochs
        if number != self._round:
            self._round = number
            self._clips = round_clips(self.config, self.training, number)
            self._made[:] = False
        pool = ThreadPoolExecutor(1)
        waiting: deque[Future[Batch]] = deque()
        try:
            for places in epoch_places(self.config, len(self._clips), epoch)[:, rank::processes]:
                waiting.append(pool.submit(self._prepare, epoch, places))
                if len(waiting) > _BATCHES_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(self, epoch: int, places: np.ndarray) -> Batch:
        training, config = self.training, self.config
        numbers = self._clips[places]
        silence = training.labels.index(SILENCE) if SILENCE in training.labels else -1
        classes = np.where(numbers < 0, silence, training.classes[numbers])
        if len(self._made):
            missing = places[~self._made[places]]
            if len(missing):
                self._features[missing] = self._variants(missing)
                self._made[missing] = True
            features = self._features[places]
        else:
            features = self._variants(places)
        for clip, place in zip(features, places, strict=True):
            mask_features(clip, config.augment, np.random.default_rng([config.seed, epoch, int(place), _MASKS]))
        return to_inputs(features), torch.from_numpy(classes)

    def _variants(self, places: np.ndarray) -> np.ndarray:
        """Return features of this round's variants, float32 (N, T, C)."""
        training, config = self.training, self.config
        clips = np.empty((len(places), training.samples.shape[1]), np.int16)
        for row, place in enumerate(places):
            rng = np.random.default_rng([config.seed, self._round, int(place), _VARIANT])
            number = self._clips[place]
            if number < 0:
                clip = bend_silence(silence_clips(training.noise, 1, rng, clips.shape[1])[0], config.augment, rng)
            else:
                clip = training.samples[number]
            clips[row] = augment_clip(clip, self.noise, config.augment, rng)
        return float_features(self.front_end, clips)
