#!/usr/bin/env python3
"""What a VM would boot from a disk: `tessera image info` on images of every shape, whole, odd, damaged and hostile. usage: test_image.py TESSERA

Images are made here, small, with mke2fs and by hand. The copies that a VM would boot are taken from the child that makes them."""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

from cluster import Failed, check

SECTOR = 512
MUTANTS = 300
tessera = None
scratch = None


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def make_fs(files, size_kib=4096, links=(), options=()):
    """An ext4 file system that holds {path: bytes}."""
    tree = tempfile.mkdtemp(dir=scratch)
    for path, data in files.items():
        write(tree + path, data)
    for path, to in links:
        os.symlink(to, tree + path)
    image = os.path.join(scratch, "fs.img")
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-d", tree, "-U", "11111111-2222-3333-4444-555555555555", *options, image, f"{size_kib}k"],
                   check=True, capture_output=True)
    with open(image, "rb") as f:
        data = f.read()
    os.unlink(image)
    shutil.rmtree(tree)
    return data


def gpt(parts):
    """A disk with these partitions, one after the other from 1 MiB on. Only what readers look at."""
    entries, at, body = b"", 2048, b""
    for part in parts:
        last = at + len(part) // SECTOR - 1
        entries += b"\x01" * 32 + struct.pack("<QQ", at, last) + bytes(80)
        body += part
        at = last + 1
    entries = entries.ljust(128 * 128, b"\0")
    head = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, at + 33, 34, at, b"\2" * 16, 2, 128, 128, zlib.crc32(entries))
    disk = mbr([(0xEE, 1, at)])[:SECTOR] + head.ljust(SECTOR, b"\0") + entries
    return disk.ljust(2048 * SECTOR, b"\0") + body + bytes(34 * SECTOR)


def mbr(parts):
    table = b"".join(struct.pack("<B3xB3xII", 0, kind, at, count) for kind, at, count in parts)
    return bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"


def info(data):
    """(exit status, document) of `tessera image info --json`."""
    path = os.path.join(scratch, "disk.img")
    write(path, data)
    done = subprocess.run([tessera, "image", "info", "--json", path], capture_output=True, text=True, timeout=90)
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        raise Failed(f"status {done.returncode}, no document: {done.stdout[:200]!r} {done.stderr[:400]!r}") from None


def copies(data):
    """What the child hands to a VM: the kernel's and the initrd's bytes."""
    disk, kernel, initrd = (tempfile.TemporaryFile(dir=scratch) for _ in range(3))
    disk.write(data)
    disk.flush()
    out, end = os.pipe()
    keep = [os.dup(fd) for fd in (disk.fileno(), end, kernel.fileno(), initrd.fileno())]

    def place():
        high = [os.dup2(fd, 40 + k) for k, fd in enumerate(keep)]
        for k, fd in enumerate(high):
            os.dup2(fd, 3 + k)

    subprocess.run([tessera, "bootdisk", "copy"], preexec_fn=place, close_fds=False, check=True, timeout=90)
    for fd in keep + [out, end]:
        os.close(fd)
    kernel.seek(0)
    initrd.seek(0)
    return kernel.read(), initrd.read()


SYSTEM = {"/boot/vmlinuz-6.1.0-9-amd64": b"old", "/boot/initrd.img-6.1.0-9-amd64": b"old", "/boot/vmlinuz-6.1.0-10-amd64": b"new kernel" * 30000,
          "/boot/initrd.img-6.1.0-10-amd64": b"new initrd" * 50000, "/etc/os-release": b"ID=debian", "/boot/vmlinuz-6.1.0-11-amd64.old": b"no"}


def test_whole_disk():
    data = make_fs(SYSTEM, options=["-L", "mine"])
    status, found = info(data)
    check(status == 0 and found["table"] == "none" and found["kernel"] == "/boot/vmlinuz-6.1.0-10-amd64", f"{status} {found}")
    check(found["initrd"] == "/boot/initrd.img-6.1.0-10-amd64" and found["append"] == "root=UUID=11111111-2222-3333-4444-555555555555", found)
    check(found["file_systems"][0]["label"] == "mine" and found["file_systems"][0]["type"] == "ext4" and found["disk_bytes"] == 4 << 20, found)
    kernel, initrd = copies(data)
    check(kernel == SYSTEM["/boot/vmlinuz-6.1.0-10-amd64"] and initrd == SYSTEM["/boot/initrd.img-6.1.0-10-amd64"], "other bytes than in the image")


def test_partitions():
    boot = make_fs({k[5:]: v for k, v in SYSTEM.items() if k.startswith("/boot")})
    root = make_fs({"/sbin/init": b"x"}, options=["-U", "99999999-2222-3333-4444-555555555555"])
    for disk in (gpt([bytes(1 << 20), boot, root]), gpt([root, boot]),
                 mbr([(0x83, 2048, len(boot) // SECTOR), (0x83, 2048 + len(boot) // SECTOR, len(root) // SECTOR)]).ljust(1 << 20, b"\0") + boot + root):
        status, found = info(disk)
        check(status == 0 and found["kernel"] == "/vmlinuz-6.1.0-10-amd64" and found["append"] == "root=UUID=99999999-2222-3333-4444-555555555555", found)
        check(copies(disk)[0] == SYSTEM["/boot/vmlinuz-6.1.0-10-amd64"], "other bytes than in the image")


def test_links_and_plain_names():
    status, found = info(make_fs({"/boot/image": b"k"}, links=[("/vmlinuz", "boot/image"), ("/initrd.img", "nowhere")]))
    check(status == 0 and found["kernel"] == "/vmlinuz" and found["initrd"] is None and found["append"] is None, found)
    status, found = info(make_fs({"/boot/config": b""}, links=[("/vmlinuz", "vmlinuz"), ("/boot/vmlinuz-1", "vmlinuz-2"), ("/boot/vmlinuz-2", "vmlinuz-1")]))
    check(status == 0 and found["kernel"] is None, found)


def test_nothing_inside():
    for data, seen in ((make_fs({"/etc/os-release": b"x"}), "ext4"), (bytes(1 << 20), None), (b"XFSB".ljust(1 << 20, b"\0"), "xfs"), (b"x", None),
                       (mbr([(0xee, 1, 100)]).ljust(4096, b"\0"), None)):
        status, found = info(data)
        check(status == 0 and found["kernel"] is None and found["file_systems"][0]["type"] == seen, f"{status} {found}")
    for data in (b"QFI\xfb".ljust(1 << 16, b"\0"), b"\x1f\x8b".ljust(4096, b"\0")):
        status, found = info(data)
        check(status == 3 and "qemu-img" in found["error"]["todo"], found)
    done = subprocess.run([tessera, "image", "info", os.path.join(scratch, "none")], capture_output=True, text=True)
    check(done.returncode == 3 and "cannot open" in done.stderr, done.stderr)
    done = subprocess.run([tessera, "image", "info", "/dev/null"], capture_output=True, text=True)
    check(done.returncode == 3 and "no disk" in done.stderr, done.stderr)


def test_lies():
    data = bytearray(make_fs(SYSTEM))
    cut = bytes(data[:900 << 10])
    status, found = info(cut)
    check(status == 0 or "error" in found, found)
    status, found = info(gpt([bytes(data)])[:3 << 20]) # a partition that ends beyond the disk
    check(status in (0, 3), found)
    path = os.path.join(scratch, "huge.img")
    write(path, make_fs({"/boot/vmlinuz-1": b"k", "/etc/os-release": b"x"}))
    huge = subprocess.run(["debugfs", "-w", "-R", "sif /boot/vmlinuz-1 size 0x7fffffff", path], capture_output=True, text=True)
    check(huge.returncode == 0, huge.stderr)
    with open(path, "rb") as f:
        kernel, _ = copies(f.read())
    check(kernel == b"", "a kernel of 2 GiB was copied")


def test_damage():
    """Whatever bytes are wrong, looking ends by itself: with an answer, or with a refusal."""
    data = make_fs(SYSTEM, size_kib=2048)
    interesting = [k for k in range(0, len(data), 64) if any(data[k:k + 64])]
    rng = random.Random(7)
    outcomes = {}
    for _ in range(MUTANTS):
        bad = bytearray(data)
        for _ in range(rng.choice((1, 2, 8, 64))):
            at = rng.choice(interesting) + rng.randrange(64)
            bad[at] = rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))
        status, found = info(bytes(bad))
        check(status in (0, 3), f"{status} {found}")
        what = found.get("error", {}).get("what", "kernel" if found.get("kernel") else "none")
        check("signal" not in what, f"looking was ended: {what}")
        outcomes[what[:40]] = outcomes.get(what[:40], 0) + 1
    check(outcomes.get("kernel", 0) > MUTANTS // 10, f"hardly any of the damaged images still has its kernel: {outcomes}")


TESTS = (test_whole_disk, test_partitions, test_links_and_plain_names, test_nothing_inside, test_lies, test_damage)


def main():
    global tessera, scratch
    tessera = sys.argv[1]
    if not shutil.which("mke2fs") or not shutil.which("debugfs"):
        print("SKIP: no mke2fs or debugfs; run tools/install-deps")
        return 77
    failed = 0
    for test in TESTS:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                test()
                print(f"ok {test.__name__}")
            except Failed as e:
                print(f"FAILED {test.__name__}: {e}")
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
