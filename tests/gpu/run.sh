#!/usr/bin/env bash
# Everything that needs a GPU, in parts of under 9 minutes: bash tests/gpu/run.sh [tests|lists|model]
# Results go to $OUT (default: gpu-results); a short table is printed last.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-gpu-results}
mkdir -p "$out"
if ! python3 -c "import pointedge.potentials" 2>/dev/null; then  # run from the checkout
    mkdir -p /tmp/pointedge-src/pointedge
    for folder in potentials calculators data; do
        ln -sfn "$PWD/$folder" "/tmp/pointedge-src/pointedge/$folder"
    done
    export PYTHONPATH="/tmp/pointedge-src${PYTHONPATH:+:$PYTHONPATH}"
fi

parts=${*:-tests lists model}
declare -A status
for part in $parts; do
    case $part in
        tests) command=(python3 -m pytest tests/gpu -q -p no:cacheprovider) ;;
        lists) command=(python3 tests/benchmarks/neighbor_lists.py --device cuda
                        --sizes 192 1536 12288 98304 --json "$out/lists.json") ;;
        model) command=(python3 tests/benchmarks/steps.py --device cuda
                        --sizes 192 1536 12288 --json "$out/steps.json") ;;
        *) echo "unknown part $part: tests, lists or model" >&2; exit 2 ;;
    esac
    echo "== $part"
    timeout 530 "${command[@]}" 2>&1 | tee "$out/$part.log"
    status[$part]=${PIPESTATUS[0]}
done
echo "== summary"
for part in $parts; do
    printf '%-8s exit %-4s %s\n' "$part" "${status[$part]}" "$(tail -n 1 "$out/$part.log")"
done
