#!/usr/bin/env bash
# Trains the shipped streaming model anew: other words are spoken, then three configurations, each from what the one before
# gives, then the export.
#     examples/retrain_kws10s.sh SPEECH_COMMANDS RUNS NEGATIVES...
# NEGATIVES: folders of what is no command, other words (a folder a word) and long recordings; the shipped model's were 250
# clips each of eight, five, one and zero from Speech Commands, and 1.9 hours of speech, music and noise (see its card).
# Stopped, it goes on where it was.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${1:?usage: examples/retrain_kws10s.sh SPEECH_COMMANDS RUNS NEGATIVES...}
runs=${2:?usage: examples/retrain_kws10s.sh SPEECH_COMMANDS RUNS NEGATIVES...}
shift 2
mbx=$root/.venv/bin/mbx-deploy
[ -x "$mbx" ] || mbx=mbx-deploy

mkdir -p "$runs"
runs=$(cd "$runs" && pwd)
[ -d "$runs/words" ] || "$mbx" data synthesize --clips 3 --seed 1 -o "$runs/words"
negatives=(--negatives "$runs/words")
for folder in "$@"; do negatives+=(--negatives "$folder"); done

# The configurations find each other's models, and kws10, beside themselves.
mkdir -p "$runs/configs"
for name in kws10s_start kws10s_middle kws10s; do
    run=$runs/${name//_/-}
    sed -e "s|\"../../runs/|\"$runs/|" -e "s|\"../../mbx_deploy/|\"$root/mbx_deploy/|" \
        "$root/examples/configs/$name.toml" >"$runs/configs/$name.toml"
    "$mbx" train --config "$runs/configs/$name.toml" --data "$data" "${negatives[@]}" -o "$run"
done
"$mbx" export "$runs/kws10s/model.pt" --data "$data" -o "$runs/kws10s.tflite"
echo "decisions: mbx-deploy tune $runs/kws10s.tflite --positives DIR --negatives DIR"
