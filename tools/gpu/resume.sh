#!/usr/bin/env bash
# Stop a run after its first checkpoint, let the same command go on, and compare with a run that nobody stopped.
# Usage: resume.sh PYTHON DEVICE STEPS IMAGES; works in the folder where it is started, and leaves `straight`, `stopped`.
set -euo pipefail
python=$1 device=$2 steps=$3 images=$4
settings=(--dataset shoes --quick --methods shared --device "$device" --yes --set "train.steps=$steps" --set evaluation.every=10
    --set evaluation.triplets=200 --set "data.rendered.images=$images")
"$python" -m mtlbench run "${settings[@]}" --results straight >/dev/null
"$python" -m mtlbench run "${settings[@]}" --results stopped >first.txt 2>&1 &
run=$!
for _ in $(seq 1200); do
    if compgen -G "stopped/*/shared/*/*state-*.safetensors" >/dev/null || compgen -G "stopped/*/shared/*/*/state-*.safetensors" >/dev/null; then
        break
    fi
    kill -0 "$run" 2>/dev/null || break
    sleep 0.05
done
kill -INT "$run" 2>/dev/null || true
code=0
wait "$run" || code=$?
if [ "$code" != 130 ]; then
    echo "the run was over before it could be stopped (exit code $code): nothing is shown of going on"
    exit 1
fi
"$python" -m mtlbench run "${settings[@]}" --results stopped
"$python" - <<'PY'
import sys
from pathlib import Path

from safetensors.numpy import load_file

ours, theirs = (next(Path(name).rglob("weights.safetensors")) for name in ("stopped", "straight"))
a, b = load_file(ours), load_file(theirs)
gap = max(float(abs(a[name] - b[name]).max()) for name in a)
print(f"largest difference of a weight from the run that nobody stopped: {gap:.3g}")
sys.exit(gap > 1e-2)
PY
