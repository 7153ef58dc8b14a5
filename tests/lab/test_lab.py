#!/usr/bin/env python3
"""Does ./lab keep what doc/lab.md promises? usage: test_lab.py host|tcg|bochs|separate NODES BUILD

Each test is a function; its name says what must be true. Few runs, much in each: a run in Bochs costs seconds."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SIM, NODES, BUILD = sys.argv[1], int(sys.argv[2]), sys.argv[3]
OPTIONS = ["--nodes", str(NODES), "--no-daemons"] + (["--kernels", "separate"] if SIM == "separate" else ["--sim", SIM])
NAMES = "ABCDEFGHIJKLMNOP"[:NODES]


def lab(command, *options):
    argv = [os.path.join(TREE, "lab"), *OPTIONS, *options, "--", *command]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=TREE, check=False)


def sh(script, *options):
    return lab(["sh", "-c", script], *options)


def same(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


def exit_status_and_output_pass_through():
    r = sh("echo to stdout; echo to stderr >&2; exit 7")
    same((r.returncode, r.stdout), (7, b"to stdout\n"), "status and stdout")
    same(r.stderr.endswith(b"to stderr\n"), True, "stderr at the end of " + repr(r.stderr))


def a_missing_command_is_127_and_a_killed_one_128_plus_signal():
    same(lab(["no-such-command"]).returncode, 127, "status of a missing command")
    same(sh("kill -9 $$").returncode, 128 + 9, "status of a killed command")


def large_output_arrives_whole():
    with tempfile.TemporaryDirectory() as out:
        r = sh("head -c 300000 /dev/urandom | tee $LAB_OUT/copy | od -An -v -tx1; cd $LAB_OUT; mkdir d; head -c 700000 /dev/urandom >d/other; md5sum d/other >sum", "--out", out)
        same(r.returncode, 0, "status " + r.stderr.decode())
        with open(os.path.join(out, "copy"), "rb") as f:
            same(bytes.fromhex(r.stdout.decode()), f.read(), "stdout and the file written beside it")
        with open(os.path.join(out, "d/other"), "rb") as f, open(os.path.join(out, "sum"), encoding="ascii") as s:
            same(hashlib.md5(f.read()).hexdigest(), s.read().split()[0], "checksum made inside")


def the_tree_is_there_and_runs_are_pristine():
    with open(os.path.join(TREE, "lab"), "rb") as f:
        wanted = hashlib.md5(f.read()).hexdigest()
    r = sh(f"md5sum <{TREE}/lab | cut -c1-32; pwd; touch /tmp/trace /var/tmp/trace && ls /tmp /var/tmp | grep -c trace")
    same(r.stdout.decode().split(), [wanted, TREE, "2"], "tree, directory and traces")
    r = sh("ls /tmp /var/tmp | grep -c trace")
    same(r.stdout.strip(), b"0", "traces of an earlier run")


def shares_appear_at_their_own_path():
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "hello"), "w", encoding="ascii") as f:
            f.write("from outside")
        r = lab(["cat", os.path.join(d, "hello")], "--share", d)
        same(r.stdout, b"from outside", "a shared file")


def a_disk_may_be_written_to():
    with tempfile.TemporaryDirectory() as d:
        disk = os.path.join(d, "disk")
        with open(disk, "wb") as f:
            f.truncate(8 << 20)
            f.write(b"from outside")
        work = 'head -c 12 "$LAB_DISK"; printf inside | dd of="$LAB_DISK" bs=1 seek=5 conv=notrunc 2>/dev/null; sync; head -c 12 "$LAB_DISK"; ' \
               'dd if="$LAB_DISK" bs=1M 2>/dev/null | wc -c'
        r = lab(["sh", "-c", work], "--disk", disk)
        same(r.stdout, b"from outsidefrom insidee8388608\n", "what a run sees of its disk")
        with open(disk, "rb") as f:
            same(f.read(12), b"from outside", "the disk that was copied")


def nodes_see_each_other():
    r = sh("for i in $(seq 1 " + str(NODES) + "); do busybox ping -c 1 -W 10 10.77.0.$i >/dev/null && echo $i; done")
    same(r.stdout.decode().split(), [str(i + 1) for i in range(NODES)], "nodes that answered node A")


def each_node_has_its_own_cpus():
    if SIM == "separate":
        return  # each has a machine
    if SIM == "host" and len(os.sched_getaffinity(0)) < NODES:
        return  # they share
    r = sh("for n in $LAB_NODES; do on $n sh -c 'grep Cpus_allowed_list /proc/self/status; hostname -i 2>/dev/null; echo $TESSERA_NODE'; done")
    words = r.stdout.decode().split()
    cpus = [words[i + 1] for i, w in enumerate(words) if w == "Cpus_allowed_list:"]
    same(cpus, [str(i) for i in range(NODES)], "CPUs of the nodes")
    same([w for w in words if w in NAMES], list(NAMES), "names of the nodes")


def kvm_and_userfaultfd_are_there_in_the_right_mode():
    module, parameter, wanted = ("kvm_intel", "eptad", "N") if SIM == "bochs" else ("kvm_amd", "npt", "Y")
    r = sh(f"test -c /dev/kvm && test -c /dev/userfaultfd && cat /sys/module/{module}/parameters/{parameter}")
    same(r.stdout.decode().strip().replace("1", "Y"), wanted, f"{module}.{parameter}")


def the_mended_simulator_keeps_the_facts_that_tessera_stands_on():
    """tools/lab/bochs.patch, parts 1 and 3."""
    if SIM != "bochs":
        return
    for program in ("kick", "uffd_kvm"):
        r = lab([f"{BUILD}/tests/host/host_{program}"], "--timeout", "300")
        same((r.returncode, b" 0 failed, 0 skipped" in r.stdout), (0, True), r.stdout.decode())


def two_jobs_on_two_nodes_take_half_the_time_of_both_on_one():
    """What figures of the lab rest on: an instruction takes as long whatever other CPUs do."""
    if SIM != "bochs":
        return
    job = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    r = sh(f"at() {{ cut -d ' ' -f 1 /proc/uptime; }}; at; {job}; {job}; at; on B sh -c '{job}' & {job}; wait; at")
    start, middle, end = map(float, r.stdout.split())
    same(1.8 < (middle - start) / (end - middle) < 2.1, True, f"about twice as long, of {middle - start:.2f} s after {end - middle:.2f} s")


def a_timeout_is_124():
    same(lab(["sleep", "100000"], "--timeout", "1").returncode, 124, "status after --timeout")


def lab_processes():
    """Every process of this tree's labs, kept or running, except for `sh -c` of this very test."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read()
            if (TREE + "/.lab/runs/").encode() in words or MARK.encode() in words or os.readlink(f"/proc/{pid}/cwd").startswith(TREE + "/.lab/"):
                found.add(pid)
        except OSError:
            pass
    return found


MARK = "98761234"  # seconds that nobody else sleeps


def a_signal_leaves_nothing_behind():
    runs = os.path.join(TREE, ".lab", "runs")
    before, processes = set(os.listdir(runs)), lab_processes()
    argv = [os.path.join(TREE, "lab"), *OPTIONS, "--", "sh", "-c", "echo up; exec sleep " + MARK]
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True) as p:
            same(p.stdout.readline(), b"up\n", "first line")
            p.send_signal(number)
            same(p.wait(), 128 + number, f"status after signal {number}")
    same(set(os.listdir(runs)), before, "run directories")
    deadline = time.monotonic() + 60  # the keeper of a Bochs kills a run when it sees that its client has gone
    while lab_processes() - processes and time.monotonic() < deadline:
        time.sleep(0.1)
    same(lab_processes() - processes, set(), "processes left")


def two_runs_at_once_do_not_disturb_each_other():
    argv = [os.path.join(TREE, "lab"), *OPTIONS, "--", "sh", "-c", "echo $WHO >/tmp/who; sleep 1; cat /tmp/who"]
    running = [subprocess.Popen([argv[0], "--env", f"WHO={w}", *argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for w in ("one", "two")]
    said = [p.communicate()[0].strip() for p in running]
    same(said, [b"one", b"two"], "what each run found")


SIMULATED_ONLY = [
    the_tree_is_there_and_runs_are_pristine,
    shares_appear_at_their_own_path,
    a_disk_may_be_written_to,
    kvm_and_userfaultfd_are_there_in_the_right_mode,
    the_mended_simulator_keeps_the_facts_that_tessera_stands_on,
    two_jobs_on_two_nodes_take_half_the_time_of_both_on_one,
    two_runs_at_once_do_not_disturb_each_other,
]
TESTS = [
    exit_status_and_output_pass_through,
    a_missing_command_is_127_and_a_killed_one_128_plus_signal,
    large_output_arrives_whole,
    the_tree_is_there_and_runs_are_pristine,
    shares_appear_at_their_own_path,
    a_disk_may_be_written_to,
    nodes_see_each_other,
    each_node_has_its_own_cpus,
    kvm_and_userfaultfd_are_there_in_the_right_mode,
    the_mended_simulator_keeps_the_facts_that_tessera_stands_on,
    two_jobs_on_two_nodes_take_half_the_time_of_both_on_one,
    a_timeout_is_124,
    a_signal_leaves_nothing_behind,
    two_runs_at_once_do_not_disturb_each_other,
]


def main():
    needed = {"bochs": "g++", "host": "unshare"}.get(SIM, "qemu-system-x86_64")
    if SIM == "host" and os.geteuid() != 0:
        print("SKIP: nodes on the host itself need root")
        sys.exit(77)
    if not shutil.which(needed):
        print(f"SKIP: {needed} is not installed (tools/install-deps does it)")
        sys.exit(77)
    r = lab(["true"])
    if r.returncode:
        print(f"the lab does not run `true`: {r.returncode}\n{r.stderr.decode()}")
        sys.exit(1)
    failed = 0
    for test in [t for t in TESTS if SIM != "host" or t not in SIMULATED_ONLY]:
        started = time.monotonic()
        try:
            test()
            verdict = "ok"
        except AssertionError as e:
            failed += 1
            verdict = f"FAILED: {e}"
        print(f"{test.__name__} ({time.monotonic() - started:.1f} s): {verdict}", flush=True)
    sys.exit(1 if failed else 0)


main()
