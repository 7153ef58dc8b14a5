"""The web guest: nginx, PHP and MariaDB in one VM (tools/lemp), asked for pages from the host. Run by ./demo (its second act) and by ./bench lemp.

'spread' has one vCPU a node and a PHP worker on each, 'packed' the same vCPUs on one core of one node, with all memory there. How many steps page.php computes in a
millisecond is measured once, in the first VM with nothing else to do; a page of N ms is N times as many, the same work for both."""

import json
import os
import re
import shutil
import sys

import stage

TOOLS = os.path.join(stage.TREE, "tools", "lemp")
MEMORY_MIB = 160  # of the VM from each node
SAID = re.compile(r"pages (\d+) (\d+) pages, ([0-9.]+) requests/s, ([0-9.]+) s, ([0-9.]+) ms, ([0-9.]+) ms, ([0-9 ]+) by each worker")
TOLD = {"start": "the VM is being made", "guest address": "the guest's user space is up", "start pages": "MariaDB, PHP and nginx run", "first page": "the first page came",
        "guest end": "the guest powers off"}


class Run:
    """One VM's life, from the files that tools/lemp/on-node wrote."""

    def __init__(self, folder):
        self.folder = folder
        self.said = [line.split(" ", 1)[1] for line in self.text("log").splitlines() if " " in line]
        self.pages = {}  # ms -> figures
        for found in filter(None, map(SAID.fullmatch, self.said)):
            ms, count, rate, elapsed, p50, longest, each = found.groups()
            self.pages[int(ms)] = {"pages": int(count), "requests_s": float(rate), "elapsed_s": float(elapsed), "p50_ms": float(p50), "max_ms": float(longest),
                                   "by_worker": [int(n) for n in each.split()]}
        for ms, one in self.pages.items():
            for key, pattern in (("remote_faults", r"fault\.(read|write|upgrade)\.count"), ("irqs_sent", r"bus\.irqs_sent")):
                one[key] = self.count(f"{ms}.after", pattern) - self.count(f"{ms}.before", pattern)

    def text(self, name):
        try:
            with open(os.path.join(self.folder, name), encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def count(self, name, pattern):
        """What the counters of these names add up to, over all nodes."""
        nodes = json.loads(self.text(name) or "{}").get("nodes", {})
        return sum(value for node in nodes.values() for key, value in node.items() if re.fullmatch(pattern, key))

    def nodes(self):
        """Where each vCPU was: names in the vCPUs' order."""
        parts = json.loads(self.text("info") or "{}").get("parts", [])
        return [node for _, node in sorted((vcpu, part["node"]) for part in parts for vcpu in part["vcpus"])]

    def wrong(self, name, lengths, nodes):
        """What is not as it should be: list of text. nodes: where each vCPU was to be."""
        failed = [line for line in self.said if line.startswith(("failed", "guest failed"))]
        found = [f"{name}: {failed[0]}"] if failed else []
        status = self.text("status").strip()
        if status != "0":
            found.append(f"{name}: tessera run ended with {status or 'nothing'}: {self.text('errors').strip()}")
        if not failed and "guest complaints 0" not in self.said:
            found.append(f"{name}: the guest's kernel complained, or did not get so far: see its console")
        if not failed and self.nodes() != nodes:
            found.append(f"{name}: vCPUs were on {', '.join(self.nodes()) or 'no node'}, not on {', '.join(nodes)}")
        for ms, count in lengths:
            one = self.pages.get(ms)
            if not one or one["pages"] != count:
                found.append(f"{name}: not {count} pages of {ms} ms came")
            elif len(one["by_worker"]) != len(nodes) or min(one["by_worker"]) < 2:
                found.append(f"{name}: not every worker did two pages of {ms} ms: {one['by_worker']}")
        return found


def vms(options):
    """(name, title, place, kernel's options)"""
    nodes, whole = options.nodes, options.nodes * MEMORY_MIB
    append = (stage.SPREAD if nodes > 1 else "") + stage.APPEND
    return [("spread", "one vCPU a node", ",".join(f"{n}:1:{MEMORY_MIB}M" for n in stage.NAMES[:nodes]), append),
            ("packed", "all on one core", f"A:{nodes}:{whole}M", append)]


def script(options, folder, disks, lengths):
    """What runs on node A."""
    work = " ".join(f"{ms}:{count}" for ms, count in lengths)
    steps = {"spread": "-", "packed": '"$(cat $LAB_OUT/steps)"'}
    lines = [f"{TOOLS}/on-node {name} {folder} {disks} '{append} {options.append}' {place} {options.nodes} {steps[name]} {work} || exit"
             for name, _, place, append in vms(options)]
    return "set -u\n" + "\n".join(lines)


def follow(lines, progress, titles):
    """Tell what the lab says in words."""
    for line in lines:
        name, _, said = line.rstrip("\n").partition(": ")
        if name not in titles:
            print(line, end="", file=sys.stderr)
            continue
        found = SAID.fullmatch(said)
        what = f"{found[2]} pages of {found[1]} ms, {found[3]} a second" if found else TOLD.get(" ".join(said.split()[:2]))
        if what or said.startswith(("failed", "guest failed", "|")):
            progress.say(f"{titles[name]}: {what or said}")


def make(progress, folder):
    """What the VMs are made of: load and initrd in `folder`; returns where the disks are."""
    disks = stage.run_quietly(progress, "making the disks of the web guest, once", [os.path.join(TOOLS, "make-disks")])[0]
    stage.run_quietly(progress, "fetching the guest's kernel and user land, once", [os.path.join(stage.TREE, "tools/lab/guest-assets")])
    stage.run_quietly(progress, "building the client", ["gcc", "-O2", "-s", "-static", "-D_GNU_SOURCE", "-o", os.path.join(folder, "load"), os.path.join(TOOLS, "load.c")])
    packed = os.path.join(folder, "initrd.gz")
    stage.run_quietly(progress, "making the guest's initrd", [os.path.join(stage.TREE, "tools/lab/guest-initrd"), "-o", packed, "--job", os.path.join(TOOLS, "guest-job")])
    stage.run_quietly(progress, "unpacking it, which is simulated too", ["gzip", "-d", packed])
    return disks


def run_lab(options, progress, folder, out, lengths):
    disks = make(progress, folder)
    lend = f"cpus={options.nodes},memory={options.nodes * MEMORY_MIB}M"
    argv = [os.path.join(stage.TREE, "lab"), "--nodes", str(options.nodes), "--build", options.build, "--lend", lend, "--mips", str(options.mips)]
    argv += ["--timeout", str(options.timeout), "--out", out, "--with", "passt", "--share", folder, "--share", disks, "--share", TOOLS]
    argv += (["--sim", options.sim] if options.sim else []) + (["--env=DEMO_VERBOSE=1"] if options.verbose else [])
    progress.say("starting the lab")
    return stage.in_lab(argv + ["--", "sh", "-c", script(options, folder, disks, lengths)],
                        lambda lab: follow(lab, progress, {name: title for name, title, _, _ in vms(options)}))


def run_vms(options, progress, lengths):
    """Build, boot both, and ask for pages: lengths is a list of (ms, pages). Returns ({name: Run}, what was wrong)."""
    stage.build(options, progress)
    with stage.alone(options, f"lemp{options.nodes}"):
        folder = os.path.join(options.build, f"lemp{options.nodes}")
        out = os.path.join(folder, "out")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(out)
        status = run_lab(options, progress, folder, out, lengths)
        runs = {name: Run(os.path.join(out, name)) for name, _, _, _ in vms(options)}
    nodes = {"spread": list(stage.NAMES[: options.nodes]), "packed": ["A"] * options.nodes}
    wrong = [w for name, run in runs.items() for w in run.wrong(name, lengths, nodes[name])]
    return runs, wrong or ([f"./lab ended with {status}"] if status else [])


def speed_up(runs, ms):
    spread, packed = (runs[name].pages.get(ms) for name in ("spread", "packed"))
    return spread["requests_s"] / packed["requests_s"] if spread and packed else None


def table(runs):
    rows = [["page of", "spread", "overcommitted", "speed-up", "remote faults a page"]]
    for ms, one in sorted(runs["spread"].pages.items()):
        other, gain = runs["packed"].pages.get(ms), speed_up(runs, ms)
        rows.append([f"{ms} ms", f"{one['requests_s']:.2f}/s", f"{other['requests_s']:.2f}/s" if other else "?", f"{gain:.2f} x" if gain else "?",
                     f"{one['remote_faults'] / one['pages']:.0f}"])
    wide = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("  ".join(f"{cell:>{wide[i]}}" for i, cell in enumerate(row)) for row in rows)


def figures(runs):
    """The same as a document."""
    lengths = sorted(runs["spread"].pages)
    return {"lengths_ms": lengths, "speed_up": {str(ms): speed_up(runs, ms) for ms in lengths}, **{name: {str(ms): one for ms, one in run.pages.items()} for name, run in runs.items()}}
