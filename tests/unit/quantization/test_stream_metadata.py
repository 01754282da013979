"""What a streaming model's file says of its stream and its decisions is what the compiler reads there."""

from mbx_deploy.compiler.decision import read_decision
from mbx_deploy.quantization.stream_metadata import stream_metadata
from mbx_deploy.sim.decision import NEVER_Q15
from mbx_deploy.train.matchboxnet import MatchboxNetConfig

LABELS = ("go", "unknown", "stop", "silence")


def test_the_decision_is_one_that_the_compiler_reads() -> None:
    config = MatchboxNetConfig(4, streaming=True, input_frames=208)
    found = stream_metadata(config, LABELS, 16000)
    rule = read_decision(found, LABELS, 16000, "x")
    assert rule.is_word == (True, False, True, False)
    assert [level == NEVER_Q15 for level in rule.thresholds_q15] == [False, True, False, True]
    assert (rule.smoothing, rule.rows, rule.rest_samples) == (5, 1, 16000)
    assert 0 < rule.release_q15[0] < rule.thresholds_q15[0] < 32768
    assert found["streaming"] == {"receptive_frames": 109, "pool_frames": 100, "step_frames": 10, "tail_frames": 104}


def test_a_windowed_model_says_nothing_of_it() -> None:
    assert stream_metadata(MatchboxNetConfig(4), LABELS, 16000) == {}
