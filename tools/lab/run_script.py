"""The script that does one run: start the daemons, wait until they listen, run the command on the first node, hand out the results.

The same text serves in the simulated machine and on a host whose own KVM will do; the few differences are arguments."""

import os
import shlex

from common import DISK_BYTES, NAMES, TREE

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

# start_daemon NAME INDEX [JOIN]
start_daemon() {{
	name=$1 index=$2 join=${{3:-}}
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


def exports(plan, out_dir):
    values = {
        "LAB_SIM": plan.sim,
        "LAB_NODES": " ".join(NAMES[: plan.nodes]),
        "LAB_OUT": out_dir,
        "TESSERA_ASSETS": plan.assets,
        "TESSERA_TREE": TREE,
    }
    if plan.disk:
        values["LAB_DISK"] = plan.disk_inside
    values.update(plan.env)
    return "\n".join(f"export {k}={shlex.quote(v)}" for k, v in values.items())


def node_cpus(plan, position):
    """The CPUs of the node that is number `position` on its machine."""
    first = position * plan.cpus_per_node
    return ",".join(str(plan.cpu_list[(first + i) % len(plan.cpu_list)]) for i in range(plan.cpus_per_node))


def run_script(plan, local, out_dir="/out", on_dir="/.lab/bin"):
    """Shell text that brings the nodes with the indices `local` up by the function `up`, and goes to the caller's directory."""
    path = ":".join([plan.build, on_dir, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    text = PROLOGUE.format(path=shlex.quote(path), exports=exports(plan, out_dir), port=PORT, lend=plan.lend, hexport=f"{PORT:04X}")
    if plan.disk and plan.sim != "host":
        device = f"$(tr ' ' '\\n' </proc/cmdline | sed -n 's/^lab.disk=/\\/dev\\//p')"
        text += f"busybox losetup -o {DISK_BYTES - os.path.getsize(plan.disk)} {plan.disk_inside} \"{device}\" || exit 125\n"
    for position, i in enumerate(local):
        text += f"echo {node_cpus(plan, position)} >/run/lab/{NAMES[i]}.cpus\n"
    text += "up() {\n"
    if plan.daemons:
        for i in local:
            join = f" 10.77.0.1:{PORT}" if i else ""
            text += f"\tstart_daemon {NAMES[i]} {i + 1}{join}\n\tawait_daemon {NAMES[i]} || return\n"
        if plan.nodes > 1 and 0 in local:
            text += "".join(f"\tawait_cluster {NAMES[i]} {plan.nodes} || return\n" for i in local)
    text += "\treturn 0\n}\n"
    return text + f"cd {shlex.quote(plan.cwd)} 2>/dev/null || cd {shlex.quote(TREE)} || cd /\n"


def command_of(plan):
    return " ".join(shlex.quote(w) for w in plan.command)


# A machine for one node of several: booted as node A, it takes its own name, addresses and place on the wire that joins the machines.
SEPARATE = """
[ {name} = A ] || ln -s nodeA /run/netns/node{name}
ip -n nodeA link set eth0 address 02:77:00:00:00:{index:02x}
ip -n nodeA addr flush dev eth0
ip -n nodeA addr add 10.77.0.{index}/24 dev eth0
ip link set eth0 master lab0 up
"""

FIRST = """
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

OTHER = """
up 2>/run/lab/up.err || cat /run/lab/up.err >>/run/lab/{name}.log
touch /run/lab/{name}.log
exec /.lab/agent run tail -n +1 -f /run/lab/{name}.log
"""


def script_inside(plan, machine=0):
    """The whole of /.lab/run for a simulated machine: the only one, or one of several."""
    separate = plan.kernels == "separate"
    text = run_script(plan, [machine] if separate else range(plan.nodes))
    if separate:
        text += SEPARATE.format(name=NAMES[machine], index=machine + 1)
    if machine:
        return text + OTHER.format(name=NAMES[machine])
    collect = 'mkdir -p "$LAB_OUT/nodes" && cp /run/lab/*.log "$LAB_OUT/nodes/" 2>/dev/null' if plan.out else 'rm -rf "$LAB_OUT"/*'
    return text + FIRST.format(command=command_of(plan), collect=collect)


# On the host itself: a private mount, network and process namespace holds the bridge and everything else, so that all of it goes when the
# run ends, however it ends.
ON_HOST = """
mount -t tmpfs tmpfs /run && mkdir -p /run/lab /run/netns /run/tessera || exit 125
ip link set lo up
ip link add lab0 type bridge
ip link set lab0 up
"""

HOST_NODE = """ip netns add node{name}
ip link add v{name} type veth peer name eth0 netns node{name}
ip link set v{name} master lab0 up
ip -n node{name} link set lo up
ip -n node{name} addr add 10.77.0.{index}/24 dev eth0
ip -n node{name} link set eth0 up
"""

HOST_RUN = """
up || exit 125
on A {command}
status=$?
{collect}
exit $status
"""


def script_on_host(plan, out_dir, on_dir):
    network = ON_HOST + "".join(HOST_NODE.format(name=NAMES[i], index=i + 1) for i in range(plan.nodes))
    body = run_script(plan, range(plan.nodes), out_dir, on_dir)
    head, rest = body.split("\n", 1)
    collect = 'mkdir -p "$LAB_OUT/nodes" && cp /run/lab/*.log "$LAB_OUT/nodes/" 2>/dev/null' if plan.out else ""
    return f"{head}\n{network}{rest}" + HOST_RUN.format(command=command_of(plan), collect=collect)
