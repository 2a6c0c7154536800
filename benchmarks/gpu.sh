#!/usr/bin/env bash
# Ten minutes of a GPU: training of Mask R-CNN R50-FPN at 832x1344 in bfloat16, batches of 8 and 16, batch
# norm trained and frozen, a profile of each, then prediction, kernels and the loader.
#
#     benchmarks/gpu.sh out/gpu
#
# What is slow to compile comes last: a run that is cut off has what was asked first.
set -uo pipefail
out=${1:?give a folder for the reports}
python=${PYTHON:-python}

measure() {
  local name=$1
  shift
  "$python" -m benchmarks.run --no-peers --seconds 3 --json "$out/$name.json" "$@" || echo "$name: failed"
}

for batch in 8 16; do
  for norm in frozen trained; do
    frozen=()
    [ "$norm" = frozen ] && frozen=(--frozen)
    measure "train-$batch-$norm" --spec benchmarks/specs/mask_resnet50.txt --batch "$batch" --bf16 \
      "${frozen[@]}" --suite train,profile --time-limit 100
  done
done
measure rest --size gpu --suite predict,ops,data --time-limit 180
