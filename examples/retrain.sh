#!/usr/bin/env bash
# Trains the shipped model anew from its two configurations, and exports it with its model card.
#     examples/retrain.sh SPEECH_COMMANDS [RUNS]
# Stopped, it goes on where it was. The same data, packages and processor give the same weights: compare weights_digest in
# `mbx-deploy models RUNS/kws10.tflite --json` with that of `mbx-deploy models kws10 --json`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${1:?usage: examples/retrain.sh SPEECH_COMMANDS [RUNS]}
runs=${2:-$root/runs}
mbx=$root/.venv/bin/mbx-deploy
[ -x "$mbx" ] || mbx=mbx-deploy
configs=$runs/configs

# The configuration finds its teacher beside the runs.
mkdir -p "$configs"
cp "$root"/examples/configs/kws10_teacher.toml "$configs"
sed "s|^teacher = .*|teacher = \"../kws10-teacher/model.pt\"|" "$root/examples/configs/kws10.toml" >"$configs/kws10.toml"

"$mbx" train --config "$configs/kws10_teacher.toml" --data "$data" -o "$runs/kws10-teacher"
for seed in 1 2 3; do
    "$mbx" train --config "$configs/kws10.toml" --seed "$seed" --data "$data" -o "$runs/kws10-s$seed"
done
echo "choose the seed that is best on the validation list, then, for seed 1:"
echo "$mbx export $runs/kws10-s1/model.pt --data $data -o $runs/kws10.tflite --card" \
    "--seed-run $runs/kws10-s2/model.pt --seed-run $runs/kws10-s3/model.pt"
