#!/usr/bin/env bash
# Everything that needs a GPU, in parts of under 9 minutes: bash tests/gpu/run.sh [PART...]
# tests, lists (neighbour lists), model (MD and training steps), symmetry (ECSE), and water, hea, mno,
# which train the packaged models on from their weights; their data are looked for in POINTEDGE_DATA.
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

device=${DEVICE:-cuda}
learn=(python3 -c "from pointedge.calculators.cli import main; main()" train --device "$device")
eight_minutes=(optimization.max_hours=${HOURS:-0.13} optimization.max_epochs=100000)

parts=${*:-tests lists model symmetry water hea mno}
declare -A status
for part in $parts; do
    case $part in
        tests) command=(python3 -m pytest tests/gpu -q -p no:cacheprovider) ;;
        lists) command=(python3 tests/benchmarks/neighbor_lists.py --device "$device"
                        --sizes 192 1536 12288 98304 --json "$out/lists.json") ;;
        model) command=(python3 -m tests.benchmarks.steps --device "$device"
                        --sizes 192 1536 12288 --json "$out/steps.json") ;;
        symmetry) command=(python3 -m tests.benchmarks.symmetry --device "$device"
                           --layers pet-water-o3 --json "$out/symmetry.json") ;;
        water) command=("${learn[@]}" --output "$out/pet-water" examples/train/water-3.yaml
                        start_from=pet-water optimization.batch_size=4 "${eight_minutes[@]}") ;;
        hea) fragments=examples/train/hea-fragments.xyz  # without them hills come back between two atoms
             [ -f $fragments ] || python3 -m pointedge.data.generate_hea_fragments $fragments
             command=("${learn[@]}" --output "$out/pet-hea" examples/train/hea-grown.yaml
                      optimization.batch_atoms=432 "${eight_minutes[@]}") ;;
        mno) command=("${learn[@]}" --output "$out/pet-mno" examples/train/mno.yaml
                      start_from=pet-mno "${eight_minutes[@]}") ;;
        *) echo "unknown part $part, see the head of $0" >&2; exit 2 ;;
    esac
    echo "== $part"
    timeout 530 "${command[@]}" 2>&1 | tee "$out/$part.log"
    status[$part]=${PIPESTATUS[0]}
done
echo "== summary"
for part in $parts; do
    printf '%-8s exit %-4s %s\n' "$part" "${status[$part]}" "$(tail -n 1 "$out/$part.log")"
done
