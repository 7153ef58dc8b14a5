"""The disk that carries one run into the booted machine: a squashfs without compression (unpacking would be simulated too) that becomes the
root file system: tools with their libraries, the project's tree, the shared directories, the guest assets and the script."""

import os
import subprocess
import time

from common import DISK_BYTES, NAMES, TREE, LabError, Tree, is_elf, libraries, run_tool, which
from initrd import ASSETS, base_files

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


def ship_programs(tree, names, base):
    """Programs asked for by --with, and the libraries of everything, except for what the booted machine has already."""
    for name in names:
        path = os.path.abspath(name) if "/" in name else which(name)
        if not path or not os.path.exists(path):
            raise LabError(f"--with {name}: no such program on this machine")
        tree.add_file(path)
    programs = [p for p in tree.entries.values() if isinstance(p, str) and os.access(p, os.X_OK) and is_elf(p)]
    for lib in libraries(programs):
        tree.add_file(lib)
    for inside in base:
        tree.entries.pop(inside, None)


def ship_system(tree, asset_dir, agent, base):
    tree.add_file(agent, "/.lab/agent")
    tree.add_link("/.lab/bin/on", "../agent")
    tree.add_file(os.path.join(asset_dir, "busybox"), "/usr/bin/busybox")
    applets = run_tool(os.path.join(asset_dir, "busybox"), "--list", stdout=subprocess.PIPE).stdout.decode().split()
    present = {os.path.basename(p) for p in [*tree.entries, *base] if "bin/" in p}
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
    for name in ("config", "release", "package", "busybox"):
        tree.add_file(os.path.join(asset_dir, name))
    for name in ASSETS:  # the booted machine holds them in memory; outer-init mounts them there
        tree.entries.pop(os.path.join(asset_dir, name).lstrip("/"), None)
        tree.add_link(os.path.join(asset_dir, name), "/.lab/assets/" + name)


def make_disk(out, plan, agent, script):
    tree, base = Tree(), base_files()
    ship_project(tree, plan.build)
    for share in plan.shares:
        if os.path.isdir(share):
            tree.add_dir(share)
        elif os.path.isfile(share):
            tree.add_file(share)
        else:
            raise LabError(f"--share {share}: no such file or directory")
    ship_programs(tree, plan.programs, base)
    ship_system(tree, plan.assets, agent, base)
    tree.add_text("/.lab/run", script, executable=True)
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
    if plan.disk:
        put_disk(out, plan.disk, size)


def put_disk(out, disk, taken):
    """A copy of the disk that --disk names goes to the end of the run's own, where the run may write to it."""
    size = os.path.getsize(disk)
    if size % 4096 or taken + size > DISK_BYTES:
        raise LabError(f"--disk {disk} must be whole blocks of 4 KiB and fit beside the {taken >> 20} MiB of the run, in {DISK_BYTES >> 20} MiB")
    copy = ["dd", f"if={disk}", f"of={out}", "bs=1M", f"seek={DISK_BYTES - size}B", "conv=notrunc,sparse", "status=none"]
    run_tool(*copy, stderr=subprocess.PIPE)
