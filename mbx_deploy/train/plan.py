"""What an epoch trains on: which clips, in which order, bent how. All of it follows from (seed,
epoch, place).
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from mbx_deploy.data.dataset import SILENCE, UNKNOWN, Split, command_words, silence_clips
from mbx_deploy.data.negatives import Negatives
from mbx_deploy.frontend.continuous import ContinuousFrontend
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
from mbx_deploy.train.evaluation import clip_inputs, predict, to_inputs
from mbx_deploy.train.mining import Mined
from mbx_deploy.train.open_world import COMMAND, Windows

# Inputs and classes; of a windowed teacher, also what it says of each clip.
Batch = tuple[torch.Tensor, ...]

_BATCHES_AHEAD = 4
# What a seed is for, behind (seed, epoch or round, place).
_ORDER, _VARIANT, _MASKS = 0, 1, 2


def round_clips(config: TrainConfig, training: Split, number: int) -> np.ndarray:
    """Return the clips of a round of feature_epochs epochs, int64 (clips,), shuffled: indices into
    the split, -1 for a silence clip that is generated; of recorded ones there are as many at most. An index into it
    is a clip's place.
    """
    rng = np.random.default_rng([config.seed, number])
    words = [training.indices_of(word) for word in command_words(config.labels)]
    mean_count = sum(len(word) for word in words) / max(len(words), 1)
    unknown = training.indices_of(UNKNOWN)
    drawn = rng.permutation(unknown)[: round(config.unknown_ratio * mean_count)]
    silent = round(config.silence_ratio * mean_count) if SILENCE in config.labels else 0
    recorded = training.indices_of(SILENCE)
    if len(recorded):
        recorded = rng.permutation(recorded)[: silent // 2]
    generated = np.full(silent - len(recorded), -1)
    return rng.permutation(np.concatenate([*words, drawn, recorded, generated]).astype(np.int64))


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

    def __init__(
        self, config: TrainConfig, training: Split, front_end: HostFrontend, negatives: Negatives | None = None
    ) -> None:
        """training: clips of config.spoken_samples. negatives: what is no command; None where there are none."""
        self.config = config
        self.training = training
        self.front_end: HostFrontend | ContinuousFrontend = front_end
        self.noise: NoiseSources = noise_sources(training.noise, training.samples)
        self.windows: Windows | None = None
        self.mined = Mined()
        if config.open_world is not None:
            streaming = config.model.streaming
            if streaming:
                self.front_end = ContinuousFrontend(config.frontend)
            size = self.front_end.window_samples if streaming else front_end.config.clip_samples  # type: ignore[union-attr]
            self.windows = Windows(
                config.open_world, config.augment, training, negatives or Negatives(), self.noise, size, streaming
            )
        self._wanted: np.ndarray | None = None
        self._round = -1
        self._clips = self._round_clips(0)
        shape = (config.frontend.num_frames, config.frontend.num_coefficients)
        kept = config.feature_epochs > 1 or self.mining
        # Kept for the round's other epochs; in the open world as halves, whose steps are far below int8's.
        kind = np.float32 if self.windows is None else np.float16
        self._features = np.zeros((len(self._clips) if kept else 0, *shape), kind)
        self._classes = np.zeros(len(self._clips), np.int64)
        self._made = np.zeros(len(self._features), bool)

    @property
    def mining(self) -> bool:
        """Return whether what the model takes for a command comes again."""
        return self.config.open_world is not None and self.config.open_world.mined_share > 0

    def teach(self, teacher: nn.Module, front_end: HostFrontend) -> None:
        """Have a windowed teacher say what it hears in each command's clip, unchanged: a streaming network hears it in
        company. Batches have a third tensor then, log posteriors softened by the teacher's temperature, float32
        (n, classes), NaN for what is no command.
        """
        assert self.windows is not None
        logits = predict(teacher, clip_inputs(front_end, self.windows.commands.samples))
        softened = torch.from_numpy(logits) / self.config.teacher_temperature
        self._wanted = torch.log_softmax(softened, dim=1).numpy()

    def steps(self) -> int:
        """Return the steps an epoch has."""
        return len(epoch_places(self.config, len(self._clips), 0))

    def batch_size(self) -> int:
        """Return the clips of a batch, all processes together."""
        return min(self.config.batch_size, len(self._clips))

    def batches(self, epoch: int, rank: int = 0, processes: int = 1) -> Generator[Batch, None, None]:
        """Yield (inputs, classes) of each step: float32 (n, C, 1, T) and int64 (n,), where n is this
        process's share of a batch; see teach() for a third.
        """
        self.begin(epoch // self.config.feature_epochs)
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

    def begin(self, number: int) -> None:
        """Draw a round's clips, unless it is the one that is trained on."""
        if number != self._round:
            self._round = number
            self._clips = self._round_clips(number)
            self._made[:] = False

    def mine(self, epoch: int, network: nn.Module) -> None:
        """After a round's last epoch: have what the network takes for a command come again in the next rounds."""
        config = self.config.open_world
        if self.windows is None or config is None or not self.mining or (epoch + 1) % self.config.feature_epochs:
            return
        # Only whole batches were made, of these all: which ones depends on nothing but the plan.
        places = np.sort(epoch_places(self.config, len(self._clips), epoch).ravel())
        places = places[self._clips[places, 0] != COMMAND]
        missing = places[~self._made[places]]
        if len(missing):
            self._make(missing)
        parts = []
        for some in np.array_split(places, max(1, len(places) // 512)):
            logits = predict(network, to_inputs(self._features[some].astype(np.float32))).astype(np.float64)
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            parts.append(shares[:, self.windows.command_classes].max(axis=1))
        if parts:
            self.mined = self.mined.update(
                self._clips[places], np.concatenate(parts), config.mined_score, config.mined_most
            )

    def _round_clips(self, number: int) -> np.ndarray:
        if self.windows is None:
            return round_clips(self.config, self.training, number)
        return self.windows.draw_round(number, self.config.seed, self.mined.draws)

    def _prepare(self, epoch: int, places: np.ndarray) -> Batch:
        config = self.config
        if len(self._made):
            missing = places[~self._made[places]]
            if len(missing):
                self._make(missing)
            features = self._features[places].astype(np.float32)
        else:
            features, self._classes[places] = self._variants(places)
        for clip, place in zip(features, places, strict=True):
            mask_features(clip, config.augment, np.random.default_rng([config.seed, epoch, int(place), _MASKS]))
        batch = to_inputs(features), torch.from_numpy(self._classes[places])
        return batch if self._wanted is None else (*batch, self._taught(places))

    def _taught(self, places: np.ndarray) -> torch.Tensor:
        assert self._wanted is not None
        draws = self._clips[places]
        own = draws[:, 0] == COMMAND
        wanted = np.full((len(places), self._wanted.shape[1]), np.nan, np.float32)
        wanted[own] = self._wanted[draws[own, 1]]
        return torch.from_numpy(wanted)

    def _make(self, places: np.ndarray) -> None:
        self._features[places], self._classes[places] = self._variants(places)
        self._made[places] = True

    def _variants(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return features of this round's variants, float32 (N, T, C), and their classes, int64 (N,)."""
        training, config, windows = self.training, self.config, self.windows
        length = training.samples.shape[1] if windows is None else windows.window_samples
        clips = np.empty((len(places), length), np.int16)
        classes = np.empty(len(places), np.int64)
        silence = training.labels.index(SILENCE) if SILENCE in training.labels else -1
        for row, place in enumerate(places):
            rng = np.random.default_rng([config.seed, self._round, int(place), _VARIANT])
            if windows is not None:
                clips[row], classes[row] = windows.make(self._clips[place], rng)
                continue
            number = self._clips[place]
            if number < 0:
                clip = bend_silence(silence_clips(training.noise, 1, rng, clips.shape[1])[0], config.augment, rng)
            else:
                clip = training.samples[number]
            clips[row] = augment_clip(clip, self.noise, config.augment, rng)
            classes[row] = silence if number < 0 else training.classes[number]
        return float_features(self.front_end, clips), classes
