"""The script that does one run: start the daemons, wait until they listen, run the command on the first node, hand out the results.

The same text serves in the simulated machine and on a host whose own KVM will do; the few differences are arguments."""

import os
import shlex

from common import HERE, NAMES, TREE

PORT = 7700

PROLOGUE = """#!/bin/sh
# Made by ./lab for one run.
export PATH={path} HOME=/root LANG=C TERM=${{TERM:-dumb}}
{exports}
mkdir -p /run/lab /run/tessera "$LAB_OUT"

fail() {{
	echo "lab: $*" >&2
	return 125
}}

# start_daemon NAME INDEX CPUS [JOIN]
start_daemon() {{
	name=$1 index=$2 cpus=$3 join=${{4:-}}
	on "$name" tessera node --name "$name" --listen "10.77.0.$index:{port}" --insecure --lend "{lend}" ${{join:+--join "$join"}} \\
		>"/run/lab/$name.log" 2>&1 </dev/null &
	echo $! >"/run/lab/$name.pid"
}}

# A daemon is up when its port listens: state 0A in the table of its network namespace.
await_daemon() {{
	pid=$(cat "/run/lab/$1.pid")
	until grep -q ':{hexport} 00000000:0000 0A' "/proc/$pid/net/tcp" 2>/dev/null; do
		kill -0 "$pid" 2>/dev/null || {{ fail "the daemon of node $1 died:"; cat "/run/lab/$1.log" >&2; return 125; }}
		sleep 0.01
	done
}}

# await_cluster NAME COUNT: until that node's daemon is linked with all the others.
await_cluster() {{
	tries=0
	until [ "$(on "$1" tessera ls --json 2>/dev/null | grep -cE '"state": "(here|up)"')" = "$2" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 1000 ] || {{ fail "node $1 does not find the others:"; cat /run/lab/*.log >&2; return 125; }}
		sleep 0.05
	done
}}
"""


def exports(plan, extra):
    values = {
        "LAB_SIM": plan.sim,
        "LAB_NODES": " ".join(NAMES[: plan.nodes]),
        "LAB_OUT": "/out",
        "TESSERA_ASSETS": plan.assets,
        "TESSERA_TREE": TREE,
    }
    values.update(plan.env)
    values.update(extra)
    return "\n".join(f"export {k}={shlex.quote(v)}" for k, v in values.items())


def node_cpus(plan, index):
    first = plan.first_cpu + index * plan.cpus_per_node
    return ",".join(str(c) for c in range(first, first + plan.cpus_per_node))


def run_script(plan, extra_exports=None, on_dir="/.lab/bin"):
    """Shell text; the command's output goes wherever the function `deliver` of the caller's epilogue sends it."""
    path = ":".join([plan.build, on_dir, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    text = PROLOGUE.format(path=shlex.quote(path), exports=exports(plan, extra_exports or {}), port=PORT, lend=plan.lend, hexport=f"{PORT:04X}")
    for i in range(plan.nodes):
        text += f"echo {node_cpus(plan, i)} >/run/lab/{NAMES[i]}.cpus\n"
    text += "up() {\n"
    if plan.daemons:
        for i in range(plan.nodes):
            join = f" 10.77.0.1:{PORT}" if i else ""
            text += f"\tstart_daemon {NAMES[i]} {i + 1} {node_cpus(plan, i)}{join}\n\tawait_daemon {NAMES[i]} || return\n"
        if plan.nodes > 1:
            text += "".join(f"\tawait_cluster {n} {plan.nodes} || return\n" for n in NAMES[: plan.nodes])
    text += "\treturn 0\n}\n"
    text += f"cd {shlex.quote(plan.cwd)} 2>/dev/null || cd {shlex.quote(TREE)} || cd /\n"
    return text


INSIDE = """
agent=/.lab/agent
started=$(cut -d' ' -f1 /proc/uptime)
if up 2>/run/lab/up.err; then
	$agent run on A {command}
	status=$?
else
	$agent run sh -c 'cat /run/lab/up.err >&2'
	status=125
fi
{collect}
if [ -n "$(ls -A "$LAB_OUT")" ]; then
	tar -C "$LAB_OUT" -cf - . | $agent send
fi
$agent exit "$status $started $(cut -d' ' -f1 /proc/uptime)"
sleep 1000000
"""


def script_inside(plan):
    """The whole of /.lab/run for a simulated machine."""
    command = " ".join(shlex.quote(w) for w in plan.command)
    collect = 'mkdir -p "$LAB_OUT/nodes" && cp /run/lab/*.log "$LAB_OUT/nodes/" 2>/dev/null' if plan.out else 'rm -rf "$LAB_OUT"/*'
    return run_script(plan) + INSIDE.format(command=command, collect=collect)
