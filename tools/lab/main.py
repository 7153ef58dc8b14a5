"""./lab: run a command on the first of N nodes, each with its tessera daemon, wherever this machine can best do that. See doc/lab.md."""

import argparse
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bochs  # noqa: E402
import common  # noqa: E402
import host  # noqa: E402
import initrd  # noqa: E402
import payload  # noqa: E402
import tcg  # noqa: E402
import wire  # noqa: E402
from frames import Reader, write_all  # noqa: E402
from common import NAMES, TREE, LabError  # noqa: E402
from run_script import script_inside  # noqa: E402

LAB_FAILED, TIMED_OUT = 125, 124
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIMULATORS = {"tcg": tcg.Machine, "bochs": bochs.Machine}

EPILOG = """exit status: CMD's own; 124 after --timeout; 125 when the lab itself failed (it says why on stderr); 126 and 127 as in a shell; 128+N when
signal N killed CMD. Inside: TESSERA_NODE names the node (A, B, ...), nodes have the addresses 10.77.0.1, 10.77.0.2, ..., `on B CMD` runs CMD on
node B, /run/lab/B.log and /run/lab/B.pid belong to B's daemon, and files written to $LAB_OUT come back through --out."""


class Interrupted(Exception):
    """A signal asked us to end; carries its number."""


def parse_lend(text, nodes):
    values = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    memory = values.get("memory", f"{min(512, 1536 // nodes)}M")
    units = {"M": 1, "G": 1024}
    if memory[-1:] not in units or not memory[:-1].isdigit():
        raise LabError(f"--lend memory={memory}: want a number with M or G")
    return values.get("cpus"), int(memory[:-1]) * units[memory[-1]]


class Plan:
    """What was asked for, and everything that follows from it."""

    def __init__(self, options):
        self.nodes = options.nodes
        self.cpus_per_node = options.cpus_per_node
        self.mips = options.mips
        lend_cpus, self.lend_memory = parse_lend(options.lend, self.nodes)
        self.lend = f"cpus={lend_cpus or self.cpus_per_node},memory={self.lend_memory}M"
        self.kernels = options.kernels
        self.cpu_list = list(range(self.cpus))
        self.sim = options.sim
        self.shares = [os.path.abspath(s) for s in options.share]
        self.programs = options.with_program
        self.disk = options.disk and os.path.abspath(options.disk)
        self.disk_inside = "/dev/loop0"
        self.out = options.out
        self.timeout = options.timeout
        self.daemons = not options.no_daemons
        self.state = os.path.abspath(options.state)
        self.build = os.path.abspath(options.build)
        self.cwd = os.getcwd()
        self.env = dict(e.split("=", 1) if "=" in e else (e, os.environ.get(e, "")) for e in options.env)
        self.command = options.command
        self.verbose = options.verbose
        self.assets = None

    @property
    def outer_memory(self):
        """MiB of the outer machine: fragments hold guest memory plus their own; the outer kernel, daemons and $LAB_OUT need the constant.
        Lending is a promise, so a limit below the sum only bites when guests touch all of it."""
        wanted = -(-(768 + self.machine_nodes * self.lend_memory * 5 // 4) // 256) * 256
        return min(wanted, SIMULATORS[self.sim].MEMORY_LIMIT)

    @property
    def machine_nodes(self):
        """Nodes that share one machine."""
        return 1 if self.kernels == "separate" else self.nodes

    @property
    def cpus(self):
        """Of one machine."""
        return self.machine_nodes * self.cpus_per_node

    def key(self):
        speed = f"{self.mips}mips-" if self.mips and self.sim == "bochs" else ""
        return f"{self.sim}-{self.machine_nodes}x{self.cpus_per_node}-{self.outer_memory}M-{speed}{initrd.boot_version(self.sim)}"


class Progress:
    """One line on stderr while the lab boots: overwritten on a terminal, a line per stage elsewhere."""

    def __init__(self, what):
        self.what, self.start = what, time.monotonic()
        self.tty = sys.stderr.isatty()
        self.stage, self.done = "starting", threading.Event()
        self.ticker = threading.Thread(target=self._tick, daemon=True)
        if self.tty:
            self.ticker.start()

    def _line(self):
        return f"lab: {self.what}: {time.monotonic() - self.start:5.1f} s  {self.stage}"

    def _tick(self):
        while not self.done.wait(0.5):
            sys.stderr.write(f"\r{self._line()}\x1b[K")
            sys.stderr.flush()

    def __call__(self, stage):
        self.stage = stage
        if not self.tty:
            print(self._line(), file=sys.stderr, flush=True)

    def finish(self):
        self.done.set()
        if self.tty:
            self.ticker.join()
            sys.stderr.write("\r\x1b[K")


class Collector:
    """The tar archive that comes back from $LAB_OUT."""

    def __init__(self, out):
        self.out, self.file = out, tempfile.TemporaryFile() if out else None

    def add(self, data):
        if self.file:
            self.file.write(data)

    def unpack(self):
        if not self.file or not self.file.tell():
            return
        self.file.seek(0)
        os.makedirs(self.out, exist_ok=True)
        with tarfile.open(fileobj=self.file) as tar:
            for member in tar:
                target = os.path.normpath(os.path.join(self.out, member.name))
                if member.isdir():
                    os.makedirs(target, exist_ok=True)
                elif member.isfile() and target.startswith(os.path.abspath(self.out) + os.sep):
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    with open(target, "wb") as f:
                        shutil.copyfileobj(tar.extractfile(member), f)


def follow(fd, plan, collector):
    """Pass on what the command says until it ends; returns its status."""
    reader = Reader()
    deadline = time.monotonic() + plan.timeout
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            print(f"lab: timed out after {plan.timeout} s", file=sys.stderr)
            return TIMED_OUT
        data = os.read(fd, 65536)
        if not data:
            raise LabError("the lab's machine ended before the command did")
        for kind, payload in reader.feed(data):
            if kind == "O":
                write_all(1, payload)
            elif kind == "E":
                write_all(2, payload)
            elif kind == "S" and plan.verbose:
                print(f"lab: {payload.decode()}", file=sys.stderr)
            elif kind == "F":
                collector.add(payload)
            elif kind == "X":
                words = payload.decode().split()
                if plan.verbose and len(words) == 3:
                    print(f"lab: {float(words[2]) - float(words[1]):.2f} s of the lab's own time", file=sys.stderr)
                return int(words[0])


def boot_if_needed(plan, machine, folder):
    """Boot the machine and keep it, unless that has been done; one at a time for each kind of lab."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if machine.kept():
            return
        progress = Progress(f"booting {plan.sim} with {plan.cpus} CPU{'s' if plan.cpus > 1 else ''}")
        try:
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            image = os.path.join(folder, "initrd")
            initrd.make_initrd(image, folder, plan.assets, plan.sim)
            machine.boot(progress, image)
        finally:
            progress.finish()
        if plan.verbose:
            print(f"lab: booted in {time.monotonic() - progress.start:.1f} s", file=sys.stderr)


def start_machine(plan, machine, run_dir, index=0, wire=None):
    """Pack the disk of one machine's run and start it. Returns what Machine.start_run does."""
    os.makedirs(run_dir, exist_ok=True)
    started = time.monotonic()
    disk = os.path.join(run_dir, "disk")
    payload.make_disk(disk, plan, os.path.join(machine.folder, "agent"), script_inside(plan, index))
    if plan.verbose:
        print(f"lab: packed a disk in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return machine.start_run(disk, run_dir, wire)


def keep_log(fd, path):
    """What another machine's agent says (its daemon's log) goes to a file."""
    reader = Reader()
    with open(path, "wb", buffering=0) as log:
        while data := os.read(fd, 65536):
            for kind, body in reader.feed(data):
                if kind in "OE":
                    log.write(body)


def start_others(plan, machine, run_dir, ends):
    """The machines of nodes B, C, ... when each has its own, and the wire between them."""
    joined = wire.Wire(run_dir)
    ends.append(joined.close)
    for index in range(1, plan.nodes):
        folder = os.path.join(run_dir, NAMES[index])
        fd, end = start_machine(plan, machine, folder, index, joined)
        ends.append(end)
        threading.Thread(target=keep_log, args=(fd, os.path.join(folder, "daemon.log")), daemon=True).start()
    return joined


def save_logs(plan, run_dir, status):
    if not plan.out:
        return
    os.makedirs(os.path.join(plan.out, "nodes"), exist_ok=True)
    for name in NAMES[1 : plan.nodes] if plan.kernels == "separate" else "":
        shutil.copy(os.path.join(run_dir, name, "daemon.log"), os.path.join(plan.out, "nodes", name + ".log"))
    if status in (LAB_FAILED, TIMED_OUT):
        shutil.copy(os.path.join(run_dir, "A", "console.log"), os.path.join(plan.out, "console.log"))


def run_simulated(plan):
    plan.assets = common.assets()
    folder = os.path.join(plan.state, "labs", plan.key())
    machine = SIMULATORS[plan.sim](plan, folder)
    boot_if_needed(plan, machine, folder)
    started = time.monotonic()
    os.makedirs(os.path.join(plan.state, "runs"), exist_ok=True)
    run_dir = tempfile.mkdtemp(dir=os.path.join(plan.state, "runs"))
    ends = []
    try:
        joined = start_others(plan, machine, run_dir, ends) if plan.kernels == "separate" else None
        fd, end = start_machine(plan, machine, os.path.join(run_dir, "A"), 0, joined)
        ends.append(end)
        collector = Collector(plan.out)
        status = follow(fd, plan, collector)
        collector.unpack()
        save_logs(plan, run_dir, status)
        if plan.verbose:
            print(f"lab: the run took {time.monotonic() - started:.1f} s in all", file=sys.stderr)
        return status
    finally:
        for end in reversed(ends):
            end()
        shutil.rmtree(run_dir, ignore_errors=True)


def stop_kept(state):
    """--stop: end and remove every kept lab."""
    labs = os.path.join(state, "labs")
    for name in sorted(os.listdir(labs)) if os.path.isdir(labs) else []:
        folder = os.path.join(labs, name)
        if not os.path.isdir(folder):
            continue
        SIMULATORS[name.split("-")[0]](None, folder).stop()
        shutil.rmtree(folder, ignore_errors=True)
        print(f"lab: stopped {name}", file=sys.stderr)
    shutil.rmtree(labs, ignore_errors=True)
    shutil.rmtree(os.path.join(state, "runs"), ignore_errors=True)


def choose(plan):
    """Where to run: the host itself when its KVM is known to do, else Bochs; QEMU for separate kernels."""
    if plan.kernels == "separate":
        if plan.sim not in (None, "tcg"):
            raise LabError("--kernels separate needs --sim tcg")
        plan.sim = "tcg"
    if plan.sim is None:
        able, why = host.probe(plan.build)
        if plan.verbose:
            print(f"lab: host: {why}", file=sys.stderr)
        plan.sim = "host" if able else "bochs"


def parse(argv):
    p = argparse.ArgumentParser(prog="./lab", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--nodes", type=int, default=1, metavar="N", help="how many nodes, 1 to 16 (default 1)")
    p.add_argument("--cpus-per-node", type=int, default=1, metavar="K", help="CPUs that each node is pinned to (default 1)")
    p.add_argument("--mips", type=int, metavar="N", help="bochs: million instructions that a simulated CPU does in a second of its own (default 200)")
    p.add_argument("--lend", default="", metavar="cpus=K,memory=M", help="what each node lends (default: its CPUs; 512M, or 1536M shared by more than 3)")
    p.add_argument("--sim", choices=["bochs", "tcg", "host"], help="where nodes live (default: the host if its KVM will do, else bochs)")
    p.add_argument("--kernels", choices=["shared", "separate"], default="shared", help="separate: one machine and kernel a node (tcg)")
    p.add_argument("--share", action="append", default=[], metavar="DIR", help="show DIR inside, read-only, at the same path (repeatable)")
    p.add_argument("--with", dest="with_program", action="append", default=[], metavar="PROG", help="put a program of this host and its libraries inside (repeatable)")
    p.add_argument("--disk", metavar="FILE", help="put a copy of FILE inside that may be written to; its path there is $LAB_DISK")
    p.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="set or pass an environment variable (repeatable)")
    p.add_argument("--out", metavar="DIR", help="afterwards copy what CMD wrote to $LAB_OUT, and the daemons' logs, to DIR")
    p.add_argument("--no-daemons", action="store_true", help="do not start tessera on the nodes")
    p.add_argument("--timeout", type=float, default=3600, metavar="SECONDS", help="wall time that CMD may take (default 3600)")
    p.add_argument("--build", default=os.path.join(TREE, "build"), metavar="DIR", help="build directory that tessera comes from (default build)")
    p.add_argument("--state", default=os.environ.get("TESSERA_LAB_STATE") or os.path.join(TREE, ".lab"), metavar="DIR", help="where booted labs are kept (default $TESSERA_LAB_STATE or .lab)")
    p.add_argument("--stop", action="store_true", help="remove the kept labs and exit")
    p.add_argument("--boot", action="store_true", help="only boot the lab and keep it")
    p.add_argument("--verbose", action="store_true", help="say what things took, on stderr")
    p.add_argument("command", nargs="*", metavar="CMD", help="what to run, after --")
    options = p.parse_args(argv)
    if not 1 <= options.nodes <= len(NAMES):
        p.error("--nodes: 1 to 16")
    if not options.command and not options.stop and not options.boot:
        p.error("no command; use: ./lab [OPTIONS] -- CMD...")
    return options


def on_signal(number, _):
    for s in ENDING:  # one is enough: the clean-up is not to be interrupted
        signal.signal(s, signal.SIG_IGN)
    raise Interrupted(number)


def main():
    options = parse(sys.argv[1:])
    if options.boot and not options.command:
        options.command = ["true"]
        options.no_daemons = True
    for s in ENDING:
        signal.signal(s, on_signal)
    try:
        if options.stop:
            stop_kept(os.path.abspath(options.state))
            return 0
        plan = Plan(options)
        if plan.out:
            plan.out = os.path.abspath(plan.out)
        choose(plan)
        return host.run(plan) if plan.sim == "host" else run_simulated(plan)
    except Interrupted as e:
        return 128 + e.args[0]
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        return LAB_FAILED
    except subprocess.CalledProcessError as e:
        print(f"lab: {e}", file=sys.stderr)
        return LAB_FAILED


sys.exit(main())
