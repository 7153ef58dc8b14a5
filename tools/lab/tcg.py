"""The quick lab: QEMU's TCG with emulated AMD-V.

Booted once; then its state goes to a file and its memory stays in another (the x-ignore-shared capability keeps the two apart), so that every
run starts from the same instant: the state is read and the memory mapped privately, copied only where the run writes."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time

from frames import Reader
from common import DISK_BYTES, HERE, LabError, run_tool

CPU = "qemu64,+svm,+npt,+ssse3,+sse4.1,+sse4.2,+popcnt,+fsgsbase,+rdtscp"
KERNEL_ARGS = "console=ttyS0 quiet mitigations=off random.trust_cpu=on tsc=reliable ipv6.disable=1 panic=-1 lab.disk=vda"


def die_with_parent():
    """In the child: a lab that is killed, however hard, takes its simulator along."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Qmp:
    """Just enough of QEMU's machine protocol."""

    def __init__(self, folder, process):
        """Through /proc, since a socket's name must be short."""
        deadline = time.monotonic() + 60
        self.sock = socket.socket(socket.AF_UNIX)
        handle = os.open(folder, os.O_PATH)
        while True:
            try:
                self.sock.connect(f"/proc/self/fd/{handle}/qmp")
                os.close(handle)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise LabError("QEMU did not start") from None
                time.sleep(0.01)
        self.file = self.sock.makefile("rw")
        self.file.readline()
        self.do("qmp_capabilities")

    def do(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            line = self.file.readline()
            if not line:
                raise LabError(f"QEMU died at {command}")
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def await_status(self, query, good, bad):
        while True:
            status = self.do(query).get("status")
            if status in good:
                return
            if status in bad:
                raise LabError(f"QEMU: {query} says {status}")
            time.sleep(0.01)

    def enable_capabilities(self):
        self.do("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])


class Machine:
    MEMORY_LIMIT = 65536

    def __init__(self, plan, folder):
        self.plan, self.folder = plan, folder

    def path(self, name):
        return os.path.join(self.folder, name)

    def kept(self):
        return os.path.exists(self.path("state"))

    def _start(self, disk, console, shared, extra, net="hubport,id=net,hubid=0"):
        p = self.plan
        argv = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "pc,memory-backend=ram,usb=off", "-cpu", CPU]
        argv += ["-smp", str(p.cpus), "-m", f"{p.outer_memory}M", "-nodefaults", "-display", "none", "-no-reboot"]
        argv += ["-object", f"memory-backend-file,id=ram,size={p.outer_memory}M,mem-path={self.path('ram')},share={'on' if shared else 'off'}"]
        argv += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe", "-qmp", "unix:qmp,server=on,wait=off"]
        argv += ["-netdev", net, "-device", "virtio-net-pci,netdev=net,romfile="]
        argv += ["-chardev", "stdio,id=e9,signal=off", "-device", "isa-debugcon,iobase=0xe9,chardev=e9"]
        argv += ["-chardev", f"file,id=serial,path={console}", "-serial", "chardev:serial"]
        try:
            with open(console + ".err", "wb") as err:
                return subprocess.Popen(argv + extra, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, preexec_fn=die_with_parent, cwd=os.path.dirname(console))
        except FileNotFoundError:
            raise LabError("qemu-system-x86_64 is missing; run tools/install-deps") from None

    def _tsc_khz(self):
        """The emulated TSC is this host's. A kernel that measures it inside is wrong by a factor when the host is busy, and guests' clocks with it."""
        run_tool("gcc", "-O2", "-Wall", "-Wextra", "-o", self.path("tsc"), os.path.join(HERE, "tsc.c"), stderr=subprocess.PIPE)
        return int(run_tool(self.path("tsc"), stdout=subprocess.PIPE).stdout)

    def boot(self, progress, initrd):
        with open(self.path("disk"), "wb") as f:
            f.truncate(DISK_BYTES)
        append = f"{KERNEL_ARGS} tsc_early_khz={self._tsc_khz()} lab.nodes={self.plan.machine_nodes}"
        extra = ["-kernel", os.path.join(self.plan.assets, "vmlinux"), "-initrd", initrd, "-append", append]
        process = self._start(self.path("disk"), self.path("console.log"), True, extra)
        try:
            reader, ready = Reader(), False
            progress("kernel")
            while not ready:
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    raise LabError(f"QEMU ended while booting; see {self.path('console.log')}")
                for kind, payload in reader.feed(data):
                    if kind == "S":
                        progress(payload.decode())
                    elif kind == "X":
                        raise LabError(f"the lab's machine did not boot; see {self.path('console.log')}")
                    ready = ready or kind == "R"
            progress("keeping it")
            qmp = Qmp(self.folder, process)
            qmp.do("stop")
            qmp.enable_capabilities()
            qmp.do("migrate", uri=f"exec:cat >{self.path('state.new')}")
            qmp.await_status("query-migrate", {"completed"}, {"failed", "cancelled"})
            qmp.do("quit")
            process.wait()
            os.rename(self.path("state.new"), self.path("state"))
        finally:
            process.kill()
            process.wait()

    def start_run(self, disk, run_dir, wire=None):
        """Returns (fd that frames come from, function that ends the run and frees everything). A wire joins several machines."""
        net = "stream,id=net,server=off,addr.type=unix,addr.path=../wire" if wire else "hubport,id=net,hubid=0"
        process = self._start(disk, os.path.join(run_dir, "console.log"), False, ["-S", "-incoming", "defer"], net)

        def end():
            process.kill()
            process.wait()

        try:
            qmp = Qmp(run_dir, process)
            qmp.enable_capabilities()
            qmp.do("migrate-incoming", uri=f"exec:cat {self.path('state')}")
            qmp.await_status("query-status", {"paused", "postmigrate", "prelaunch"}, {"internal-error", "io-error"})
            qmp.do("cont")
        except BaseException:
            end()
            raise
        return process.stdout.fileno(), end

    def stop(self):
        pass
