#!/usr/bin/env bash
# Breaks the cluster's state machine in every way that tests/simulation/mutants.md lists, one after the other, in a scratch
# copy. Fails unless the simulation catches each by an invariant that the list names.
#
# SEEDS  worlds for each mutant (default 10000)
# ONLY   numbers of the mutants to try, as a regular expression (default all)
# MUTANTS_DIR     where the scratch copy is (default a directory in /tmp)
# MUTANTS_TARGET  cargo's target directory (default one beside the copy)
set -euo pipefail
cd "$(dirname "$0")/.."

list=$PWD/tests/simulation/mutants.md
scratch=${MUTANTS_DIR:-${TMPDIR:-/tmp}/pgio-mutants}
export CARGO_TARGET_DIR=${MUTANTS_TARGET:-$scratch/target}
export SIMULATION_SEEDS=${SEEDS:-10000} RUST_BACKTRACE=0
mkdir -p "$scratch/tree"
git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$scratch/tree"
cd "$scratch/tree"
# Cargo goes by the times of files: those that an earlier run has left mutated must look new.
find src/cluster/state -name "*.rs" -exec touch {} +

build() {
	"${CARGO:-cargo}" test --locked --profile simulation --test simulation --no-run 2>&1
}

program() {
	sed -n 's/.*(\(.*simulation-[0-9a-f]*\)).*/\1/p' <<<"$1" | tail -1
}

log=$(build) || { echo "$log"; exit 1; }
"$(program "$log")" --exact seeds >/dev/null || { echo 'the machine fails without a mutant'; exit 1; }

failed=0 caught=0
try() { # number, name, invariants, file, old, new
	local text mutated output found
	text=$(cat "$4"; echo .)
	mutated=${text/"$5"/"$6"}
	if [[ $mutated == "$text" ]]; then
		echo "$1. $2: the text to replace is not in $4"
		failed=$((failed + 1))
		return
	fi
	printf '%s' "${mutated%.}" >"$4"
	if ! output=$(build); then
		found='does not compile'
		grep -m1 -A6 '^error' <<<"$output" || true
	elif output=$(timeout 120 "$(program "$output")" --exact seeds --nocapture 2>&1); then
		found='not caught'
	else
		found=$(sed -n 's/.*seed \([0-9]*\) breaks `\([^`]*\)`.*/\2 (seed \1)/p' <<<"$output" | tail -1)
	fi
	printf '%s' "${text%.}" >"$4"
	if [[ -n $found && $3 == *"\`${found%% (*}\`"* ]]; then
		caught=$((caught + 1))
		echo "$1. $2: $found"
	else
		failed=$((failed + 1))
		echo "$1. $2: NOT as listed: ${found:-a crash without a name}; listed: $3"
	fi
}

number='' name='' invariants='' file='' old='' new='' part=text
while IFS= read -r line; do
	case $part:$line in
	text:'## '*)
		number=${line#\#\# } name=${number#*. } number=${number%%. *}
		;;
	text:'Caught by '*)
		invariants=${line#Caught by } file=${invariants##* in } invariants=${invariants% in *} file=${file//\`/}
		;;
	'text:```rust') part=old old='' new='' ;;
	old:=======) part=new ;;
	old:*) old+=${old:+$'\n'}$line ;;
	'new:```')
		part=text
		if [[ $number =~ ^(${ONLY:-.*})$ ]]; then
			try "$number" "$name" "$invariants" "$file" "$old" "$new"
		fi
		;;
	new:*) new+=${new:+$'\n'}$line ;;
	esac
done <"$list"

echo "$caught caught as listed, $failed not"
[[ $failed == 0 && $caught -gt 0 ]]
