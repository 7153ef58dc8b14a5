"""The lab without a simulator: on a host whose own KVM runs stock kernels in a correct MMU mode, nodes are network namespaces of the host."""

import json
import os
import shutil
import subprocess
import tempfile

from common import LabError, assets, run_tool, which
from initrd import build_agent
from run_script import script_on_host
from tcg import die_with_parent

NEEDED = ("stock kernel", "mmu", "userfaultfd")  # the doctor's checks that decide


def probe(build):
    """(can nodes live on this host?, why). Says no when it cannot be sure."""
    if os.geteuid() != 0:
        return False, "not root: namespaces and /dev/kvm cannot be used"
    if not os.path.exists("/dev/kvm"):
        return False, "no /dev/kvm"
    if not which("unshare") or not which("ip"):
        return False, "unshare or ip is missing"
    tessera = os.path.join(build, "tessera")
    if not os.path.exists(tessera):
        return False, f"{tessera} is not built, so its doctor cannot try KVM"
    try:
        r = subprocess.run([tessera, "doctor", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=False)
        checks = {c["check"]: c for c in json.loads(r.stdout)["checks"]}
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        return False, "the doctor gave no answer"
    for name in NEEDED:
        if checks.get(name, {}).get("level") != "OK":
            return False, f"{name}: {checks.get(name, {}).get('found', 'not checked')}"
    return True, "its KVM runs stock kernels, and walks of guest page tables only read"


def run(plan):
    """Returns the command's status. Everything lives in one process namespace, which the kernel empties when its first process dies."""
    if os.geteuid() != 0:
        raise LabError("--sim host needs root")
    plan.assets = assets()
    plan.cpu_list = sorted(os.sched_getaffinity(0))
    os.makedirs(os.path.join(plan.state, "runs"), exist_ok=True)
    run_dir = tempfile.mkdtemp(dir=os.path.join(plan.state, "runs"))
    process = None
    try:
        if plan.disk:
            plan.disk_inside = os.path.join(run_dir, "disk")
            run_tool("cp", "--sparse=always", plan.disk, plan.disk_inside)
        agent, script = os.path.join(run_dir, "on"), os.path.join(run_dir, "run")
        build_agent(agent)
        out_dir = plan.out or os.path.join(run_dir, "out")
        os.makedirs(out_dir, exist_ok=True)
        with open(script, "w", encoding="utf-8") as f:
            f.write(script_on_host(plan, out_dir, run_dir))
        run_tool("sh", "-n", script)
        argv = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "sh", script]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, start_new_session=True)
        try:
            status = process.wait(timeout=plan.timeout)
        except subprocess.TimeoutExpired:
            print(f"lab: timed out after {plan.timeout} s", file=os.sys.stderr)
            return 124
        return 128 - status if status < 0 else status
    finally:
        if process:
            process.kill()
            process.wait()
        shutil.rmtree(run_dir, ignore_errors=True)
