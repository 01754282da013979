"""What a streaming model's file says beside its network: how it runs on a stream, and the decisions it comes with."""

from typing import TYPE_CHECKING, Any

from mbx_deploy.data.protocols import SILENCE, UNKNOWN

if TYPE_CHECKING:
    from mbx_deploy.train.checkpoint import NetworkConfig

# Of a new model's decisions: the mean of so many posteriors above the threshold is an event, until it has fallen to a
# share of the threshold, and no sooner than after the rest. `tune` finds a model's own.
DEFAULT_SMOOTHING = 5
DEFAULT_THRESHOLD = 0.6
DEFAULT_RELEASE = 0.8
DEFAULT_REST_MS = 1000
POSTERIOR_ONE = 1 << 15
NEVER_Q15 = POSTERIOR_ONE + 1


def stream_metadata(config: "NetworkConfig", labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the metadata of a streaming model: its frames, and the decisions that it comes with; nothing of others."""
    from mbx_deploy.train.matchboxnet import MatchboxNetConfig

    if not isinstance(config, MatchboxNetConfig) or not config.streaming:
        return {}
    threshold = round(DEFAULT_THRESHOLD * POSTERIOR_ONE)
    release = round(DEFAULT_RELEASE * DEFAULT_THRESHOLD * POSTERIOR_ONE)
    never = [label in (UNKNOWN, SILENCE) for label in labels]
    return {
        "streaming": {
            "receptive_frames": config.receptive_frames(),
            "pool_frames": config.pool_frames,
            "step_frames": config.step_frames,
            "tail_frames": config.tail_frames,
        },
        "decision": {
            "smoothing": DEFAULT_SMOOTHING,
            "rows": 1,
            "thresholds_q15": [NEVER_Q15 if none else threshold for none in never],
            "release_q15": [NEVER_Q15 if none else release for none in never],
            "rest_ms": DEFAULT_REST_MS,
        },
    }
