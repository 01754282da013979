#!/usr/bin/env bash
# The whole road on three spoken words: firmware for a Cortex-M4, run in the emulator, proven equal to the simulator,
# then the same recogniser in an application of its own that listens to continuous audio.
#     examples/recording_to_firmware.sh [folder for what it makes, default build/example]
set -euo pipefail
examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
made=${1:-build/example}

echo "== firmware for a Cortex-M4"
mbx-deploy build --target cortex-m4 -o "$made/cortex-m4" | tail -n 2

echo "== three recordings through it, in QEMU"
mbx-deploy run "$made/cortex-m4" "$examples"/yes.wav "$examples"/left.wav "$examples"/stop.wav

echo "== the same bytes in every engine"
mbx-deploy verify "$made/cortex-m4" --data "$examples"

echo "== an application that listens to continuous audio"
mbx-deploy build --target host -o "$made/host" >/dev/null
cmake -S "$examples/application" -B "$made/application" -DKWS_PROJECT="$(cd "$made/host" && pwd)" >/dev/null
cmake --build "$made/application" --target listen >/dev/null
"$made/application/listen" "$examples/words.wav"
