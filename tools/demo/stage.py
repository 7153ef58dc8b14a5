"""What both acts of ./demo, and ./bench, are played on: telling a person what goes on, building, and running the lab."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = "ABCDEFGHIJKLMNOP"
# For the guest's kernel, besides what Tessera gives it (doc/boot-options.md). Less traffic between nodes: no accounting that all CPUs write; CPUs beyond the
# first start from user space. Less to simulate, and the same from run to run: the rest.
SPREAD = "rcupdate.rcu_expedited=1 cgroup_disable=memory psi=0 maxcpus=1 "
PLAIN = "quiet nokaslr"
APPEND = PLAIN + " mitigations=off init_on_alloc=0 audit=0 random.trust_cpu=on no_timer_check"
QUIET_S = 15  # say that we live at least so often


class Failed(Exception):
    """The demo failed; carries why."""


class Progress:
    """Lines with the time since the start, and a sign of life when there are none."""

    def __init__(self, who="demo"):
        self.who = who
        self.start, self.last, self.stage = time.monotonic(), time.monotonic(), ""
        self.done = threading.Event()
        threading.Thread(target=self._live, daemon=True).start()

    def say(self, text):
        self.last, self.stage = time.monotonic(), text
        print(f"{self.who}: {self.last - self.start:4.0f} s  {text}", file=sys.stderr, flush=True)

    def _live(self):
        while not self.done.wait(1):
            if time.monotonic() - self.last > QUIET_S:
                self.say(self.stage if self.stage.endswith(" ...") else self.stage + " ...")


def run_quietly(progress, what, argv, **more):
    progress.say(what)
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False, cwd=TREE, **more)
    if r.returncode:
        sys.stderr.write(r.stdout)
        raise Failed(f"{what}: {os.path.basename(argv[0])} ended with {r.returncode}")
    return r.stdout.strip().splitlines()[-1:] or [""]


def build(options, progress):
    if not os.path.exists(os.path.join(options.build, "build.ninja")):
        run_quietly(progress, "configuring the build", ["meson", "setup", options.build])
    run_quietly(progress, "building", ["ninja", "-C", options.build, "tessera"])


def alone(options, name):
    """One demo of this name at a time in a build directory: its folder is made afresh."""
    lock = open(os.path.join(options.build, name + ".lock"), "w", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed(f"another ./demo or ./bench is running in {options.build}") from None
    return lock


def on_signal(number, _):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Failed(f"interrupted by {signal.Signals(number).name}")


def in_lab(argv, follow):
    """Run ./lab, whose output `follow` reads; returns its exit status."""
    # In a session of its own: the terminal's ^C reaches it once, through us.
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True) as lab:
        try:
            follow(lab.stdout)
        except BaseException:
            lab.send_signal(signal.SIGINT)
            raise
        finally:
            lab.wait()
    return lab.returncode
