"""The multi-node lab: Bochs, simulating an Intel machine with VMX and EPT whose CPUs advance together by instruction count.

Booted once; then forkserver.c keeps the simulator as a stopped process, and every run is a fork of it."""

import array
import os
import pty
import signal
import socket
import struct
import subprocess
import threading

import bootdisk
from frames import Reader
from common import DISK_BYTES, HERE, LabError, run_tool
from tcg import die_with_parent

MIPS = 200  # million simulated instructions that make a virtual second, unless told; fewer, and timer ticks cost a guest more than its remote faults leave
TURN = 128  # instructions that a CPU does before the next one has its turn; fewer take longer to simulate, more come between a store and its being seen
KERNEL_ARGS = "console=ttyS0,115200 quiet idle=halt cryptomgr.notests init_on_alloc=0 audit=0 nokaslr 8250.nr_uarts=1 nowatchdog rcupdate.rcu_expedited=1 apparmor=0 lsm=capability no_timer_check noresume mitigations=off random.trust_cpu=on tsc=reliable ipv6.disable=1 panic=-1 lab.disk=sda"

RC = """\
config_interface: textconfig
display_library: nogui
romimage: file={bios}
vgaromimage: file={vgabios}
cpu: model=corei7_haswell_4770, count={cpus}, ips={ips}, quantum={turn}, reset_on_triple_fault=0
memory: guest={memory}, host={memory}
clock: sync=none, time0=1700000000
boot: disk
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=flat, path=disk, cylinders=16384, heads=16, spt=32
ata1: enabled=0
com1: enabled=1, mode=file, dev=console.log
port_e9_hack: enabled=1
private_colormap: enabled=0
vga: extension=vbe, update_freq=1
log: bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""

def first_file(*paths):
    for p in paths:
        if os.path.exists(p):
            return p
    raise LabError(f"{paths[0]} is missing; run tools/install-deps")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Machine:
    MEMORY_LIMIT = 2048  # MiB; Bochs takes no more from its host, and its swapping to a file would be shared by runs

    def __init__(self, plan, folder):
        self.plan, self.folder = plan, folder

    def path(self, name):
        return os.path.join(self.folder, name)

    def _connect(self):
        """A connection to the kept simulator, or None. Through /proc, since a socket's name must be short."""
        try:
            folder = os.open(self.folder, os.O_PATH)
        except FileNotFoundError:
            return None
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(f"/proc/self/fd/{folder}/socket")
            return sock
        except OSError:
            sock.close()
            return None
        finally:
            os.close(folder)

    def kept(self):
        sock = self._connect()
        if sock:
            sock.close()
        return bool(sock)

    @staticmethod
    def program():
        """The simulator, built if that has not been done."""
        built = subprocess.run([os.path.join(HERE, "bochs-build")], stdout=subprocess.PIPE, text=True, check=False)
        if built.returncode:
            raise LabError("there is no simulator")
        return built.stdout.strip()

    def _start(self):
        bios = first_file("/usr/share/bochs/BIOS-bochs-latest")
        vgabios = first_file("/usr/share/vgabios/vgabios.bin", "/usr/share/bochs/VGABIOS-lgpl-latest")
        with open(self.path("bochsrc"), "w") as f:
            f.write(RC.format(bios=bios, vgabios=vgabios, cpus=self.plan.cpus, ips=(self.plan.mips or MIPS) * 1_000_000, turn=TURN, memory=self.plan.outer_memory))
        library = self.path("forkserver.so")
        run_tool("gcc", "-O2", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "forkserver.c"), stderr=subprocess.PIPE)
        master, slave = pty.openpty()
        out, frames = os.pipe()
        env = dict(os.environ, TERM="vt100", LD_PRELOAD=library, LAB_SOCKET="socket", LAB_FRAMES=str(frames), LAB_DISK="disk", LAB_CONSOLE="console.log", GUEST="lab")
        try:
            process = subprocess.Popen(
                [self.program(), "-q", "-f", "bochsrc"],
                cwd=self.folder, env=env, stdin=slave, stdout=slave, stderr=slave, pass_fds=[frames], preexec_fn=die_with_parent, start_new_session=True,
            )
        finally:
            os.close(slave)
            os.close(frames)
        return process, master, out

    def boot(self, progress, initrd):
        kernel = os.path.join(self.plan.assets, "vmlinux")
        memory_map = bootdisk.bochs_memory_map(self.plan.outer_memory)
        bootdisk.make(self.path("disk"), self.folder, kernel, initrd, f"{KERNEL_ARGS} lab.nodes={self.plan.machine_nodes}", memory_map, DISK_BYTES)
        process, master, frames = self._start()
        said = bytearray()
        threading.Thread(target=self._drain, args=(master, said), daemon=True).start()
        try:
            progress("kernel")
            reader = Reader()
            while True:
                data = os.read(frames, 65536)
                if not data:
                    raise LabError(f"Bochs ended while booting; see {self.path('console.log')} and {self.path('bochs.log')}\n{said[-500:].decode(errors='replace')}")
                for kind, payload in reader.feed(data):
                    if kind == "S":
                        progress(f"{payload.decode()} (after {cpu_seconds(process.pid):.1f} s of CPU time)")
                    elif kind == "X":
                        raise LabError(f"the lab's machine did not boot; see {self.path('console.log')}")
                    elif kind == "R":
                        return
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            os.close(frames)
            os.close(master)

    @staticmethod
    def _drain(master, said):
        try:
            while data := os.read(master, 65536):
                said += data
                del said[:-4096]
        except OSError:
            pass

    def start_run(self, disk, run_dir, _wire=None):
        """Returns (fd that frames come from, function that ends the run and frees everything)."""
        sock = self._connect()
        if not sock:
            raise LabError("the kept simulator is gone; try again")
        out, frames = os.pipe()
        disk_fd = os.open(disk, os.O_RDWR)
        console = os.open(os.path.join(run_dir, "console.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fds = array.array("i", [disk_fd, frames, console])
        sock.sendmsg([b"r"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        for fd in fds:
            os.close(fd)

        def end():
            sock.close()  # the server kills the run
            os.close(out)

        return out, end

    def stop(self):
        sock = self._connect()
        if not sock:
            return
        pid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        os.kill(pid, signal.SIGKILL)
        sock.close()
