#!/bin/sh
# What the scripts that judge guests inside the lab share; sourced by the *_cases.sh of this folder, from where they lie.
# A case is a function case_NAME. It leaves the guest's console in $tmp/log and its exit code in $code, and notes what is not as it should be.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
why='' took='' code=0 client=''

# note WHY: the case has failed; the first reason is the one that counts.
note() { [ -n "$why" ] || why=$1; }
says() { grep -qE -- "$1" "$tmp/log" || note "does not say '$1'"; }
never_says() { ! grep -qiE -- "$1" "$tmp/log" || note "says '$(grep -iE -m1 -- "$1" "$tmp/log")'"; }
exits() { [ "$code" = "$1" ] || note "exit code $code, expected $1"; }

# until_true WHAT CMD...: a shell has no better way to hear of it.
until_true() {
	wanted=$1 tries=0
	shift
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 2400 ] || { note "$wanted did not come about"; return; }
		sleep 0.05
	done
}

said() { grep -qE -- "$1" "$tmp/log" || ! kill -0 "$client" 2>/dev/null; }

# await PATTERN: until the console of the guest that $client runs says so.
await() {
	until_true "'$1' on the console" said "$1"
	says "$1"
}

# judge CASE...: prints 'ok CASE' (with $took), or 'FAIL CASE: why' with the last lines of the console and of the daemons' logs, for each.
# Returns 1 if any failed.
judge() {
	failed=0
	for name in "$@"; do
		why='' took=''
		if command -v "case_$name" >/dev/null; then "case_$name"; else note 'there is no such case'; fi
		if [ -z "$why" ]; then
			echo "ok $name$took"
			continue
		fi
		failed=1
		echo "FAIL $name: $why${took:+ ($took )}"
		tail -n 40 "$tmp/log" | sed 's/^/    /'
		for n in $LAB_NODES; do
			[ ! -e "/run/lab/$n.log" ] || tail -n 15 "/run/lab/$n.log" | sed "s/^/    $n: /"
		done
	done
	return $failed
}
