"""What the lab's parts share: where things are, how tools are called, and files packed by their path inside (tar, cpio)."""

import io
import os
import re
import subprocess
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
DISK_BYTES = 4 << 30  # fixed: the booted machine has already seen the size of its disk
NAMES = "ABCDEFGHIJKLMNOP"


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
