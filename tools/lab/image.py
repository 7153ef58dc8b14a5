"""What the lab's machine is made from: the initrd it boots (once) and the disk that carries one run into it.

The initrd knows nothing of the project: it stays the same while tessera changes. The disk is a squashfs without compression (unpacking
would be simulated too) that becomes the root file system of the run: tools with their libraries, the project's tree, the shared
directories, the guest assets and a script."""

import hashlib
import io
import os
import re
import shlex
import subprocess
import tarfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
DISK_BYTES = 1 << 30  # fixed: the booted machine has already seen the size of its disk
NAMES = "ABCDEFGHIJKLMNOP"

# Drivers of the outer machine; dependencies are found and loaded first. kvm-intel and kvm-amd are loaded by outer-init, which knows the CPU.
DRIVERS = {
    "common": ["kvm", "squashfs", "overlay", "bridge", "veth", "tls", "tun"],
    "tcg": ["virtio_pci", "virtio_blk", "virtio_net"],
    "bochs": ["ata_piix", "sd_mod"],
}
BASE_TOOLS = ["ip"]
RUN_TOOLS = ["sh", "bash", "ip", "tc", "taskset", "script", "setpriv", "strace", "perf"]
# Programs that start programs: busybox's versions prefer its own applets to whatever PATH says.
RUN_TOOLS += ["env", "timeout", "setsid", "nohup", "nice", "xargs"]


class LabError(Exception):
    """The lab, not the command, failed; the text says what to do."""


def run_tool(*argv, **kw):
    try:
        return subprocess.run(argv, check=True, **kw)
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is missing; run tools/install-deps") from None
    except subprocess.CalledProcessError as e:
        detail = (e.stderr or b"").decode(errors="replace").strip()
        raise LabError(f"{argv[0]} failed: {detail or e}") from None


def assets():
    return run_tool(os.path.join(HERE, "guest-assets"), stdout=subprocess.PIPE).stdout.decode().strip()


# --- drivers -------------------------------------------------------------------------------------------------------------------------


class Modules:
    """Kernel modules by name, with what they depend on read from the files themselves (no depmod needed)."""

    def __init__(self, folder):
        self.files = {}
        for root, _, names in os.walk(folder):
            for name in names:
                if name.endswith(".ko"):
                    self.files[name[:-3].replace("-", "_")] = os.path.join(root, name)

    def closure(self, names):
        order = []

        def visit(name):
            name = name.replace("-", "_")
            if name in order or name not in self.files:  # not there: built in
                return
            with open(self.files[name], "rb") as f:
                depends = re.search(rb"\0depends=([^\0]*)\0", f.read())
            for d in filter(None, (depends.group(1).decode() if depends else "").split(",")):
                visit(d)
            order.append(name)

        for n in names:
            visit(n)
        return order


# --- programs with their libraries -----------------------------------------------------------------------------------------------------


def is_elf(path):
    try:
        with open(path, "rb") as f:
            return f.read(4) == b"\x7fELF"
    except OSError:
        return False


def libraries(programs):
    """Every shared library (and loader) that these ELF files need, as the host's own loader finds them."""
    if not programs:
        return set()
    r = subprocess.run(["ldd", *programs], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = set()
    for line in r.stdout.decode().splitlines():
        m = re.match(r"\t(?:\S+ => )?(/\S+) \(0x", line)
        if m:
            found.add(m.group(1))
    return found


def which(name):
    for d in os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]:
        p = os.path.join(d, name)
        if os.path.isfile(p) and os.access(p, os.X_OK):
            return p
    return None


# --- archives ------------------------------------------------------------------------------------------------------------------------


class Tree:
    """Files to be packed, by their path inside. Directory links at the root (/bin -> usr/bin) are kept as the host has them."""

    def __init__(self):
        self.entries = {}  # path inside, no leading slash -> host path | bytes | ("link", target)

    def _canonical(self, path):
        parent, name = os.path.split(path)
        real = os.path.realpath(parent)
        top = "/" + path.strip("/").split("/")[0]
        if os.path.islink(top):
            self.entries.setdefault(top.strip("/"), ("link", os.readlink(top)))
        return os.path.join(real, name).lstrip("/")

    def add_file(self, host, inside=None):
        self.entries[self._canonical(inside or host)] = host

    def add_text(self, inside, data, executable=False):
        self.entries[self._canonical(inside)] = (data.encode(), 0o755 if executable else 0o644)

    def add_link(self, inside, target):
        self.entries.setdefault(self._canonical(inside), ("link", target))

    def add_dir(self, host, keep=lambda rel, is_dir: True):
        """A directory under its own path, links kept as links."""
        host = host.rstrip("/")
        for root, dirs, names in os.walk(host):
            rel = os.path.relpath(root, host)
            dirs[:] = [d for d in dirs if keep(os.path.normpath(os.path.join(rel, d)), True)]
            for n in names + [d for d in dirs if os.path.islink(os.path.join(root, d))]:
                path = os.path.join(root, n)
                if not keep(os.path.normpath(os.path.join(rel, n)), False):
                    continue
                if os.path.islink(path):
                    self.entries[path.lstrip("/")] = ("link", os.readlink(path))
                elif os.path.isfile(path):
                    self.entries[path.lstrip("/")] = path
            self.entries.setdefault(root.lstrip("/"), ("dir", None))

    def write_tar(self, out):
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            made = set()
            for path in sorted(self.entries):
                what = self.entries[path]
                parents = path.split("/")[:-1]
                for i in range(1, len(parents) + 1):
                    p = "/".join(parents[:i])
                    if p not in made and p not in self.entries:
                        made.add(p)
                        self._member(tar, p, ("dir", None))
                self._member(tar, path, what)

    @staticmethod
    def _member(tar, path, what):
        info = tarfile.TarInfo(path)
        info.mtime = 0
        if isinstance(what, str):
            try:
                with open(what, "rb") as f:
                    st = os.fstat(f.fileno())
                    info.size, info.mode, info.mtime = st.st_size, st.st_mode & 0o777, int(st.st_mtime)
                    tar.addfile(info, f)
            except (FileNotFoundError, PermissionError):
                return  # a file that a parallel build has just replaced
        elif what[0] == "link":
            info.type, info.linkname = tarfile.SYMTYPE, what[1]
            tar.addfile(info)
        elif what[0] == "dir":
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        else:
            info.size, info.mode = len(what[0]), what[1]
            tar.addfile(info, io.BytesIO(what[0]))

    def write_cpio(self, out):
        """The newc format that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst)."""
        inode = 0

        def member(name, mode, data):
            nonlocal inode
            inode += 1
            raw = name.encode() + b"\0"
            fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0]
            head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
            out.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

        made = set()
        for path in sorted(self.entries):
            parts = path.split("/")
            for i in range(1, len(parts)):
                p = "/".join(parts[:i])
                if p not in made and p not in self.entries:
                    made.add(p)
                    member(p, 0o040755, b"")
            what = self.entries[path]
            if isinstance(what, str):
                with open(what, "rb") as f:
                    member(path, 0o100000 | (os.stat(what).st_mode & 0o777), f.read())
            elif what[0] == "link":
                member(path, 0o120777, what[1].encode())
            elif what[0] == "dir":
                member(path, 0o040755, b"")
            else:
                member(path, 0o100000 | what[1], what[0])
        member("TRAILER!!!", 0, b"")


# --- the initrd ----------------------------------------------------------------------------------------------------------------------


def build_agent(out):
    run_tool("gcc", "-std=gnu17", "-D_GNU_SOURCE", "-Os", "-static", "-s", "-Wall", "-Wextra", "-o", out, os.path.join(HERE, "agent.c"), stderr=subprocess.PIPE)


def lean_module(path, work):
    """Without what costs simulated instructions at load time: the signature to verify, type information to register."""
    out = os.path.join(work, os.path.basename(path))
    run_tool("objcopy", "--strip-unneeded", "-R", ".BTF", "-R", ".BTF.ext", path, out, stderr=subprocess.PIPE)
    return out


def make_initrd(out, work, asset_dir, sim):
    agent = os.path.join(work, "agent")
    build_agent(agent)
    tree = Tree()
    put = tree.entries  # plain paths: an initrd needs no /bin -> usr/bin
    for d in ("proc", "sys", "dev", "run", "tmp", "ro", "root"):
        put[d] = ("dir", None)
    put["bin/agent"] = agent
    put["bin/busybox"] = os.path.join(asset_dir, "busybox")
    put["init"] = os.path.join(HERE, "outer-init")
    for name in BASE_TOOLS:
        path = which(name)
        if not path:
            raise LabError(f"{name} is missing; run tools/install-deps")
        put["bin/" + name] = path
        for lib in libraries([path]):
            put[lib.lstrip("/")] = lib
    modules = Modules(os.path.join(asset_dir, "modules"))
    by_cpu = ["kvm_intel", "kvm_amd"]
    order = [m for m in modules.closure(DRIVERS["common"] + DRIVERS[sim] + by_cpu) if m not in by_cpu]
    for name in order + by_cpu:
        put[f"modules/{name}.ko"] = lean_module(modules.files[name], work)
    put["modules/order"] = ("".join(m + "\n" for m in order).encode(), 0o644)
    with open(out, "wb") as f:
        tree.write_cpio(f)


def boot_version(sim):
    """Changes when anything that a kept machine was booted from changes."""
    h = hashlib.sha256()
    for name in ("agent.c", "outer-init", "image.py", f"{sim}.py", "forkserver.c"):
        path = os.path.join(HERE, name)
        if os.path.exists(path):
            with open(path, "rb") as f:
                h.update(f.read())
    with open(os.path.join(assets(), "package"), "rb") as f:
        h.update(f.read())
    return h.hexdigest()[:10]


# --- the disk of one run ---------------------------------------------------------------------------------------------------------------

NOT_SHIPPED = {".git", ".lab", "__pycache__"}


def ship_project(tree, build):
    """The project's tree at its own path, without history and without what only a build needs."""
    build_rel = os.path.relpath(build, TREE)

    def keep(rel, is_dir):
        name = os.path.basename(rel)
        top = rel.split("/")[0]
        if name in NOT_SHIPPED:
            return False
        if top.startswith("build") and not (build_rel + "/").startswith(top + "/"):
            return False
        if rel == build_rel or rel.startswith(build_rel + "/"):
            return not (name.endswith((".o", ".a", ".p", ".d", ".ninja")) or name.startswith("meson-"))
        return True

    tree.add_dir(TREE, keep)
    if build_rel.startswith(".."):
        tree.add_dir(build, lambda rel, d: not (rel.endswith((".o", ".a", ".p", ".d", ".ninja")) or os.path.basename(rel).startswith("meson-")))


def elf_files(tree, folder):
    """Programs under folder, for their libraries' sake."""
    prefix = folder.lstrip("/") + "/"
    found = []
    for inside, host in tree.entries.items():
        if inside.startswith(prefix) and isinstance(host, str) and os.access(host, os.X_OK) and is_elf(host):
            found.append(host)
    return found


def ship_tools(tree, extra, shipped_programs):
    programs = []
    for name in RUN_TOOLS + extra:
        path = name if "/" in name else which(name)
        if path:
            programs.append(path)
            tree.add_file(path)
            if "/" not in name and os.path.dirname(os.path.realpath(os.path.dirname(path))) not in ("/usr", "/"):
                tree.add_link("/usr/bin/" + name, path)
        elif name in extra:
            raise LabError(f"--with {name}: no such program on this machine")
    for lib in libraries([p for p in programs if is_elf(p)] + shipped_programs):
        tree.add_file(lib)


def ship_base(tree, asset_dir, agent):
    tree.add_file(agent, "/.lab/agent")
    tree.add_file(os.path.join(asset_dir, "busybox"), "/usr/bin/busybox")
    applets = run_tool(os.path.join(asset_dir, "busybox"), "--list", stdout=subprocess.PIPE).stdout.decode().split()
    present = {os.path.basename(p) for p in tree.entries if "/bin/" in "/" + p or "/sbin/" in "/" + p}
    for a in applets:
        if a not in present:
            tree.add_link("/usr/bin/" + a, "busybox")
    for d in ("bin", "sbin", "lib", "lib64"):
        if os.path.islink("/" + d):
            tree.entries[d] = ("link", os.readlink("/" + d))
    tree.add_text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    tree.add_text("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
    tree.add_text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
    hosts = "127.0.0.1 localhost\n" + "".join(f"10.77.0.{i + 1} node{n} {n.lower()}\n" for i, n in enumerate(NAMES))
    tree.add_text("/etc/hosts", hosts)
    for name in ("vmlinuz", "vmlinux", "config", "release", "package", "busybox", "initrd", "initrd.gz"):
        path = os.path.join(asset_dir, name)
        if os.path.exists(path):
            tree.add_file(path)


def make_disk(out, plan, asset_dir, agent, script):
    tree = Tree()
    ship_project(tree, plan.build)
    programs = elf_files(tree, plan.build)
    for share in plan.shares:
        if os.path.isdir(share):
            tree.add_dir(share)
            programs += elf_files(tree, share)
        elif os.path.isfile(share):
            tree.add_file(share)
            programs += [share] if is_elf(share) else []
        else:
            raise LabError(f"--share {share}: no such file or directory")
    ship_tools(tree, plan.programs, programs)
    ship_base(tree, asset_dir, agent)
    tree.add_text("/.lab/run", script, executable=True)
    tree.add_file(os.path.join(HERE, "on"), "/.lab/bin/on")
    tree.add_text("/.lab/now", f"{time.time():.0f}\n")
    if os.path.exists(out):
        os.unlink(out)
    argv = ["sqfstar", "-quiet", "-no-progress", "-no-xattrs", "-no-fragments", "-noI", "-noD", "-noF", "-noX", "-processors", "2", out]
    try:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as p:
            try:
                tree.write_tar(p.stdin)
                p.stdin.close()
            except BrokenPipeError:
                pass
            error = p.stderr.read().decode(errors="replace").strip()
            if p.wait() != 0:
                raise LabError(f"sqfstar: {error}")
    except FileNotFoundError:
        raise LabError("sqfstar is missing; run tools/install-deps (squashfs-tools)") from None
    size = os.path.getsize(out)
    if size > DISK_BYTES:
        raise LabError(f"tree, shares and tools are {size >> 20} MiB; the lab's disk holds {DISK_BYTES >> 20}")
    os.truncate(out, DISK_BYTES)


def quoted(words):
    return " ".join(shlex.quote(w) for w in words)
