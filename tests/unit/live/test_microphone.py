"""The microphone's source, with a stand-in for PortAudio: what waits while a person reads is dropped."""

import sys
import types

import numpy as np
import pytest

from mbx_deploy.live import sources


class _Stream:
    def __init__(self, rate: int, block: int, device: object, **options: object) -> None:
        self.hear = options["callback"]

    def __enter__(self) -> "_Stream":
        for value in (1, 2, 3):
            self.say(value)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, value: int) -> None:
        status = types.SimpleNamespace(input_overflow=False)
        self.hear(np.full(800, value, np.int16).tobytes(), 800, None, status)  # type: ignore[operator]


def test_what_waits_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[_Stream] = []

    def stream(*arguments: int, **options: object) -> _Stream:
        made.append(_Stream(*arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    sound = types.SimpleNamespace(
        PortAudioError=RuntimeError,
        query_devices=lambda device, kind: {"name": "stand-in", "default_samplerate": 16000.0},
        check_input_settings=lambda *_, **__: None,
        RawInputStream=stream,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    source = sources.MicrophoneSource(None, 16000)
    blocks = source.blocks()
    assert next(blocks).samples[0] == 1
    source.forget()
    made[0].say(9)
    heard = next(blocks)
    assert heard.samples[0] == 9 and heard.lost == 0
