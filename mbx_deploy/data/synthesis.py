"""Words spoken by espeak-ng, as other words to train on: never a command, nor a word that sounds like one.

Every English voice and every variant of it that espeak-ng has, pitch and speed drawn; which word gets which follows
from the seed.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mbx_deploy.data.audio import fit_clip, read_recording
from mbx_deploy.data.dataset import CLIP_SAMPLES
from mbx_deploy.data.negatives import WordSource
from mbx_deploy.data.recordings import SAMPLE_RATE_HZ
from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError, read_document
from mbx_deploy.system.files import check_folder, replace_folder
from mbx_deploy.system.scratch import scratch_folder
from mbx_deploy.system.tools import need_tool, run_tool

WORD_LIST = Path(__file__).with_name("common_words.txt")
# Sound alike: as many phonemes changed, added or left out, at most.
LIKE_DISTANCE = 1
_PITCH = (15, 90)  # espeak-ng's scale of 0 to 99
_WORDS_A_MINUTE = (110, 210)
_ACCENTS = ("en-us", "en-gb")  # in which likeness is judged
_THREADS = 2
# Variants that are no voice that a microphone meets.
_ODD_VARIANTS = re.compile(r"whisper|robo|Robot|Demonic|croak|klatt6|fast|Tweaky|Storm")
_STRESS = re.compile(r"[',%=:;|]+")


@dataclass(frozen=True)
class Synthesis:
    """What was spoken. refused: the words that were left out, and the command that each of them sounds like."""

    words: int
    clips: int
    voices: int
    refused: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return dict(vars(self))


def read_words(source: str) -> tuple[str, ...]:
    """Return the words of a file, one a line ("#" begins a comment), or of a list with commas between them.

    Raises InputError where there are none, or one is no word.
    """
    path = Path(source)
    if path.is_file():
        try:
            lines = read_document(path).decode("utf-8").splitlines()
        except (DocumentError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the list of words ({path}): {error}") from None
        found = [line.split("#")[0].strip().lower() for line in lines]
    elif "/" in source or source.endswith(".txt"):
        raise InputError(f"no such list of words: got {source}, need a file with a word a line")
    else:
        found = [word.strip().lower() for word in source.split(",")]
    words = tuple(dict.fromkeys(word for word in found if word))
    for word in words:
        if not re.fullmatch(r"[a-z][a-z']{0,29}", word):
            raise InputError(f"not a word ({source:.60}): got {word!r:.40}, need English letters only")
    if not words:
        raise InputError(f"no words: got {source!r:.60}, need at least one")
    return words


def synthesize(
    words: Sequence[str],
    folder: Path,
    commands: Sequence[str],
    *,
    clips: int = 4,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Synthesis:
    """Write folder/<word>/<voice>_<n>.flac, `clips` of each word, whole or not at all, and return what was spoken.

    commands: which words, and what sounds like them, are refused. Raises InputError where no word is left or the folder
    is taken, ToolMissing without espeak-ng.
    """
    tool = need_tool("espeak-ng", "to speak words")
    folder = Path(folder)
    check_folder(folder)
    refused = like_commands(words, commands)
    kept = [word for word in words if word not in refused]
    if not kept:
        raise InputError(f"no word is left to speak: all {len(words)} sound like a command", "give other words")
    voices = english_voices()
    jobs = [(word, number) for word in kept for number in range(clips)]

    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            for done, (name, samples) in enumerate(pool.map(lambda job: _say(tool, voices, seed, *job), jobs), start=1):
                path = scratch / name
                path.parent.mkdir(exist_ok=True)
                soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
                if progress:
                    progress(done, len(jobs))
        replace_folder(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Synthesis(len(kept), len(jobs), len(voices), refused)


def speak_some(commands: Sequence[str], count: int, seed: int) -> WordSource:
    """Return one clip each of so many words of the shipped list, drawn by the seed: other words for who has none.

    Raises ToolMissing without espeak-ng.
    """
    tool = need_tool("espeak-ng", "to speak other words")
    words = read_words(str(WORD_LIST))
    drawn = [words[n] for n in np.random.default_rng(seed).permutation(len(words))[: 2 * count]]
    refused = like_commands(drawn, commands)
    kept = [word for word in drawn if word not in refused][:count]
    voices = english_voices()
    with ThreadPoolExecutor(_THREADS) as pool:
        spoken = pool.map(lambda word: _say(tool, voices, seed, word, 0)[1], kept)
        clips = [fit_clip(samples, CLIP_SAMPLES) for samples in spoken]
    return WordSource("synthetic", np.stack(clips), tuple(kept))


def _say(tool: str, voices: Sequence[str], seed: int, word: str, number: int) -> tuple[str, np.ndarray]:
    """Return a clip's name and its samples, int16 (n,); its voice, pitch and speed follow from seed, word, number."""
    rng = np.random.default_rng([seed, number, *word.encode()])
    voice = voices[int(rng.integers(len(voices)))]
    return f"{word}/{_file_name(voice)}_{number}.flac", _speak(tool, word, voice, rng)


def english_voices() -> tuple[str, ...]:
    """Return espeak-ng's English voices, each with each of its variants, as its -v takes them; sorted."""
    accents = sorted({row[1] for row in _voice_table("en") if row[-1].startswith("gmw/")})
    variants = sorted({row[-1].removeprefix("!v/") for row in _voice_table("variant")})
    usable = [name for name in variants if not _ODD_VARIANTS.search(name)]
    return tuple(f"{accent}+{variant}" for accent in accents for variant in usable)


def like_commands(words: Sequence[str], commands: Sequence[str]) -> dict[str, str]:
    """Return {word: command} of the words that are a command or sound like one, by espeak-ng's phonemes, in either
    accent: LIKE_DISTANCE of them differ at most.
    """
    refused: dict[str, str] = {}
    for accent in _ACCENTS:
        spoken = phonemes([*words, *commands], accent)
        for word, own in zip(words, spoken, strict=False):
            for command, other in zip(commands, spoken[len(words) :], strict=True):
                if word == command or edit_distance(own, other) <= LIKE_DISTANCE:
                    refused.setdefault(word, command)
    return {word: refused[word] for word in words if word in refused}


def phonemes(words: Sequence[str], accent: str) -> list[tuple[str, ...]]:
    """Return the phonemes of each word as espeak-ng speaks it in an accent, without stress."""
    tool = need_tool("espeak-ng", "to compare how words sound")
    # A blank line between words: without it they are one sentence.
    text = "\n\n".join(words) + "\n"
    with scratch_folder() as folder:
        (folder / "words.txt").write_text(text, encoding="utf-8")
        output = run_tool([tool, "-q", "-x", "--sep=_", "-v", accent, "-f", str(folder / "words.txt")]).stdout
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if len(lines) != len(words):
        raise InputError(f"espeak-ng gave phonemes of {len(lines)} words: got {len(words)} words, need as many")
    return [tuple(p for p in _STRESS.sub("", line).replace(" ", "_").split("_") if p) for line in lines]


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many items must be changed, added or left out to make one of the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def _voice_table(language: str) -> list[list[str]]:
    tool = need_tool("espeak-ng", "to speak words")
    lines = run_tool([tool, f"--voices={language}"]).stdout.splitlines()[1:]
    # Priority, language, age/gender, name, file, other languages; names of files may hold spaces.
    rows = [re.match(r"\s*\d+\s+(\S+)\s+(\S+)\s+(\S+)\s+(.+?)\s*(?:\(.*)?$", line) for line in lines]
    return [["", m[1], m[2], m[3], m[4]] for m in rows if m]


def _speak(tool: str, word: str, voice: str, rng: np.random.Generator) -> np.ndarray:
    """Return a word as a voice speaks it, int16 (n,) at SAMPLE_RATE_HZ."""
    pitch, speed = int(rng.integers(*_PITCH)), int(rng.integers(*_WORDS_A_MINUTE))
    with scratch_folder() as scratch:
        path = Path(scratch) / "word.wav"
        run_tool([tool, "-v", voice, "-p", str(pitch), "-s", str(speed), "-w", str(path), word])
        return read_recording(path, SAMPLE_RATE_HZ).samples


def _file_name(voice: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", voice)
