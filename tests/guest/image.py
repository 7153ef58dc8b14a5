#!/usr/bin/env python3
"""`tessera image build`: a small image is made, is clean, has its kernel, and boots in QEMU's TCG with a seed; what goes wrong leaves nothing behind.
usage: image.py TESSERA [build|fails]...

Needs a mirror of Debian's packages that answers; without one it says SKIP."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BUILD_S, BOOT_S = 900, 600
STOP_S = 30  # far less than the rest of the build
SKIP = 77
RELEASE = "bookworm"
# hvc0 and the agent's port, as a VM of Tessera has them.
CONSOLES = ["-chardev", "null,id=null", "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=null", "-chardev", "null,id=agent", "-device",
            "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]


class Failed(Exception):
    """A check did not hold."""


def check(condition, what):
    if not condition:
        raise Failed(what)


def mirror():
    """The mirror that apt would use, if it answers."""
    done = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(LABEL)", "Created-By: Packages"], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        uri, release, label = line.split("|")
        if release == RELEASE and label == "Debian":
            with tempfile.TemporaryDirectory() as d:
                os.chmod(d, 0o755)
                got = subprocess.run(["/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1", "download-file",
                                      f"{uri}dists/{release}/InRelease", f"{d}/InRelease"], capture_output=True, timeout=120)
            return uri if got.returncode == 0 else None
    return None


class Place:
    """A folder for the output and one for the script's work; both must be empty in the end."""

    def __init__(self, tessera):
        self.tessera = tessera

    def __enter__(self):
        self.root = tempfile.mkdtemp(prefix="tessera-image-test-")
        self.out, self.work = os.path.join(self.root, "out"), os.path.join(self.root, "work")
        os.mkdir(self.out)
        os.mkdir(self.work)
        os.chmod(self.root, 0o755)
        self.env = dict(os.environ, TMPDIR=self.work)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self, *args):
        return subprocess.Popen([self.tessera, "image", "build", "-o", os.path.join(self.out, "small.img"), *args], env=self.env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True)

    def refused(self, words, *args):
        p = self.start(*args)
        out, err = p.communicate(timeout=BUILD_S)
        check(p.returncode != 0 and words in err and not out, f"status {p.returncode}, wanted '{words}': {err}")

    def left(self):
        found = [os.path.join(d, f) for d in (self.out, self.work) for f in os.listdir(d)]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if self.work.encode() in f.read() and int(pid) != os.getpid():
                        found.append(f"process {pid}")
            except OSError:
                pass
        with open("/proc/mounts", encoding="utf-8") as f:
            found += [line for line in f if self.work in line]
        return found


def fails(tessera):
    with Place(tessera) as p:
        p.refused("no mirror answers", "--mirror", "http://127.0.0.1:9/debian")
        p.refused("has no package no-such-package-here", "--package", "no-such-package-here,zsh")
        check(not p.left(), f"left behind by refusals: {p.left()}")
        taken = os.path.join(p.out, "small.img")
        with open(taken, "w", encoding="utf-8") as f:
            f.write("mine")
        p.refused("already there")
        with open(taken, encoding="utf-8") as f:
            check(f.read() == "mine", "a file was overwritten")
        os.unlink(taken)
        for words, sig in (("fetching packages", signal.SIGINT), ("setting up packages", signal.SIGTERM), ("setting up packages", signal.SIGKILL)):
            build = p.start()
            end = time.monotonic() + BUILD_S
            for line in build.stderr:
                if words in line or time.monotonic() > end:
                    break
            check(words in line, f"no '{words}' seen: {line}")
            build.send_signal(sig)
            out, err = build.communicate(timeout=STOP_S)
            check(build.returncode == (-sig if sig == signal.SIGKILL else 1) and not out, f"status {build.returncode} {out}")
            check(sig == signal.SIGKILL or "interrupted; nothing was left behind" in err, err)
            end = time.monotonic() + STOP_S
            while sig == signal.SIGKILL and p.left() and time.monotonic() < end: # nobody waited for the script then
                time.sleep(0.1)
            check(not p.left(), f"left behind by signal {sig}: {p.left()}")
    print("ok   fails")


def boot(tessera, image, folder):
    """A login prompt, the seed's name and key, and its user data has run; the machine switches itself off."""
    found = json.loads(subprocess.run([tessera, "image", "info", "--json", image], check=True, capture_output=True, text=True).stdout)
    key, user_data, seed = (os.path.join(folder, name) for name in ("key.pub", "user-data", "seed.img"))
    with open(key, "w", encoding="utf-8") as f:
        f.write("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMarkOfTheTest0000000000000000000000000000 test\n")
    with open(user_data, "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\n(echo; echo MARK begin; hostname; cat /home/debian/.ssh/authorized_keys; echo FAILED: $(systemctl --failed --plain --no-legend)\n"
                "echo ACTIVE: $(systemctl is-active ssh systemd-networkd serial-getty@hvc0 qemu-guest-agent)\n"
                "echo ENABLED: $(systemctl is-enabled apt-daily.timer e2scrub_reap.service)\n"
                "findmnt -no OPTIONS /; echo MARK end) >/dev/console\npoweroff\n")
    subprocess.run([tessera, "image", "seed", "--name", "vm", "--hostname", "seeded", "--ssh-key", key, "--user-data", user_data, "-o", seed], check=True)
    for name, path in (("kernel", found["kernel"]), ("initrd", found["initrd"])):
        subprocess.run(["debugfs", "-R", f"dump {path} {folder}/{name}", image], check=True, capture_output=True)
    done = subprocess.run(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1G", "-nographic", "-no-reboot", "-kernel", f"{folder}/kernel", "-initrd",
                           f"{folder}/initrd", "-append", f"{found['append']} console=ttyS0 panic=-1", "-drive", f"file={image},if=virtio,format=raw", "-drive",
                           f"file={seed},if=virtio,format=raw,readonly=on", "-nic", "none", *CONSOLES], stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_S)
    text = done.stdout.decode(errors="replace").replace("\r", "")
    tail = text[-3000:]
    check(" login: " in text, f"no login prompt: {tail}")
    check("MARK begin" in text and "MARK end" in text, f"the user data did not run: {tail}")
    said = text[text.index("MARK begin"):text.rindex("MARK end")]
    check("seeded\n" in said and "MarkOfTheTest" in said, f"the seed was not applied: {said}")
    check("ACTIVE: active active active active\n" in said and "ENABLED: disabled disabled\n" in said, f"not what an image runs: {said}")
    check("fsck not present" not in text, "the initrd does not check the root")
    check("FAILED:\n" in said and "rw" in said, f"units failed: {said}")


def build(tessera):
    with Place(tessera) as p:
        began = time.monotonic()
        work = p.start("--package", "hello", "--size", "1G", "--json")
        out, err = work.communicate(timeout=BUILD_S)
        check(work.returncode == 0, f"status {work.returncode}: {err[-3000:]}")
        image = os.path.join(p.out, "small.img")
        check(p.left() == [image], f"left behind: {p.left()}")
        found = json.loads(out)
        check(found["disk_bytes"] == 1 << 30 and "cloud-amd64" in found["kernel"] and found["initrd"] and found["append"].startswith("root=UUID="), out)
        clean = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
        check(clean.returncode == 0, clean.stdout)
        shown = subprocess.run(["debugfs", "-R", "stat /usr/bin/hello", image], capture_output=True, text=True).stdout
        check("Type: regular" in shown and "User:     0" in shown, f"the package is not there, or not root's: {shown}")
        check("File not found" in subprocess.run(["debugfs", "-R", "stat /etc/ssh/ssh_host_rsa_key", image], capture_output=True, text=True).stderr,
              "the image has a host key")
        print(f"ok   build: {time.monotonic() - began:.0f} s, {os.stat(image).st_blocks // 2048} MiB")
        began = time.monotonic()
        boot(tessera, image, p.work)
        print(f"ok   boot: {time.monotonic() - began:.0f} s")


def main():
    tessera, names = sys.argv[1], sys.argv[2:]
    for tool in ("mmdebstrap", "mke2fs", "debugfs", "qemu-system-x86_64", "apt-get"):
        if not shutil.which(tool):
            print(f"SKIP: no {tool}; run tools/install-deps")
            return SKIP
    if not mirror():
        print(f"SKIP: no mirror of Debian {RELEASE} answers (apt-get update; network?)")
        return SKIP
    for name in names:
        try:
            {"build": build, "fails": fails}[name](tessera)
        except Failed as e:
            print(f"FAIL {name}: {e}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
