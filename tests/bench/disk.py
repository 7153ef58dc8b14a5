"""./bench disk: Debian's fio in guests of the lab, on raw disks of node A.

1. Two nodes, one vCPU each: from the vCPU that has the disk on its node, then from the other. The disk is a block device that takes 80 us, as an SSD does (the
   kernel's null_blk; cache=none).
2. One node, one vCPU: Tessera, then QEMU's virtio-blk-pci (q35, no iothread object, threads: as it is by default), same kernel, initrd, file and cache mode.
   The disk is a file in memory (tmpfs, through the page cache), so that nothing but the way there is measured. With --in-memory also in 1.
Each node has two CPUs: hosts have more than their guests use. Times are those of the simulated machine (doc/lab.md)."""

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TREE, "tools", "demo"))

import demo  # noqa: E402
import report  # noqa: E402

DISK_MIB, MEMORY_MIB = 64, 160
# Name, rw, block size in KiB, ms to run; before that WARM_MS that do not count, in which a process that has just begun gets its memory.
WORK = [("4k random read", "randread", 4, 20), ("4k random write", "randwrite", 4, 20), ("1M sequential read", "read", 1024, 40), ("1M sequential write", "write", 1024, 40)]
WARM_MS = 12
DEPTHS = (1, 16)
DEVICES = {"ssd": "vdb", "memory": "vda"}
SIZE = {rw: kib for _, rw, kib, _ in WORK}
GLOBAL = f"""[global]
size={DISK_MIB}M
ioengine=libaio
direct=1
norandommap
stonewall
"""
MODULES = ("fs/configfs/configfs.ko", "drivers/block/null_blk/null_blk.ko")
SSD = "gb=1 memory_backed=1 irqmode=2 completion_nsec=80000"
APPEND = "quiet nokaslr mitigations=off init_on_alloc=0 audit=0 random.trust_cpu=on no_timer_check"
# What Tessera gives every guest by itself (doc/boot-options.md), for QEMU's.
ALSO = "console=ttyS0 panic=-1 clocksource=tsc tsc=reliable no-kvmclock nowatchdog 8250.nr_uarts=1 cryptomgr.notests=1"
KINDS = ("read", "write", "upgrade")


def jobs(disks):
    return [(title, disk, rw, depth, size, ms) for disk in disks for title, rw, size, ms in WORK for depth in DEPTHS]


def job_file(path, place, cpu, disks, scale):
    with open(path, "w", encoding="ascii") as f:
        f.write(GLOBAL + f"cpus_allowed={cpu}\n")
        f.write(f"[{place}.start]\nfilename=/dev/vda\nexec_prerun=/job mark {place}.start\nrw=randread\nbs=4k\nnumber_ios=1\n")
        for _, disk, rw, depth, size, ms in jobs(disks):
            name = f"{place}.{disk}.{rw}.{depth}"
            f.write(f"[{name}]\nfilename=/dev/{DEVICES[disk]}\nexec_prerun=/job mark {name}\nrw={rw}\nbs={size}k\niodepth={depth}\n"
                    f"time_based\nramp_time={WARM_MS}ms\nruntime={ms * scale // 100}ms\n")


def make_initrds(folder, disks, options):
    """initrd.two has jobs for both vCPUs, initrd.one for one."""
    lib = os.path.join(folder, "lib")
    os.makedirs(lib)
    fio = subprocess.run([os.path.join(TREE, "tools/lab/guest-fio"), lib], stdout=subprocess.PIPE, text=True, check=False)
    if fio.returncode:
        raise demo.Failed("tools/lab/guest-fio: no fio for the guest")
    for name, places in (("one", ["near"]), ("two", ["near", "far"])):
        packed, files = os.path.join(folder, "packed"), []
        for cpu, place in enumerate(places):
            job_file(f"{folder}/{name}.{place}", place, cpu, disks[name], options.scale)
            files += ["--add", f"{folder}/{name}.{place}:{place}.fio"]
        subprocess.run([os.path.join(TREE, "tools/lab/guest-initrd"), "-o", packed, "--job", os.path.join(HERE, "disk-job"), *files, *fio.stdout.split()], check=True)
        with open(os.path.join(folder, "initrd." + name), "wb") as out:  # unpacking is simulated too
            subprocess.run(["gzip", "-dc", packed], stdout=out, check=True)
        os.unlink(packed)


def run_lab(options, progress, folder, nodes, script, more=()):
    out = os.path.join(folder, f"out{nodes}")
    argv = [os.path.join(TREE, "lab"), "--nodes", str(nodes), "--build", options.build, "--cpus-per-node", "2", "--lend", "cpus=2,memory=320M", "--mips", "2000",
            "--timeout", str(options.timeout), "--out", out, "--share", folder, "--share", os.path.join(TREE, "tools/demo"), "--share", HERE, *more]
    argv += (["--sim", options.sim] if options.sim else []) + (["--env=DEMO_VERBOSE=1"] if options.verbose else []) + ["--", "sh", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True) as lab:
        try:
            for line in lab.stdout:
                if options.verbose:
                    print(line, end="", file=sys.stderr)
                name, _, said = line.strip().partition(": ")
                if said.startswith("ready "):
                    progress.say(f"{name}: fio {said.split()[1]}")
        except BaseException:
            lab.send_signal(demo.signal.SIGINT)
            raise
        finally:
            lab.wait()
    if lab.returncode:
        raise demo.Failed(f"./lab ended with {lab.returncode} (see {out})")
    return out


class Disk(report.Run):
    """What one VM did."""

    def __init__(self, folder, places, disks):
        super().__init__(folder)
        self.rate = {}  # job -> KiB a second, by its mean latency
        for name, error, *numbers in self.all("fio"):
            read_kib, read_us, write_kib, write_us = map(float, numbers)
            if error != "0" or not read_kib + write_kib:
                raise demo.Failed(f"fio's job {name} failed with {error}")
            # so many requests are always under way, and fio tells mean latencies more exactly than times
            if name.endswith(".start"):
                continue
            _, _, rw, depth = name.split(".")
            self.rate[name] = SIZE[rw] * int(depth) * 1e6 / (read_us + write_us)
        self.jobs = jobs(disks)
        missing = [j for p in places for j in (f"{p}.{disk}.{rw}.{depth}" for _, disk, rw, depth, *_ in self.jobs) if j not in self.rate]
        if missing or self.status:
            raise demo.Failed(f"{folder}: fio did not do {missing}; the VM ended with {self.status}: {self.all('wrong')[:5]}")

    def during(self, job, *keys):
        after = self.phases[self.phases.index(job) + 1]
        return sum(self.count(k, after) - self.count(k, job) for k in keys)


def text_rate(kib, size):
    return f"{kib / 4:.0f} requests/s" if size == 4 else f"{kib / 1024:.0f} MiB/s"


def compare(figure, where, better, worse, target):
    """Figures of 'worse' over 'better', each (run, place, word)."""
    (a, a_place, a_word), (b, b_place, b_word) = better, worse
    for title, disk, rw, depth, size, _ in a.jobs:
        x, y = (run.rate[f"{place}.{disk}.{rw}.{depth}"] for run, place in ((a, a_place), (b, b_place)))
        yield figure("disk", f"{title}, depth {depth}, {disk}: {where}", y / x, "x", target, f"{text_rate(y, size)} {b_word}, {text_rate(x, size)} {a_word}")


def counters(figure, run, places):
    """Remote faults beyond those of a job of one request: fio starts a process for each job, and a shell that says so."""
    for place in places:
        started = run.during(f"{place}.start", *(f"fault.{k}.count" for k in KINDS))
        yield figure("disk", f"  {place}: remote faults of starting a job", started)
        for title, disk, rw, depth, *_ in run.jobs:
            job = f"{place}.{disk}.{rw}.{depth}"
            requests, away = (run.during(job, f"blk.0.{k}", f"blk.1.{k}") for k in ("requests", "pieces_away"))
            faults, interrupts = run.during(job, *(f"fault.{k}.count" for k in KINDS)), run.during(job, "queue.irqs", "queue.raised")
            waits, bells = (run.during(job, k) for k in ("queue.waits", "queue.bells"))
            yield figure("disk", f"  {title}, depth {depth}, {disk}, {place}: remote faults a request", max(0, faults - started) / max(1, requests), "", None,
                         f"{requests} requests, {waits} waits of servers, {bells} doorbells, {interrupts} interrupts, {away} pieces to another node")


def measure(options, progress, figure):
    demo.build(options, progress)
    folder = os.path.join(options.build, "bench-disk")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    disks = {"two": ["ssd", "memory"] if options.in_memory else ["ssd"], "one": ["memory"]}
    make_initrds(folder, disks, options)
    node = os.path.join(TREE, "tools/demo/on-node")
    assets = demo.run_quietly(progress, "the guest's kernel", [os.path.join(TREE, "tools/lab/guest-assets")])[0]
    modules = [os.path.join(assets, "modules/kernel", m) for m in MODULES]
    prepare = f"head -c {DISK_MIB << 20} /dev/zero | tr '\\0' x >/run/disk && insmod {modules[0]} && insmod {modules[1]} {SSD} && "
    shares = [w for m in modules for w in ("--share", m)]
    progress.say("fio on two nodes")
    place = f"A:1:{MEMORY_MIB}M,B:1:{MEMORY_MIB}M"
    out = run_lab(options, progress, folder, 2, prepare + f"{node} two {folder}/initrd.two '{APPEND}' {place} --disk /run/disk,node=A "
                  "--disk /dev/nullb0,node=A,cache=none", shares)
    two = Disk(os.path.join(out, "two"), ["near", "far"], disks["two"])
    yield from compare(figure, "far over near", (two, "near", "near"), (two, "far", "far"), ">= 0.8")
    yield from counters(figure, two, ["near", "far"])
    progress.say("fio on one node, and in QEMU")
    shares += [w for d in ("/usr/share/qemu", "/usr/share/seabios") for w in ("--share", d)]
    out = run_lab(options, progress, folder, 1, prepare + f"{node} one {folder}/initrd.one '{APPEND}' A:1:{MEMORY_MIB}M --disk /run/disk "
                  f"--disk /dev/nullb0,cache=none && {HERE}/qemu-node qemu {folder}/initrd.one '{ALSO} {APPEND}' /run/disk /dev/nullb0 {MEMORY_MIB}",
                  ["--with", "qemu-system-x86_64", *shares])
    one, qemu = (Disk(os.path.join(out, name), ["near"], disks["one"]) for name in ("one", "qemu"))
    yield from compare(figure, "Tessera over QEMU", (qemu, "near", "QEMU"), (one, "near", "Tessera"), ">= 0.9")
