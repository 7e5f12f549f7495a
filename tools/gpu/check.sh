#!/usr/bin/env bash
# Everything that a first day on a GPU needs, in under ten minutes, as one Markdown file.
#
#     tools/gpu/check.sh                                   # writes gpu-check.md
#     MTLBENCH_REAL=FOLDER tools/gpu/check.sh              # times the real samples too: FOLDER/celeba-10k, FOLDER/zappos-8k
#     tools/gpu/check.sh --device cpu --tiny               # tries the script itself, without a GPU
#
#     --device D     cuda (default), cuda:1, cpu
#     --out FILE     the Markdown file
#     --real FOLDER  instead of MTLBENCH_REAL
#     --seconds N    for everything together, 590 by default; each part has its share, and what is left is left out
#     --tiny         one method, one step, small images
#
# The package need not be installed: the checkout is put on PYTHONPATH. PYTHON names the interpreter, which must have the
# dependencies of pyproject.toml; the first part says which of them are missing. A part that fails or takes too long is
# reported, and the next one runs. Exit code 1 if a part failed.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3} device=cuda out=$PWD/gpu-check.md real=${MTLBENCH_REAL:-} tiny='' total=590
usage() { sed -n '2,/^set/p' "$0" | sed '$d;s/^# \{0,1\}//'; }
while [ $# -gt 0 ]; do
    case $1 in
    --tiny) tiny=yes ;;
    --help | -h) usage; exit 0 ;;
    --device | --out | --real | --seconds)
        [ $# -gt 1 ] || { echo "error: $1 needs a value; see --help." >&2; exit 2; }
        case $1 in --device) device=$2 ;; --out) out=$(realpath -m "$2") ;; --real) real=$2 ;; --seconds) total=$2 ;; esac
        shift ;;
    *) echo "error: there is no option $1; see --help." >&2; exit 2 ;;
    esac
    shift
done
[[ $total =~ ^[0-9]+$ ]] || { echo "error: --seconds $total is no whole number." >&2; exit 2; }
[ -z "$real" ] || [ -d "$real" ] || { echo "error: --real $real is no folder." >&2; exit 2; }
: >"$out" || { echo "error: $out can't be written; give another --out." >&2; exit 2; }
[ -z "$real" ] || real=$(realpath "$real")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" MTLBENCH_CACHE="$scratch/cache" MTLBENCH_DATA="$scratch/data"
export COLUMNS=160 PYTHONUNBUFFERED=1 TORCH_CPP_LOG_LEVEL=ERROR
unset MTLBENCH_PLUGINS
cd "$scratch" || exit 2
begun=$SECONDS failed=0
mtlbench=("$python" -m mtlbench)
short=(--device "$device" --yes --set evaluation.triplets=200 --results "$scratch/results")
methods=all core=core steps=20 many=3 size18=112 size_paper=150 images=600 rounds=3 resume_steps=400
if [ -n "$tiny" ]; then
    methods=shared,gradnorm core=shared steps=1 many=1 size18=32 size_paper=150 images=120 rounds=1 resume_steps=40
fi

# part LIMIT TITLE COMMAND…: run it for at most LIMIT seconds, and put what it prints under its title.
part() {
    local limit=$1 title=$2 left=$((total - (SECONDS - begun))) from=$SECONDS code=0 said
    shift 2
    [ -z "$tiny" ] || limit=$((4 * limit)) # where there is no GPU, the machine may be slow
    echo "== $title" >&2
    if [ "$left" -lt 5 ]; then
        printf '\n## %s\n\nLEFT OUT: no time was left.\n' "$title" >>"$out"
        failed=1
        return
    fi
    [ "$limit" -le "$left" ] || limit=$left
    # INT first: mtlbench keeps what is done; what goes on after 15 seconds more is ended
    timeout --signal=INT --kill-after=15 "$limit" "$@" >"$scratch/said" 2>&1 </dev/null || code=$?
    case $code in
    0) said=ok ;;
    124 | 130 | 137) said="STOPPED after its $limit seconds" failed=1 ;;
    *) said="FAILED, exit code $code" failed=1 ;;
    esac
    {
        printf '\n## %s\n\n%s, %d s\n\n```\n' "$title" "$said" $((SECONDS - from))
        tail -n 250 "$scratch/said" | sed 's/```/"""/; s/[[:space:]]*$//'
        printf '```\n'
    } >>"$out"
    echo "   $said" >&2
}

printf '# mtlbench on %s, %s\n' "$device" "$(date -u +%Y-%m-%dT%H:%MZ)" >>"$out"
[ -z "$tiny" ] || printf '\nThe settings are tiny: this tries the script, and says nothing of speed.\n' >>"$out"

part 60 "The machine" "$python" "$root/tools/gpu/machine.py" "$device" "$root"
part 120 "Tests marked gpu" "$python" -m pytest -q -p no:cacheprovider -m gpu "$root/tests/gpu" --rootdir "$root" -c "$root/pyproject.toml"
part 200 "Every method, ten steps: accuracy means nothing here, memory and throughput do" \
    "${mtlbench[@]}" run --dataset shoes --quick --methods "$methods" "${short[@]}" --notes \
    --set train.steps=10 --set evaluation.every=5 --set "data.rendered.images=$images"
part 60 "An interrupted run goes on" bash "$root/tools/gpu/resume.sh" "$python" "$device" "$resume_steps" "$images"
part 30 "Made-up images in CelebA's layout" "$python" "$root/tools/gpu/made_up.py" "$scratch/celeba" "$images"
four=Smiling,Bald,Male,Young
seven=Smiling,Oval_Face,5_o_Clock_Shadow,Bald,Arched_Eyebrows,Big_Lips,Big_Nose
forty=$(sed -n 2p "$scratch/celeba/list_attr_celeba.txt" 2>/dev/null | tr -s ' ' ',' | sed 's/,$//')
profile() {
    part "$1" "Profile: $2, $3 px, $4 tasks" "${mtlbench[@]}" profile "$core" --dataset celeba --data-dir "$scratch/celeba" \
        --device "$device" --steps "$6" --tasks "$5" --set "model.backbone=$2" --set "data.image_size=$3" \
        --set evaluation.triplets=50 --set "train.triplets=$7"
}
profile 40 resnet18 "$size18" 4 "$four" "$steps" 8
profile 30 paper "$size_paper" 4 "$four" "$steps" 8
profile 30 paper "$size_paper" 7 "$seven" "$steps" 8
[ -n "$tiny" ] || profile 60 paper "$size_paper" 40 "$forty" "$many" 8
if [ -n "$real" ] && [ -d "$real/celeba-10k" ]; then pictures=$real/celeba-10k; else pictures=$scratch/celeba; fi
part 60 "A DataLoader of a plain training script, beside packing and drawing from a pack" \
    "$python" "$root/tools/speed/packing.py" "$pictures" --sizes "$size18" --images 2000 --rounds "$rounds" --scratch "$scratch"
if [ "${device%%:*}" = cuda ]; then
    part 60 "Kernel launches and waits of a step" "$python" "$root/tools/speed/launches.py" --tasks 4 40 --methods shared gradnorm modulation
fi
for sample in celeba-10k zappos-8k; do
    if [ -z "$real" ] || [ ! -d "$real/$sample" ]; then
        printf '\n## The real sample %s\n\nNot there: set MTLBENCH_REAL to a folder that holds it.\n' "$sample" >>"$out"
        continue
    fi
    part 60 "$sample, the quick protocol" "${mtlbench[@]}" run --dataset "${sample%%-*}" --quick --data-dir "$real/$sample" \
        --methods "$core" --device "$device" --yes --results "$scratch/real"
    part 60 "$sample, the full protocol: the plan and its time" "${mtlbench[@]}" run --dataset "${sample%%-*}" \
        --data-dir "$real/$sample" --methods "$core" --device "$device" --results "$scratch/full" --dry-run
done
if [ "${device%%:*}" = cuda ]; then # last: the start alone takes a minute or two
    part 150 "Compiled by torch.compile, with CUDA graphs, beside plain networks" \
        "${mtlbench[@]}" run --dataset shoes --quick --methods shared "${short[@]}" --plain --vary train.compile=off,on --notes \
        --set train.steps=60 --set evaluation.every=60 --set "data.rendered.images=$images" --set name=shoes-compiled
fi
printf '\n%d s in all.\n' $((SECONDS - begun)) >>"$out"
echo "$out" >&2
exit "$failed"
