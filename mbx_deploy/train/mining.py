"""Hard examples: draws that the model of the last epochs took for a command, remembered to come again."""

from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Mined:
    """draws: int64 (m, 3), what a window is made of (open_world.py). scores: float64 (m,), the highest posterior of a
    command, the highest first.
    """

    draws: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def update(self, draws: np.ndarray, scores: np.ndarray, least: float, most: int) -> "Mined":
        """Return what is remembered after a round of draws and their scores: those of at least `least`, and what was
        remembered and not drawn; the `most` highest of them. A draw that came twice counts by its higher score, one
        that came and is no longer hard is forgotten.
        """
        if not len(draws):
            return self
        order = np.argsort(-scores, kind="stable")
        own, first = np.unique(draws[order], axis=0, return_index=True)
        own_scores = scores[order][first]
        again = {row.tobytes() for row in own}
        left = np.array([row.tobytes() not in again for row in self.draws], bool)
        hard = own_scores >= least
        rows = np.concatenate([own[hard], self.draws[left]])
        values = np.concatenate([own_scores[hard], self.scores[left]])
        best = np.argsort(-values, kind="stable")[:most]
        return Mined(rows[best], values[best])

    def to_state(self) -> dict[str, torch.Tensor]:
        """Return it as a checkpoint keeps it."""
        return {"draws": torch.from_numpy(self.draws.copy()), "scores": torch.from_numpy(self.scores.copy())}

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> "Mined":
        """Return what to_state() kept."""
        return cls(state["draws"].numpy().copy(), state["scores"].numpy().copy())
