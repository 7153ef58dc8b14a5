"""What one demo run left behind, read, judged and printed. No part of it runs anything, so tests can hand it broken results."""

import json
import os

CACHE_BYTES = 64 << 20  # of other nodes' pages, that a fragment may hold at most (README)
OVERHEAD_BYTES = 48 << 20  # a fragment's own: program, tables, buffers
KERNEL_BASE = 0xFFFFFFFF80000000  # where the kernel maps physical address 0
AREA_BYTES = 2 << 20  # a CPU's own area and its alignment, where pages are 4 KiB and there are few CPUs (mm/percpu.c)
KINDS = ("read", "write", "upgrade")
STATE, UTIME, STIME, PROCESSOR = 3, 14, 15, 39  # fields of /proc/PID/task/TID/stat


def lines_of(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return [line.split() for line in f if line.strip()]
    except FileNotFoundError:
        return []


def document(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def named(page, symbols):
    """Names of what reaches into this page ("+") and of what begins there."""
    if not symbols or symbols[-1][0] >> 12 < page:
        return []
    inside = [(at, name) for at, name in symbols if at >> 12 == page]
    before = [name + "+" for at, name in symbols if at < page << 12][-1:]
    names = ([] if inside and inside[0][0] == page << 12 else before) + [name for _, name in inside]
    return [name for name in names if "." not in name and not name.startswith("__key")] or names  # without what compilers name


def page_names(path, pages, areas):
    """What the kernel has in these pages of guest memory: page number -> names. From /proc/kallsyms of a kernel at its default address (nokaslr), whose
    symbols are of the kernel's image, or, with small addresses, of every CPU's own area. areas: CPU -> number of its area's first page."""
    symbols = sorted((int(words[0], 16), words[2]) for words in lines_of(path))
    image = [(at - KERNEL_BASE, name) for at, name in symbols if at >= KERNEL_BASE]
    own = [(at, name) for at, name in symbols if at < AREA_BYTES]
    found = {page: named(page, image) for page in pages}
    for cpu, first in areas.items():
        found.update({page: [f"CPU {cpu}'s {name}" for name in named(page - first, own) or ["allocations"]] for page in pages if 0 <= page - first < AREA_BYTES >> 12})
    return {page: names for page, names in found.items() if names}


class Run:
    """One VM's life, from the files that tools/demo/on-node wrote."""

    def __init__(self, folder):
        self.said = [(float(words[0]), words[1], words[2:]) for words in lines_of(os.path.join(folder, "log"))]
        status = lines_of(os.path.join(folder, "status"))
        self.status = int(status[0][0]) if status else None
        self.errors = " ".join(sum(lines_of(os.path.join(folder, "errors")), []))
        self.phases = [values[0] for _, key, values in self.said if key == "ready"]
        self.stats = {p: document(os.path.join(folder, p + ".stats")).get("nodes", {}) for p in self.phases}
        last = os.path.join(folder, self.phases[-1] if self.phases else "none")
        self.parts = document(last + ".info").get("parts", [])
        self.threads = lines_of(last + ".threads")
        self.memory_lines = lines_of(last + ".memory")

    def all(self, key):
        return [values for _, k, values in self.said if k == key]

    def first(self, key):
        found = self.all(key)
        return found[0] if found else []

    def at(self, key, value=None):
        for seconds, k, values in self.said:
            if k == key and (value is None or values == [value]):
                return seconds
        return None

    def boot_s(self):
        """From the command to the guest's first line from user space, in the time of the machine that the nodes live in."""
        start, up = self.at("start"), self.at("memory")
        return up - start if start is not None and up is not None else None

    def memory(self):
        return int((self.first("memory") or [0])[0])

    def cpus(self):
        """vCPU -> guest NUMA node."""
        return {int(v[0]): int(v[2]) for v in self.all("cpu")}

    def areas(self):
        """vCPU -> number of the first page of its own area in the kernel."""
        return {int(v[0]): (int(v[1], 16) & -AREA_BYTES) >> 12 for v in self.all("notes")}

    def jobs(self):
        """vCPU -> (start, end, checksum, compressed bytes)."""
        return {int(v[0]): (float(v[1]), float(v[2]), v[3], int(v[4])) for v in self.all("job")}

    def jobs_s(self):
        """From the first start to the last end."""
        jobs = self.jobs().values()
        return max(j[1] for j in jobs) - min(j[0] for j in jobs) if jobs else None

    def fill(self):
        """(bytes, wrong words, seconds)"""
        v = self.first("fill")
        return (int(v[0]), int(v[1]), float(v[2])) if v else None

    def where(self):
        """vCPU -> (node, host CPU, CPU seconds), as the host's kernel tells."""
        found = {}
        for part in self.parts:
            for words in self.threads:
                name = f"vcpu{words[1][4:]}" if words[1].startswith("vcpu") else None
                if int(words[0]) == part["pid"] and name and int(name[4:]) in part["vcpus"]:
                    ticks = int(words[2 + UTIME - STATE]) + int(words[2 + STIME - STATE])
                    found[int(name[4:])] = (part["node"], int(words[2 + PROCESSOR - STATE]), ticks / os.sysconf("SC_CLK_TCK"))
        return found

    def resident(self):
        """node -> (peak resident bytes of its fragment, bytes of guest memory that are its own)."""
        peak = {int(w[0]): int(w[2]) << 10 for w in self.memory_lines if w[1] == "VmHWM"}
        return {p["node"]: (peak.get(p["pid"], 0), p["memory_bytes"]) for p in self.parts}

    def count(self, key, phase=None):
        """A counter's sum over the nodes, at the end or at a phase."""
        phase = phase or (self.phases[-1] if self.phases else None)
        return sum(node.get(key, 0) for node in self.stats.get(phase, {}).values())

    def latency_us(self, kind, rank):
        """The worst node's."""
        nodes = self.stats.get(self.phases[-1], {}).values() if self.phases else []
        return max((n.get(f"fault.{kind}.{rank}_ns", 0) for n in nodes), default=0) / 1000


def judge_run(name, run, expected):
    """What is wrong with one run: list of text."""
    wrong = []
    if run.status != 0:
        wrong.append(f"{name}: tessera run ended with {run.status}: {run.errors}" if run.status is not None else f"{name}: did not run to its end")
    if sorted(run.cpus()) != list(range(expected["cpus"])):
        wrong.append(f"{name}: the guest sees CPUs {sorted(run.cpus())}, not {expected['cpus']}")
    for cpu, wanted in enumerate(expected["sums"]):
        job = run.jobs().get(cpu)
        if not job:
            wrong.append(f"{name}: vCPU {cpu} did not do its job")
        elif job[2] != wanted:
            wrong.append(f"{name}: vCPU {cpu} computed {job[2][:16]}..., the host {wanted[:16]}...")
    if run.status == 0 and run.first("complaints") != ["0"]:
        wrong.append(f"{name}: the guest's kernel complained (RCU stall, lockup, clocksource, BUG): see its console")
    return wrong


def judge_memory(run, expected):
    wrong = []
    fill, lends = run.fill(), expected["lend_bytes"]
    if len(run.parts) > 1 and sum(p["memory_bytes"] for p in run.parts) <= lends:
        wrong.append("the VM has no more memory than one node lends")
    if not fill:
        wrong.append("memory was not filled and verified")
    elif fill[1]:
        wrong.append(f"{fill[1]} words of memory were wrong")
    elif fill[0] * 2 < run.memory():
        wrong.append(f"only {fill[0] >> 20} MiB of {run.memory() >> 20} were filled")
    for node, (peak, own) in sorted(run.resident().items()):
        if peak == 0 or peak > own + CACHE_BYTES + OVERHEAD_BYTES:
            wrong.append(f"node {node}'s fragment held {peak >> 20} MiB: its own {own >> 20} + {CACHE_BYTES >> 20} cache + {OVERHEAD_BYTES >> 20} is the limit")
    return wrong


def judge(spread, packed, expected):
    """expected: cpus, sums (one a vCPU), lend_bytes, nodes (names, one a vCPU), fill (bool). Returns complaints, none if all is well."""
    wrong = judge_run("spread", spread, expected) + judge_run("overcommitted", packed, expected)
    nodes = [spread.where().get(v, ("nowhere",))[0] for v in range(len(expected["sums"]))]
    if nodes != expected["nodes"]:
        wrong.append(f"vCPUs ran on {', '.join(nodes)}, not on {', '.join(expected['nodes'])}")
    if len(set(spread.cpus().values())) != len(set(expected["nodes"])):
        wrong.append("the guest does not see one NUMA node a host")
    if expected["fill"]:
        wrong += judge_memory(spread, expected)
    gain = speed_up(spread, packed)
    if gain is not None and gain <= 1 and len(set(expected["nodes"])) > 1:
        wrong.append(f"spreading the vCPUs gained nothing ({gain:.2f} x)")
    return wrong


def speed_up(spread, packed):
    a, b = spread.jobs_s(), packed.jobs_s()
    return b / a if a and b else None


def size(n):
    return f"{n / (1 << 20):.1f} MiB" if n >= 1 << 20 else f"{n / 1024:.0f} KiB"


def place(run, cpu):
    node = run.where().get(cpu)
    return f"node {node[0]}, core {node[1]}" if node else "?"


def rows(spread, packed, cpus):
    """(name, spread's value, overcommitted's)"""
    both = lambda name, value: (name, value(spread), value(packed))  # noqa: E731
    seconds = lambda s: f"{s:.2f} s" if s is not None else "?"  # noqa: E731
    for cpu in range(cpus):
        yield both(f"vCPU {cpu} ran on", lambda r, c=cpu: place(r, c))
    yield both("memory of the VM", lambda r: size(sum(p["memory_bytes"] for p in r.parts)))
    yield both("boot, to user space", lambda r: seconds(r.boot_s()))
    for cpu in range(cpus):
        yield both(f"job of vCPU {cpu}", lambda r, c=cpu: seconds(r.jobs()[c][1] - r.jobs()[c][0] if c in r.jobs() else None))
    yield both("all jobs", lambda r: seconds(r.jobs_s()))
    gain = speed_up(spread, packed)
    yield ("speed-up over overcommitment", f"{gain:.2f} x" if gain else "?", "")
    yield both("memory filled and verified", lambda r: f"{size(r.fill()[0])} in {r.fill()[2]:.1f} s" if r.fill() else "-")
    for kind in KINDS:
        yield both(f"remote {kind} faults, to boot", lambda r, k=kind: str(r.count(f"fault.{k}.count", "boot")))
        yield both("  jobs", lambda r, k=kind: str(r.count(f"fault.{k}.count", "jobs") - r.count(f"fault.{k}.count", "warm")))
        yield both("  in all", lambda r, k=kind: str(r.count(f"fault.{k}.count")))
        yield both("  p50 / p99", lambda r, k=kind: f"{r.latency_us(k, 'p50'):.0f} / {r.latency_us(k, 'p99'):.0f} us")
    yield both("bytes between nodes", lambda r: size(r.count("page.bytes_sent") + r.count("bus.bytes_sent")))
    yield both("IPIs forwarded", lambda r: str(r.count("bus.irqs_sent")))
    yield both("device accesses forwarded", lambda r: str(r.count("bus.io_sent")))
    for part in spread.parts:
        yield both(f"most memory held on {part['node']}", lambda r, n=part["node"]: size(r.resident().get(n, (0, 0))[0]))


def table(spread, packed, cpus):
    found = [("", "spread", "overcommitted")] + list(rows(spread, packed, cpus))
    wide = [max(len(row[i]) for row in found) for i in range(3)]
    return "\n".join(f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}".rstrip() for a, b, c in found)


def figures(spread, packed):
    """The same as a document."""
    one = lambda r: {  # noqa: E731
        "boot_s": r.boot_s(), "jobs_s": r.jobs_s(), "vcpus": {str(c): w[0] for c, w in sorted(r.where().items())}, "fill": r.fill(),
        "phases": {p: {k: r.count(k, p) for k in sorted({k for n in r.stats[p].values() for k in n if not k.endswith("_ns")})} for p in r.phases},
        "latency_us": {k: {rank: r.latency_us(k, rank) for rank in ("p50", "p99")} for k in KINDS},
        "resident_bytes": {n: v[0] for n, v in r.resident().items()}}
    return {"speed_up": speed_up(spread, packed), "spread": one(spread), "overcommitted": one(packed)}
