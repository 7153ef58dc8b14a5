"""What the lab's machine boots: kernel drivers, busybox, iproute2, the agent and outer-init. Knows nothing of the project, so that a booted
machine stays good while tessera changes."""

import hashlib
import os
import re
import subprocess

from common import HERE, LabError, Tree, assets, is_elf, libraries, run_tool, which

# Drivers of the outer machine; dependencies are found and loaded first. kvm-intel and kvm-amd are loaded by outer-init, which knows the CPU.
DRIVERS = {
    "common": ["kvm", "squashfs", "overlay", "bridge", "veth", "tls", "tun", "loop"],
    "tcg": ["virtio_pci", "virtio_blk", "virtio_net"],
    "bochs": ["ata_piix", "sd_mod"],
}
# Programs of the host that every run finds. They stay in the booted machine's memory: reading a disk is simulated too.
TOOLS = ["sh", "bash", "ip", "tc", "taskset", "script", "setpriv", "strace"]
# Programs that start programs: busybox's versions prefer its own applets to whatever PATH says.
TOOLS += ["env", "timeout", "setsid", "nohup", "nice", "xargs"]
ASSETS = ("vmlinuz", "vmlinux", "initrd", "initrd.gz")


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


def build_agent(out):
    run_tool("gcc", "-std=gnu17", "-D_GNU_SOURCE", "-Os", "-static", "-s", "-Wall", "-Wextra", "-o", out, os.path.join(HERE, "agent.c"), stderr=subprocess.PIPE)


def lean_module(path, work):
    """Without what costs simulated instructions at load time: the signature to verify, type information to register."""
    out = os.path.join(work, os.path.basename(path))
    run_tool("objcopy", "--strip-unneeded", "-R", ".BTF", "-R", ".BTF.ext", path, out, stderr=subprocess.PIPE)
    return out


def base_files():
    """The lower layer of a run's root file system: path inside -> host path."""
    tree = Tree()
    tools = [path for path in map(which, TOOLS) if path]
    for path in tools + sorted(libraries([p for p in tools if is_elf(p)])):
        tree.add_file(path)
    return tree.entries


def make_initrd(out, work, asset_dir, sim):
    agent = os.path.join(work, "agent")
    build_agent(agent)
    tree = Tree()
    put = tree.entries
    for d in ("proc", "sys", "dev", "run", "tmp", "ro", "root", "base"):
        put[d] = ("dir", None)
    put["bin/agent"] = agent
    put["bin/busybox"] = os.path.join(asset_dir, "busybox")
    put["init"] = os.path.join(HERE, "outer-init")
    for inside, source in base_files().items():
        put["base/root/" + inside] = source
        if os.path.basename(inside) == "ip":
            put["bin/ip"] = ("link", "../base/root/" + inside)
    if "bin/ip" not in put:
        raise LabError("ip is missing; run tools/install-deps")
    for d in ("lib", "lib64"):
        put[d] = ("link", "base/root/" + d)
    for name in ASSETS:
        put["base/assets/" + name] = os.path.join(asset_dir, name)
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
    simulator = ("bochs-build", "bochs.patch") if sim == "bochs" else ("tsc.c",)
    for name in ("agent.c", "outer-init", "initrd.py", f"{sim}.py", "bootdisk.py", "bootsector.S", "forkserver.c", *simulator):
        with open(os.path.join(HERE, name), "rb") as f:
            h.update(f.read())
    with open(os.path.join(assets(), "stamp"), "rb") as f:
        h.update(f.read())
    for inside, source in sorted(base_files().items()):
        h.update(inside.encode())
        if isinstance(source, str):
            st = os.stat(source)
            h.update(f"{st.st_size} {st.st_mtime}".encode())
    return h.hexdigest()[:10]
