"""What a streaming model's file says beside its network: how it runs on a stream, and the decisions it comes with."""

from typing import TYPE_CHECKING, Any

from mbx_deploy.compiler.decision import decision_to_dict
from mbx_deploy.sim.decision import NEVER_Q15, NO_WORDS, DecisionRule

if TYPE_CHECKING:
    from mbx_deploy.train.checkpoint import NetworkConfig

# Of a new model's decisions: the mean of so many posteriors above the threshold is an event, and the word counts again
# once the mean has fallen to a share of the threshold. `tune` finds a model's own.
DEFAULT_SMOOTHING = 5
DEFAULT_THRESHOLD = 0.6
DEFAULT_RELEASE = 0.8
DEFAULT_REST_S = 1
POSTERIOR_ONE = 1 << 15


def stream_metadata(config: "NetworkConfig", labels: tuple[str, ...], sample_rate_hz: int) -> dict[str, Any]:
    """Return the metadata of a streaming model: its frames, and the decisions that it comes with; nothing of others."""
    from mbx_deploy.train.matchboxnet import MatchboxNetConfig

    if not isinstance(config, MatchboxNetConfig) or not config.streaming:
        return {}
    words = tuple(label not in NO_WORDS for label in labels)
    threshold = round(DEFAULT_THRESHOLD * POSTERIOR_ONE)
    release = round(DEFAULT_RELEASE * DEFAULT_THRESHOLD * POSTERIOR_ONE)
    rule = DecisionRule(
        smoothing=DEFAULT_SMOOTHING,
        rows=1,
        thresholds_q15=tuple(threshold if word else NEVER_Q15 for word in words),
        release_q15=tuple(release if word else NEVER_Q15 for word in words),
        rest_samples=DEFAULT_REST_S * sample_rate_hz,
        is_word=words,
    )
    return {
        "streaming": {
            "receptive_frames": config.receptive_frames(),
            "pool_frames": config.pool_frames,
            "step_frames": config.step_frames,
            "tail_frames": config.tail_frames,
        },
        "decision": decision_to_dict(rule, sample_rate_hz),
    }
