# SPDX-License-Identifier: Apache-2.0
# gpu-check --self-test, in the shell of gpu-check: do the packed programs run on this
# machine, GPU or not? Ends with Check's closing line, so that it is counted. Uses nothing but
# bash and coreutils.

set +e
checks=0 failures=0
report() { # report STATUS NAME [WHY]
    checks=$((checks + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok      $2"
    else
        failures=$((failures + 1))
        echo "FAILED  $2${3:+: $3}"
    fi
}

# Every program finds its libraries, and those that are not glibc's inside the tree.
look_at() {
    local line name path said outside= seen=0
    said=$(LD_TRACE_LOADED_OBJECTS=1 "$1" 2>&1)
    while read -r line; do
        name=${line%% *}
        case $line in
            *"not found"*) outside="$outside $name (not found)" ;;
            *" => "*)
                path=${line#*=> } path=${path% (*}
                case $name in
                    libc.so.*) seen=1 ;;
                    libm.so.* | libdl.so.* | librt.so.* | libpthread.so.*) ;;
                    *) [[ $(realpath "$path") == "$tree"/* ]] ||
                        outside="$outside $name from $path" ;;
                esac ;;
        esac
    done <<<"$said"
    [ -z "$outside" ] && [ $seen -eq 1 ]
    report $? "libraries of ${1#"$tree"/}" "${outside:-$said}"
}

tree=$(realpath "$tree")
vgg=$tree/examples/vgg/vgg
look_at "$vgg"
shopt -s nullglob
tests=("$tree"/tests/*/test-gpu-*)
for program in "${tests[@]}"; do look_at "$program"; done

"$vgg" --version >/dev/null 2>&1
report $? "vgg starts"

devices=$("$vgg" devices 2>&1) || devices="status $?: $devices"
[[ $devices =~ (^|$'\n')"cpu " ]]
report $? "vgg devices lists the processor" "$devices"
if [ -e "$tree/lib/vgg/vgg-cudnn.so" ]; then
    line=
    while read -r word rest; do
        case $word in cuda:0 | cudnn) line="$word $rest" ;; esac
    done <<<"$devices"
    [ -n "$line" ]
    report $? "the plugin lists a GPU or names its reason" "$devices"
    echo "        $line"
    case $line in
        *"not installed"* | *"can't be loaded"* | *"not a plugin"* | *"of one build"*) false ;;
    esac
    report $? "the plugin loads" "$line"
else
    echo "skipped plugin: the pack was made where nvcc is not installed"
fi

# Without a GPU the GPU's tests end at once with status 77 and their reason, and are no passes.
for program in "${tests[@]}"; do
    status=0
    said=$(CK_FORK=no timeout 120 "$program" 2>&1) || status=$?
    why=${said##*$'\n'}
    if [ $status -eq 77 ] && [ -n "$why" ]; then
        echo "skipped ${program##*/}: ${why#skipped: }"
    else
        report $status "${program##*/} passes" "status $status: $(tail -c 400 <<<"$said")"
    fi
done

run=$work/self-test
"$vgg" train --preset quick --steps 3 --device cpu --data "$pack/data" --out "$run" --quiet \
    >"$work/said" 2>&1
report $? "three steps of training" "$(<"$work/said")"
[ -s "$run/last/weights.safetensors" ]
report $? "the training has saved its weights"
said=$("$vgg" bench --preset quick --steps 1 --device cpu --format json 2>&1)
[[ $said == *'"plan": ["device cpu: '* ]]
report $? "vgg bench tells the plan" "$said"

if [ $failures -eq 0 ]; then share=100; else share=$((100 * (checks - failures) / checks)); fi
echo "$share%: Checks: $checks, Failures: $failures, Errors: 0"
[ $failures -eq 0 ]
