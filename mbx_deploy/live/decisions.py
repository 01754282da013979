"""What a listener says."""

from dataclasses import dataclass

import numpy as np

from mbx_deploy.sim.decision import Event


@dataclass(frozen=True)
class Decision:
    """samples: that had arrived since the start, lost ones included. label: of the largest logit. score_q15: its
    posterior. logits: int8 (classes,). posteriors_q15: int32 (classes,). event: the word that was said, or None.
    """

    samples: int
    label: int
    score_q15: int
    logits: np.ndarray
    posteriors_q15: np.ndarray
    event: Event | None
