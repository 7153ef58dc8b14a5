"""./demo: one virtual machine out of two hosts, shown to work. Builds, boots, computes, compares, and ends with 'demo: ok' or 'demo: FAILED: why'.

1. A VM of one vCPU and half the memory of each of two nodes, more memory than either lends, boots a stock Debian kernel; each vCPU compresses and checksums
   data of its own; then both fill and verify most of the memory; power off. What the guest computed is compared with what this host computes.
2. The same VM with all vCPUs on one core of one node does the same jobs: what the aggregate is faster than.

The second act (--act 2; both by default): a VM of as many vCPUs and nodes serves web pages with nginx, PHP and MariaDB. A client on the host asks for pages, each of
so many milliseconds of PHP's computation, by a forwarded port, and checks what they say; then the same VM with all vCPUs on one core."""

import argparse
import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

import lemp  # noqa: E402
import report  # noqa: E402
from stage import APPEND, NAMES, PLAIN, SPREAD, Failed, Progress, alone, build, in_lab, on_signal, run_quietly  # noqa: E402

TOLD = {
    "start": "the VM is being made", "memory": "the guest's user space is up", "ready warm": "the jobs' programs and data are where they run",
    "ready boot": "CPUs and memory are shown", "ready jobs": "the jobs are done", "ready fill": "memory is filled and verified", "end": "the guest powers off",
}


def make_data(folder, cpus, room):
    """Distinct real text for each vCPU, as much for each: the project's own sources, dealt out in turns."""
    names = sorted(glob.glob(os.path.join(TREE, "src/*/*.[ch]")) + glob.glob(os.path.join(TREE, "tests/*/*.[ch]")))
    paths = [os.path.join(folder, f"data.{cpu}") for cpu in range(cpus)]
    for cpu, path in enumerate(paths):
        with open(path, "wb") as out:
            for name in names[cpu::cpus]:
                with open(name, "rb") as f:
                    out.write(f.read())
    size = min(room, *map(os.path.getsize, paths))
    for path in paths:
        os.truncate(path, size)


def expected_sum(busybox, folder, name, rounds):
    """What the guest's work() computes, here."""
    with open(os.path.join(folder, name), "rb") as f:
        data = rounds * f.read()
    packed = subprocess.run([busybox, "gzip", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return hashlib.sha256(f"{hashlib.sha256(packed).hexdigest()}  {name}.gz\n".encode()).hexdigest()


def make_initrd(options, progress, folder):
    """The guest's user land plus the demo's job. Returns what its jobs must compute."""
    assets = run_quietly(progress, "fetching the guest's kernel and user land, once", [os.path.join(TREE, "tools/lab/guest-assets")])[0]
    tool = os.path.join(folder, "guest-tool")
    run_quietly(progress, "making the guest's initrd", ["gcc", "-O2", "-s", "-static", "-pthread", "-D_GNU_SOURCE", "-o", tool, os.path.join(HERE, "guest-tool.c")])
    make_data(folder, options.nodes, options.data)
    argv = [os.path.join(TREE, "tools/lab/guest-initrd"), "-o", os.path.join(folder, "initrd.gz"), "--job", os.path.join(HERE, "guest-job"), "--add", tool]
    for cpu in range(options.nodes):
        argv += ["--add", f"{folder}/data.{cpu}:demo/data.{cpu}"]
    run_quietly(progress, "adding the jobs and their data", argv)
    return [expected_sum(os.path.join(assets, "busybox"), folder, f"data.{cpu}", options.rounds) for cpu in range(options.nodes)]


def vms(options):
    """The VMs to run, one after the other: (name, title, place, parameters of the guest's job)."""
    spread = ",".join(f"{n}:1:{options.memory}M" for n in NAMES[: options.nodes])
    packed = f"A:{options.nodes}:{options.memory}M" + "".join(f",{n}:0:{options.memory}M" for n in NAMES[1 : options.nodes])
    return [("spread", "one vCPU a node", spread, f"demo.rounds={options.rounds} demo.fill={options.fill}"),
            ("packed", "all on one core", packed, f"demo.rounds={options.rounds}")]


def script(options, folder, plan):
    """What runs on node A."""
    append = PLAIN if options.plain else (SPREAD if options.nodes > 1 else "") + APPEND
    lines = [f"{HERE}/on-node {name} {folder}/initrd.gz '{append} {parameters} {options.append}' {place} || exit" for name, _, place, parameters in plan]
    return "set -u\n" + "\n".join(lines)


def follow(lines, progress, titles):
    """Tell what the lab says in words."""
    for line in lines:
        name, _, said = line.rstrip("\n").partition(": ")
        if name not in titles:
            print(line, end="", file=sys.stderr)
            continue
        title, what = titles[name], TOLD.get(said, TOLD.get(said.split()[0])) if said else None
        if what:
            progress.say(f"{title}: {what}")
        elif said and not said.startswith("ready"):
            progress.say(f"{title}: guest: {said}")


def run_lab(options, progress, folder, out, plan):
    argv = [os.path.join(TREE, "lab"), "--nodes", str(options.nodes), "--build", options.build, "--lend", f"cpus={max(options.nodes, 2)},memory={options.lend}M"]
    argv += ["--mips", str(options.mips), "--timeout", str(options.timeout), "--out", out, "--share", folder, "--share", HERE] + (["--sim", options.sim] if options.sim else [])
    argv += [f"--env={name}=1" for name, wanted in (("DEMO_VERBOSE", options.verbose), ("DEMO_HOTTEST", options.hottest)) if wanted] + ["--", "sh", "-c", script(options, folder, plan)]
    progress.say("starting the lab")
    return in_lab(argv, lambda lab: follow(lab, progress, {name: title for name, title, _, _ in plan}))


def run_vms(options, progress, plan):
    """Build, boot and run them. Returns the folder of what they left behind, what their jobs must compute, and the lab's exit status."""
    build(options, progress)
    with alone(options, "demo"):
        return run_vms_alone(options, progress, plan)


def run_vms_alone(options, progress, plan):
    folder = os.path.join(options.build, "demo")
    out = os.path.join(folder, "out")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(out)
    sums = make_initrd(options, progress, folder)
    status = run_lab(options, progress, folder, out, plan)
    progress.say("done")
    return out, sums, status


def first_act(options, progress):
    out, sums, status = run_vms(options, progress, vms(options))
    spread, packed = (report.Run(os.path.join(out, name)) for name in ("spread", "packed"))
    expected = {"cpus": options.nodes, "sums": sums, "lend_bytes": options.lend << 20, "nodes": list(NAMES[: options.nodes]), "fill": options.fill > 0}
    if options.json:
        print(json.dumps(report.figures(spread, packed), indent=1))
    else:
        print(report.table(spread, packed, options.nodes))
    wrong = report.judge(spread, packed, expected)
    if wrong or status:
        raise Failed("; ".join(wrong or [f"./lab ended with {status}"]))


def second_act(options, progress):
    """Pages from an aggregate."""
    runs, wrong = lemp.run_vms(options, progress, [(options.page, options.pages)])
    if options.json:
        print(json.dumps(lemp.figures(runs), indent=1))
    else:
        print(lemp.table(runs))
    gain = lemp.speed_up(runs, options.page)
    if not wrong and options.nodes > 1 and gain <= 1:
        wrong = [f"spreading the vCPUs gained nothing ({gain:.2f} x)"]
    if wrong:
        raise Failed("; ".join(wrong))


def parse(argv):
    """Also for ./bench, which runs the same VMs."""
    p = argparse.ArgumentParser(prog="./demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--act", type=int, choices=[1, 2], help="only this act")
    p.add_argument("--nodes", type=int, default=2, metavar="N", help="nodes, and vCPUs (default 2)")
    p.add_argument("--memory", type=int, default=112, metavar="MIB", help="of the VM from each node (default 112)")
    p.add_argument("--lend", type=int, default=160, metavar="MIB", help="what each node lends (default 160)")
    p.add_argument("--fill", type=int, default=80, metavar="PERCENT", help="of the guest's free memory to fill and verify; 0: none (default 80)")
    p.add_argument("--rounds", type=int, default=16, metavar="N", help="how often the data of each job is repeated (default 16)")
    p.add_argument("--mips", type=int, default=2000, metavar="N", help="million instructions a second of a simulated CPU (default 2000; doc/lab.md)")
    p.add_argument("--data", type=int, default=500_000, metavar="BYTES", help="most data of each job (default 500000)")
    p.add_argument("--page", type=int, default=250, metavar="MS", help="of PHP's computation for a page of the second act (default 250)")
    p.add_argument("--pages", type=int, default=8, metavar="N", help="to ask for (default 8)")
    p.add_argument("--append", default="", metavar="TEXT", help="more for the guest kernel's command line")
    p.add_argument("--plain", action="store_true", help="give the guest's kernel no options but those, Tessera's own and two that make runs comparable")
    p.add_argument("--sim", choices=["bochs", "tcg", "host"], help="as in ./lab")
    p.add_argument("--timeout", type=float, default=1500, metavar="SECONDS", help="for both VMs of an act (default 1500)")
    p.add_argument("--build", default=os.path.join(TREE, "build"), metavar="DIR", help="build directory (default build)")
    p.add_argument("--json", action="store_true", help="figures as JSON instead of the table")
    p.add_argument("--verbose", action="store_true", help="show the guests' whole consoles")
    p.add_argument("--hottest", action="store_true", help="have the guest name the pages that most remote faults of its boot fell on")
    options = p.parse_args(argv)
    options.build = os.path.abspath(options.build)
    return options


def main():
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    progress = Progress()
    try:
        for number, act in ((1, first_act), (2, second_act)):
            if options.act in (None, number):
                act(options, progress)
        print("demo: ok")
        return 0
    except (Failed, OSError, subprocess.SubprocessError, ValueError, KeyError, IndexError) as e:
        print(f"demo: FAILED: {e if isinstance(e, Failed) else repr(e)}")
        return 1
    finally:
        progress.done.set()


if __name__ == "__main__":
    sys.exit(main())
