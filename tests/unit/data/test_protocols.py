"""The tasks by name, and which clips are unknown and silence."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mbx_deploy.data.corpus import Utterance
from mbx_deploy.data.dataset import LABELS, load_protocol
from mbx_deploy.data.protocols import PROTOCOLS, UNKNOWN_SEED, choose_unknown, find_protocol
from mbx_deploy.errors import InputError


def test_protocols() -> None:
    assert {p.name: len(p.labels) for p in PROTOCOLS} == {"12": 12, "30": 30, "35": 35, "kws10": 10}
    assert find_protocol("12").labels[-2:] == ("unknown", "silence")
    assert set(find_protocol("30").labels) < set(find_protocol("35").labels)
    assert find_protocol("kws10").labels == LABELS
    assert find_protocol("12").training_keys()["unknown_ratio"] == 1.0
    for protocol in PROTOCOLS:
        assert len(set(protocol.labels)) == len(protocol.labels)
    with pytest.raises(InputError, match="one of 12, 30, 35, kws10"):
        find_protocol("11")


@pytest.mark.slow  # imports torch
def test_a_protocol_is_a_training_configuration() -> None:
    from mbx_deploy.train.config import TrainConfig

    for protocol in PROTOCOLS:
        config = TrainConfig.from_dict(protocol.training_keys())
        assert (config.labels, config.unknown_ratio) == (protocol.labels, protocol.unknown_ratio)


def some_utterances(others: int) -> list[Utterance]:
    clips = [("yes", n) for n in range(20)] + [("no", n) for n in range(10)] + [("cat", n) for n in range(others)]
    return [Utterance(Path(f"{w}/{n}"), f"{w}/{n}", w, None, "testing") for w, n in clips]


def test_unknown_is_chosen_by_a_seed() -> None:
    labels = ("yes", "no", "unknown")
    clips = some_utterances(100)
    chosen = choose_unknown(clips, labels, 1.0)
    assert [u.label for u in chosen].count("cat") == 15
    assert [u for u in clips if u in chosen] == list(chosen)
    assert choose_unknown(reversed(clips), labels, 1.0) == chosen[::-1]
    assert choose_unknown(clips, labels, 1.0, UNKNOWN_SEED + 1) != chosen
    # With a tenth more to choose from, most stay.
    more = choose_unknown(some_utterances(110), labels, 1.0)
    assert len(set(more) & set(chosen)) >= 40
    assert choose_unknown(clips, labels, None) == tuple(clips)
    assert len(choose_unknown(clips, ("yes", "no"), 1.0)) == 30
    assert len(choose_unknown(clips, labels, 100.0)) == 130


def test_a_protocol_in_memory(tmp_path: Path) -> None:
    # Of the hash rule's three splits; yes and cat have more for testing.
    for word in (*find_protocol("12").words, "cat"):
        for speaker in ("004ae714", "026290a7", "0c40e715", *(("s2", "s14") if word in ("yes", "cat") else ())):
            path = tmp_path / word / f"{speaker}_nohash_0.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, np.ones(8000, np.int16), 16000, subtype="PCM_16")
    words = tmp_path
    training, testing, again = (
        load_protocol(words, split, find_protocol("12"), progress=False) for split in ("training", "testing", "testing")
    )
    assert len(training.indices_of("unknown")) == 1  # all: an epoch draws from them
    # Ten words with 12 clips: one unknown and one silence, of three other clips.
    assert [len(testing.indices_of(label)) for label in ("yes", "off", "unknown", "silence")] == [3, 1, 1, 1]
    assert testing.names == again.names
    np.testing.assert_array_equal(testing.samples, again.samples)


@pytest.mark.slow
def test_the_real_data_by_protocol(speech_commands: Path) -> None:
    split = load_protocol(speech_commands, "testing", find_protocol("12"), progress=False)
    counts = {label: len(split.indices_of(label)) for label in split.labels}
    words = sum(counts[word] for word in find_protocol("12").words)
    assert counts["unknown"] == counts["silence"] == round(words / 10)
