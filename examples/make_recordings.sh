#!/usr/bin/env bash
# Makes the recordings of this folder anew: words that espeak-ng speaks, brought to 16 kHz mono by sox.
#     apt-get install espeak-ng sox && examples/make_recordings.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

quiet() { sox -D -n -r 16000 -c 1 -b 16 "$temporary/quiet-$1.wav" trim 0 "$1"; }
quiet 0.2
quiet 1

for word in yes left stop; do
    espeak-ng -v en-us -s 140 -w "$temporary/$word.wav" "$word"
    # -D: no dither, so that the same espeak-ng gives the same bytes
    sox -D "$temporary/$word.wav" -r 16000 -c 1 -b 16 "$temporary/$word-16k.wav" gain -n -6
    sox -D "$temporary/quiet-0.2.wav" "$temporary/$word-16k.wav" "$temporary/quiet-1.wav" "$word.wav" trim 0 1
done

# Continuous audio for the application: the three words with a second of silence around them.
pause=$temporary/quiet-1.wav
sox -D "$pause" yes.wav "$pause" left.wav "$pause" stop.wav "$pause" words.wav
