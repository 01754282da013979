"""A stream against its window over long recordings, byte for byte: the C of steps, and the C of windows.

    python benchmarks/stream_hour.py MODEL FOLDER [MOST_SECONDS]

MODEL is a streaming .tflite or a shipped model's name. At each decision its logits are compared with those of the
same file, compiled as a window, on the last rows of features; in front of the first row is digital silence.
"""

import sys
from pathlib import Path

import numpy as np

from mbx_deploy.compiler.model import load_model, parse_model
from mbx_deploy.data.audio import read_recording
from mbx_deploy.data.tracks import find_recordings
from mbx_deploy.engines.c import HostEngine
from mbx_deploy.engines.session import ITEM_FEATURES, ITEM_STREAM, TRACE_STAGES, Item
from mbx_deploy.engines.sim import rows_windows
from mbx_deploy.system.resources import resolve_model

PIECE_SECONDS = 60
WINDOWS_A_RUN = 200


def main(model_path: str, folder: Path, most_seconds: float) -> int:
    """Compare, print, and return how many decisions differ."""
    path = resolve_model(model_path)
    model = load_model(path)
    if model.streaming is None:
        sys.exit(f"error: the model does not stream ({path})")
    window = HostEngine(parse_model(path.read_bytes(), "window", network_only=True))
    stream = HostEngine(model)
    rate = model.config.sample_rate_hz
    seconds, decisions, different = 0.0, 0, 0
    for recording in find_recordings(folder):
        samples = read_recording(recording.path, rate).samples
        # A piece begins a stream anew: its start, from silence, is compared as well.
        for start in range(0, len(samples), PIECE_SECONDS * rate):
            piece = samples[start : start + PIECE_SECONDS * rate]
            results = stream.run([Item(ITEM_STREAM, piece)], TRACE_STAGES)[0]
            if not results:
                continue
            rows = np.concatenate([result.stages["features"].reshape(-1, model.config.n_mfcc) for result in results])
            windows = rows_windows(rows, model.streaming)
            assert len(windows) == len(results), (len(windows), len(results))
            told = np.stack([result.logits for result in results])
            found = []
            for first in range(0, len(windows), WINDOWS_A_RUN):
                items = [Item(ITEM_FEATURES, one.ravel()) for one in windows[first : first + WINDOWS_A_RUN]]
                found += [answer[0].logits for answer in window.run(items)]
            different += int((told != np.stack(found)).any(axis=1).sum())
            decisions += len(results)
            seconds += len(piece) / rate
            print(f"\r{seconds:.0f} s, {decisions} decisions, {different} differ", end="", file=sys.stderr, flush=True)
            if seconds >= most_seconds:
                break
        if seconds >= most_seconds:
            break
    print(file=sys.stderr)
    print(f"{seconds / 3600:.3f} hours, {decisions} decisions of {len(model.labels)} logits: {different} differ")
    return different


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else float("inf"))))
