"""./bench: the measurements that this project holds itself to, as a table or as JSON. Every figure is a ratio within one run, so that machines need not
be compared; where a figure has a target the table says whether it is met. Exit status: 0 measured (whatever came out), 1 something did not run.

  fault   what a remote fault costs, beside what it cannot be faster than (two to four fragments on this machine, no guest)
  jobs    one vCPU a node against all vCPUs on one core, independent CPU-bound jobs (the demo's VMs, two nodes; four with --four)
  boot    a two-node VM's boot, with the kernel options that Tessera gives by itself, against a one-node VM's, its remote faults, and what lies in the
          pages that most of them fell on
  lemp    web pages a second from nginx, PHP and MariaDB, one vCPU a node against the same vCPUs on one core, over how long a page computes; drawn to
          the file of --svg as well. Some ten minutes where nodes are simulated and nothing else runs
  disk    fio on disks of the vCPU's own node and of another, remote faults a request, and QEMU's virtio-blk on one node (disk.py here)
  net     iperf3 from the vCPU of the network card's node and from another, and QEMU's virtio-net on one node (net.py here)"""

import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TREE, "tools", "demo"))

import curve  # noqa: E402
import demo  # noqa: E402
import disk  # noqa: E402
import lemp  # noqa: E402
import net  # noqa: E402
import report  # noqa: E402

PARTS = ("fault", "jobs", "boot", "lemp", "disk", "net")
LENGTHS = [(25, 24), (40, 20), (250, 10), (500, 8)]  # of pages, in ms of computation, and how many; two for each worker at a time
PAGES_TARGET, PAGES_TARGET_MS = 1.8, 250


class Figure:
    """One line: a value, in what, and the target it is held to ('<=' or '>=' a number), if any."""

    def __init__(self, part, name, value, unit="", target=None, note=""):
        self.part, self.name, self.value, self.unit, self.target, self.note = part, name, value, unit, target, note

    def met(self):
        if self.target is None or self.value is None:
            return None
        relation, bound = self.target.split()
        return self.value <= float(bound) if relation == "<=" else self.value >= float(bound)

    def document(self):
        d = {"part": self.part, "name": self.name, "value": self.value, "unit": self.unit, "target": self.target, "met": self.met(), "note": self.note}
        return {k: v for k, v in d.items() if v not in (None, "")}

    def row(self):
        value = "?" if self.value is None else f"{self.value:.2f}" if isinstance(self.value, float) else str(self.value)
        verdict = {None: "", True: "met", False: "MISSED"}[self.met()]
        return [self.name, f"{value} {self.unit}".strip(), self.target or "", verdict, self.note]


def table(figures):
    rows = [["figure", "value", "target", "", ""]] + [f.row() for f in figures]
    wide = [max(len(r[i]) for r in rows) for i in range(4)]
    return "\n".join(f"{r[0]:<{wide[0]}}  {r[1]:>{wide[1]}}  {r[2]:<{wide[2]}}  {r[3]:<{wide[3]}}  {r[4]}".rstrip() for r in rows)


def measure_fault(options, progress):
    """build/tests/bench/bench_fault, which measures the floor in the same run."""
    progress.say("remote faults, without a guest")
    program = os.path.join(options.build, "tests/bench/bench_fault")
    r = subprocess.run([program, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if r.returncode:
        raise demo.Failed(f"bench_fault ended with {r.returncode}" + (": no userfaultfd here" if r.returncode == 77 else ""))
    found = json.loads(r.stdout)
    rows = {row["name"]: row for row in found["rows"] if row["p50_us"]}
    floor = found["floor_us"]
    yield Figure("fault", "floor: TCP round trip + local fault, p50", floor, "us")
    yield Figure("fault", "remote read, p50 over floor", rows["remote read"]["p50_us"] / floor, "x", "<= 1.5", f"p50 {rows['remote read']['p50_us']:.1f} us")
    for name in ("remote write", "remote upgrade", "recall by the home, read", "upgrade that invalidates 3", "ping-pong, a turn of two"):
        yield Figure("fault", name + ", p50 over floor", rows[name]["p50_us"] / floor, "x", None, f"p50 {rows[name]['p50_us']:.1f} us, p99 {rows[name]['p99_us']:.1f} us")
    trip = found["pages_per_trip"]
    yield Figure("fault", "sequential read, pages a round trip", trip, "", ">= 3")


def run_vms(options, progress, plan, *words):
    given = demo.parse(["--build", options.build, "--timeout", str(options.timeout), *(["--sim", options.sim] if options.sim else []),
                        *(["--verbose"] if options.verbose else []), *words])
    out, sums, status = demo.run_vms(given, progress, plan(given))
    runs = {name: report.Run(os.path.join(out, name)) for name, _, _, _ in plan(given)}
    wrong = [w for name, r in runs.items() for w in report.judge_run(name, r, {"sums": sums if r.jobs() else [], "cpus": given.nodes})]
    if status or wrong:
        raise demo.Failed("; ".join(wrong or [f"./lab ended with {status}"]))
    return runs, out


def measure_jobs(options, progress, nodes, target):
    progress.say(f"independent jobs on {nodes} nodes")
    # Long jobs, for which the memory of one node suffices. More nodes have less data each, from a text of one size: rounds make up for that.
    size = ["--memory", "112", "--lend", "160", "--rounds", "28"] if nodes == 2 else ["--memory", "64", "--lend", "96", "--rounds", "24"]
    runs, _ = run_vms(options, progress, demo.vms, "--nodes", str(nodes), "--fill", "0", *size)
    gain = report.speed_up(runs["spread"], runs["packed"])
    spread = runs["spread"]
    yield Figure("jobs", f"{nodes} nodes over overcommitment", gain, "x", target, f"{spread.jobs_s():.2f} s against {runs['packed'].jobs_s():.2f} s")
    for what, key in [*((f"remote {k} faults", f"fault.{k}.count") for k in report.KINDS), ("interrupts between nodes", "bus.irqs_sent")]:
        yield Figure("jobs", f"  {what} meanwhile, all nodes", spread.count(key, "jobs") - spread.count(key, "warm"))


def boot_plan(options):
    both = [("two", "one vCPU a node", "A:1:{0}M,B:1:{0}M"), ("one", "two vCPUs on one node", "A:2:{1}M")]
    return [(name, title, place.format(options.memory, 2 * options.memory), "demo.rounds=0") for name, title, place in both]


def measure_boot(options, progress):
    progress.say("boot on two nodes and on one")
    runs, out = run_vms(options, progress, boot_plan, "--memory", "112", "--lend", "256", "--append", options.append, "--plain", "--hottest")
    two, one = runs["two"], runs["one"]
    yield Figure("boot", "two-node boot over one-node boot", two.boot_s() / one.boot_s(), "x", "<= 2.5", f"{two.boot_s():.1f} s against {one.boot_s():.1f} s")
    for kind in report.KINDS:
        yield Figure("boot", f"remote {kind} faults of a boot", two.count(f"fault.{kind}.count"), "", None,
                     f"p50 {two.latency_us(kind, 'p50'):.0f} us, p99 {two.latency_us(kind, 'p99'):.0f} us")
    yield Figure("boot", "interrupts between nodes", two.count("bus.irqs_sent"))
    pages = {int(v[0], 16): v[1] for v in two.all("page")}
    names = report.page_names(os.path.join(out, "kallsyms"), pages, two.areas())
    for page, kind in pages.items():
        yield Figure("boot", f"  hot page {page:#x}", two.count(f"hot.gfn.{page:#x}"), "faults", None, f"{kind} {', '.join(names.get(page, [])[:8])}".strip())


def measure_lemp(options, progress):
    progress.say("web pages on two nodes and on one core")
    given = demo.parse(["--build", options.build, "--timeout", str(options.timeout), "--mips", str(options.mips), "--append", options.append,
                        *(["--sim", options.sim] if options.sim else []), *(["--verbose"] if options.verbose else [])])
    lengths = [(ms, count) for ms, count in LENGTHS if not options.page or ms in options.page]
    runs, wrong = lemp.run_vms(given, progress, lengths)
    if wrong:
        raise demo.Failed("; ".join(wrong))
    spread, packed = runs["spread"].pages, runs["packed"].pages
    for ms, count in lengths:
        a, b = spread[ms], packed[ms]
        yield Figure("lemp", f"pages of {ms} ms, two nodes over one core", lemp.speed_up(runs, ms), "x", f">= {PAGES_TARGET}" if ms >= PAGES_TARGET_MS else None,
                     f"{a['requests_s']:.2f} a second against {b['requests_s']:.2f}; {count} pages each")
        yield Figure("lemp", "  remote faults a page, all nodes", a["remote_faults"] / count, "", None, f"{a['irqs_sent'] / count:.0f} interrupts between nodes")
    if len(lengths) > 1:
        rates = [[(ms, pages[ms]["requests_s"]) for ms, _ in lengths] for pages in (spread, packed)]
        note = f"nginx, PHP and MariaDB in one VM on two nodes of the lab, {options.mips} million instructions a second" if given.sim != "host" else "nginx, PHP and MariaDB in one VM on two nodes"
        with open(options.svg, "w", encoding="utf-8") as f:
            f.write(curve.svg(*rates, PAGES_TARGET, PAGES_TARGET_MS, note))
        progress.say(f"the curve is in {os.path.relpath(options.svg)}")


def measure(options, progress):
    parts = options.parts or PARTS
    if "fault" in parts:
        subprocess.run(["ninja", "-C", options.build, "tests/bench/bench_fault"], stdout=subprocess.DEVNULL, check=True)
        yield from measure_fault(options, progress)
    if "boot" in parts:
        yield from measure_boot(options, progress)
    if "lemp" in parts:
        yield from measure_lemp(options, progress)
    if "disk" in parts:
        yield from disk.measure(options, progress, Figure)
    if "net" in parts:
        yield from net.measure(options, progress, Figure)
    if "jobs" in parts:
        yield from measure_jobs(options, progress, 2, ">= 1.9")
        if options.four:
            yield from measure_jobs(options, progress, 4, ">= 3.7")


def parse():
    p = argparse.ArgumentParser(prog="./bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("parts", nargs="*", metavar="PART", help="fault, jobs, boot, lemp, disk, net (default: all)")
    p.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    p.add_argument("--four", action="store_true", help="jobs on four nodes too: slow where nodes are simulated")
    p.add_argument("--append", default="", metavar="TEXT", help="more for the guest kernel's command line, to see what an option does to a boot or to pages")
    p.add_argument("--page", type=int, action="append", choices=[ms for ms, _ in LENGTHS], help="lemp: only pages of so many ms. Repeatable")
    p.add_argument("--mips", type=int, default=2000, metavar="N", help="lemp: million instructions a second of a simulated CPU (default 2000)")
    p.add_argument("--svg", metavar="FILE", help="lemp: where to draw the curve (default lemp.svg in the build directory)")
    p.add_argument("--scale", type=int, default=100, metavar="PERCENT", help="disk, net: shorter or longer runs (default 100)")
    p.add_argument("--in-memory", action="store_true", help="disk: on two nodes also on a disk in memory")
    p.add_argument("--sim", choices=["bochs", "tcg", "host"], help="as in ./lab")
    p.add_argument("--timeout", type=float, default=1800, metavar="SECONDS", help="for each set of VMs (default 1800)")
    p.add_argument("--build", default=os.path.join(TREE, "build"), metavar="DIR", help="build directory (default build)")
    p.add_argument("--verbose", action="store_true", help="show the guests' whole consoles")
    options = p.parse_args()
    if set(options.parts) - set(PARTS):
        p.error("parts are: " + ", ".join(PARTS))
    options.build = os.path.abspath(options.build)
    options.svg = options.svg or os.path.join(options.build, "lemp.svg")
    return options


def main():
    options = parse()
    for s in (demo.signal.SIGINT, demo.signal.SIGTERM):
        demo.signal.signal(s, demo.on_signal)
    progress, figures, why = demo.Progress("bench"), [], None
    try:
        demo.build(options, progress)
        for figure in measure(options, progress):
            figures.append(figure)
    except (demo.Failed, OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as e:
        why = str(e) if isinstance(e, demo.Failed) else repr(e)
    finally:
        progress.done.set()
    if options.json:
        print(json.dumps({"figures": [f.document() for f in figures], **({"error": why} if why else {})}, indent=1))
    else:
        print(table(figures))
        if why:
            print(f"bench: FAILED: {why}")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
