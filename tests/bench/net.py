"""./bench net: Debian's iperf3 in guests of the lab, TCP to and from the node that the network card's link is on, in one run of one lab (tests/bench/on-net):

1. One node, one vCPU: QEMU's virtio-net-pci, then Tessera's card, same kernel, initrd and backend (passt, a tap interface in a bridge; vhost off).
2. Two nodes, one vCPU each: from the vCPU that has the link on its node, then from the other.
A rate is the median of three runs: passt waits for a timer now and then. Each node has two CPUs: hosts have more than their guests use. Times are those of the simulated machine
(doc/lab.md)."""

import json
import os
import shutil
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TREE, "tools", "demo"))

import demo  # noqa: E402

BACKENDS = (("user", "passt"), ("tap", "tap"))
WAYS = (("up", "guest sends"), ("down", "guest receives"))
FIRMWARE = ("qboot.rom", "pvh.bin", "kvmvapic.bin")
KINDS = ("read", "write", "upgrade")


def make_initrd(folder):
    path = os.path.join(folder, "initrd")
    tool = [os.path.join(TREE, "tools/lab/guest-initrd"), "-o", path + ".gz", "--job", os.path.join(TREE, "tests/guest/net_job.sh"), "--with", "iperf3"]
    subprocess.run(tool, check=True)
    with open(path, "wb") as out:  # unpacking is simulated too
        subprocess.run(["gzip", "-dc", path + ".gz"], stdout=out, check=True)
    os.unlink(path + ".gz")
    return path


def specs():
    """VMs as on-net takes them."""
    for backend, _ in BACKENDS:
        yield f"qemu-{backend}/qemu//{backend}/0"
        yield f"one-{backend}/tessera/A:1/{backend}/0"
        yield f"two-{backend}/tessera/A:1,B:1/{backend}/0,1"


def run_lab(options, progress, folder):
    """Returns ({(vm, cpu, way): kbit/s}, folder of counters)."""
    out = os.path.join(folder, "out")
    argv = [os.path.join(TREE, "lab"), "--nodes", "2", "--build", options.build, "--cpus-per-node", "2", "--lend", "cpus=2,memory=320M", "--mips", "2000",
            "--timeout", str(options.timeout), "--out", out, "--share", folder, "--with", "qemu-system-x86_64", "--with", "iperf3", "--with", "passt"]
    argv += [w for f in FIRMWARE for w in ("--share", f"/usr/share/qemu/{f}")] + (["--sim", options.sim] if options.sim else [])
    argv += ["--", os.path.join(HERE, "on-net"), make_initrd(folder), f"{8 * options.scale // 100}M", *specs()]
    rate = {}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True) as lab:
        try:
            for line in lab.stdout:
                words = line.split()
                if words[:1] == ["net:"] and len(words) == 5:
                    rate.setdefault((words[1], int(words[2]), words[3]), []).append(float(words[4]))
                    progress.say(f"{words[1]}: vCPU {words[2]} {words[3]}: {float(words[4]) / 1000:.0f} Mbit/s")
                elif options.verbose:
                    print(line, end="", file=sys.stderr)
        except BaseException:
            lab.send_signal(demo.signal.SIGINT)
            raise
        finally:
            lab.wait()
    if lab.returncode:
        raise demo.Failed(f"./lab ended with {lab.returncode} (see {out})")
    return {key: statistics.median(values) for key, values in rate.items()}, out


def count(folder, vm, phase, *keys):
    """Over all nodes."""
    with open(os.path.join(folder, f"{vm}.{phase}"), encoding="utf-8") as f:
        nodes = json.load(f)["nodes"]
    return sum(counters.get(key, 0) for counters in nodes.values() for key in keys)


def compare(figure, rate, title, better, worse, target):
    """(vm, cpu, word) of both."""
    for way, what in WAYS:
        x, y = rate[better[0], better[1], way], rate[worse[0], worse[1], way]
        yield figure("net", f"{title}, {what}", y / x, "x", target, f"{y / 1000:.0f} Mbit/s {worse[2]}, {x / 1000:.0f} {better[2]}")


def counters(figure, folder, vm):
    for cpu in (0, 1):
        for (way, what), begin, end in zip(WAYS, ("before", "between"), ("between", "after")):
            faults, waits, frames = (count(folder, vm, f"{cpu}.{end}", *keys) - count(folder, vm, f"{cpu}.{begin}", *keys) for keys in (
                [f"fault.{k}.count" for k in KINDS], ["queue.waits"], [f"vnet.0.{d}{i}.frames" for d in ("rx", "tx") for i in (0, 1)]))
            yield figure("net", f"  {vm}, vCPU {cpu}, {what}: remote faults a frame", faults / max(1, frames), "", None, f"{frames} frames, {waits} waits of servers")


def measure(options, progress, figure):
    demo.build(options, progress)
    folder = os.path.join(options.build, "bench-net")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    progress.say("iperf3 in guests")
    rate, out = run_lab(options, progress, folder)
    missing = [spec for spec in specs() for cpu in spec.split("/")[4].split(",") for way, _ in WAYS if (spec.split("/")[0], int(cpu), way) not in rate]
    if missing:
        raise demo.Failed(f"iperf3 said nothing in {', '.join(missing)} (see {out})")
    for backend, name in BACKENDS:
        yield from compare(figure, rate, f"{name}: Tessera over QEMU, one node", (f"qemu-{backend}", 0, "QEMU"), (f"one-{backend}", 0, "Tessera"), ">= 0.9")
        yield from compare(figure, rate, f"{name}: far vCPU over near vCPU", (f"two-{backend}", 0, "near"), (f"two-{backend}", 1, "far"), ">= 0.8")
        yield from counters(figure, out, f"two-{backend}")
