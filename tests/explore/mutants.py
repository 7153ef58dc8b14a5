#!/usr/bin/env python3
"""Seed one-line bugs in proto/page.c and proto/stop.c, one at a time; the explorers must find every one of them.

usage: mutants.py SOURCE_ROOT WORK_DIR CC...          exit 1 if a mutant survives

A mutant is a text of the source (found exactly once, or the table is out of date) and what to put in its place.
"""
import concurrent.futures
import os
import signal
import subprocess
import sys

# (name, text in the source, replacement[, nodes it takes to see it])
PAGE_MUTANTS = [
    ("duplicate read sends again",
     "else if (s->p->pending == PAGE_IDLE)\n\t\tpage_request(s, PAGE_READING);",
     "else if (s->p->pending != PAGE_WRITING)\n\t\tpage_request(s, PAGE_READING);"),
    ("writer forgotten behind a prefetch",
     "page_request(s, PAGE_WRITING);\n\telse if (s->p->pending == PAGE_PREFETCHING)",
     "page_request(s, PAGE_WRITING);\n\telse if (s->p->pending == PAGE_READING)"),
    ("evict during the hold", "if (s->d || s->p->held || s->p->pending", "if (s->d || s->p->pending"),
    ("evict while a request is in flight", "if (s->d || s->p->held || s->p->pending != PAGE_IDLE)", "if (s->d || s->p->held)"),
    ("evict at the home", "if (s->d || s->p->held ||", "if (s->p->held ||"),
    ("evict drops modified bytes", "PAGE_WRITE_BACK, PAGE_TAKEN);", "PAGE_DROP, PAGE_NONE);"),
    ("evict does not stop writers", "act(s, PAGE_DO_PROTECT);\n\t\tact_take(s);\n\t\tact_zap(s);", "act_take(s);\n\t\tact_zap(s);"),
    ("discard of a page that is held", "if (s->p->state != PAGE_M || s->p->held || s->p->pending", "if (s->p->state != PAGE_M || s->p->pending"),
    ("discard of a shared page", "if (s->p->state != PAGE_M || s->p->held", "if (s->p->state == PAGE_I || s->p->held"),
    ("discard does not stop writers", "act(s, PAGE_DO_PROTECT);\n\tact_zap(s);\n\tif (s->d)", "act_zap(s);\n\tif (s->d)"),
    ("the home remembers what it discarded", "s->d->owner = 0;\n\t\ts->d->touched = 0;", "s->d->owner = 0;"),
    ("the home owns what it discarded", "s->d->owner = 0;\n\t\ts->d->touched = 0;", "s->d->touched = 0;"),
    ("inv keeps the frame", "if (s->p->state != PAGE_I)\n\t\tact_zap(s);\n\tact_send(s, s->home, PAGE_ACK",
     "if (s->p->state == PAGE_M)\n\t\tact_zap(s);\n\tact_send(s, s->home, PAGE_ACK"),
    ("inv answered before the zap",
     "if (s->p->state != PAGE_I)\n\t\tact_zap(s);\n\tact_send(s, s->home, PAGE_ACK, PAGE_NONE);",
     "act_send(s, s->home, PAGE_ACK, PAGE_NONE);\n\tif (s->p->state != PAGE_I)\n\t\tact_zap(s);"),
    ("fetch_s leaves the frame writable", "act(s, PAGE_DO_PROTECT);\n\ts->p->state = PAGE_S;\n\tact_send", "s->p->state = PAGE_S;\n\tact_send"),
    ("fetch_s stays M", "s->p->state = PAGE_S;\n\tact_send(s, s->home, PAGE_DATA", "act_send(s, s->home, PAGE_DATA"),
    ("fetch_m keeps a copy", "act_take(s);\n\tact_zap(s);\n\tact_send(s, s->home, PAGE_DATA, PAGE_TAKEN);",
     "act_take(s);\n\ts->p->state = PAGE_S;\n\tact_send(s, s->home, PAGE_DATA, PAGE_TAKEN);"),
    ("recall does not wait for the hold", "if (s->p->held)\n\t\ts->p->recalled = (uint8_t)(1 + msg); /* I9 */\n\telse if",
     "if (s->p->held > 1)\n\t\ts->p->recalled = (uint8_t)(1 + msg); /* I9 */\n\telse if"),
    ("recall lost at the hold's end", "if (s->p->held || !recalled)", "if (s->p->held || recalled)"),
    ("second hold ends with the first", "s->p->held++;", "s->p->held = 1;"),
    ("grant of a read is not held", "may have come since */\n\tif (waited)", "may have come since */\n\tif (!waited)"),
    ("writable grant of a read is not held", "act_install(s, PAGE_M, bytes);\n\t}\n\tif (waited)", "act_install(s, PAGE_M, bytes);\n\t}\n\tif (!waited)"),
    ("writable grant of a read is refused", "return asked && (p->state == PAGE_S)", "return p->pending == PAGE_WRITING && (p->state == PAGE_S)"),
    ("waiters not woken after a write-back", "act(s, PAGE_DO_WAKE); /* at the home only", "(void)0; /* at the home only"),
    ("grant of a write leaves the request pending", "s->p->pending = PAGE_IDLE;\n\tif (bytes == PAGE_NONE)", "if (bytes == PAGE_NONE)"),
    ("home's hold ignored", "if (s->p->held) {\n\t\ts->p->recalled", "if (s->p->held > 2) {\n\t\ts->p->recalled"),
    ("home's own recall forgotten", "s->d->awaiting &= (uint16_t)~bit(s->self);\n\t\tdir_finish(s);\n", "s->d->awaiting &= (uint16_t)~bit(s->self);\n"),
    ("home's frame left writable", "act(s, PAGE_DO_PROTECT);\n\t\ts->p->state = PAGE_S;\n\t\ts->d->owner = 0;", "s->p->state = PAGE_S;\n\t\ts->d->owner = 0;"),
    ("home keeps its copy when another writes", "if (!node_eq(to, s->self) && s->p->state != PAGE_I)\n\t\tact_zap(s);", ""),
    ("writer's fetch leaves the owner a copy", "write ? PAGE_FETCH_M : PAGE_FETCH_S", "PAGE_FETCH_S"),
    ("one sharer not invalidated", "(uint16_t)~(bit(n) | bit(s->self))", "(uint16_t)~(bit(n) | bit(s->self) | bit((node_t){2}))"),
    ("first ack ends the wait for all", "s->d->awaiting &= (uint16_t)~bit(from);\n\tdir_finish", "s->d->awaiting = 0;\n\tdir_finish"),
    ("upgrade granted to who holds nothing", "s->d->sharers & bit(to) ? PAGE_NONE : dir_bytes(s);", "s->d->sharers ? PAGE_NONE : dir_bytes(s);"),
    ("grant_m forgets to clear the sharers", "s->d->sharers = 0;\n\ts->d->owner", "s->d->owner"),
    ("written page still counts as zero", "s->d->touched = 1;", "s->d->touched = 0;"),
    ("written-back bytes taken for zero", "s->d->owner = 0;\n\ts->d->touched = bytes != PAGE_ZERO;", "s->d->owner = 0;\n\ts->d->touched = 0;"),
    ("fetched bytes taken for zero", "s->d->touched = bytes != PAGE_ZERO;\n\t\tif", "s->d->touched = 0;\n\t\tif"),
    ("old bytes granted for known zeros", "return s->d->touched ? act_take(s) : PAGE_ZERO;", "return PAGE_ZERO;"),
    ("fetched bytes not kept at the home", "if (!node_eq(dir_served(s), s->self))\n\t\t\tdir_settle(s, bytes);", ""),
    ("old owner forgotten as sharer", "s->d->sharers = bit(from);", "s->d->sharers = 0;"),
    ("write-back leaves the owner", "s->d->owner = 0;\n\ts->d->touched = bytes", "s->d->touched = bytes"),
    ("write-back into a fetch is lost", "touched = bytes != PAGE_ZERO;\n\tdir_settle(s, bytes);", "touched = bytes != PAGE_ZERO;\n\tif (!s->d->awaiting)\n\t\tdir_settle(s, bytes);"),
    ("drop ignored", "s->d->sharers &= (uint16_t)~bit(from);\n}", "(void)from;\n}"),
    ("directory does not block", "want && !d->serving; i++", "want; i++"),
    ("next request not served after an ack", "dir_finish(s);\n\tdir_next(s);\n}\n\nstatic void dir_data", "dir_finish(s);\n}\n\nstatic void dir_data"),
    ("lowest node always first", "(d->last + i) % NODES_MAX", "(i - 1) % NODES_MAX", 4), # with three, whoever is next never has a rival
    ("turns not remembered", "d->last = n.v;", ""),
]

STOP_MUTANTS = [
    ("a peer's stop is not passed on", "actions |= STOP_DO_FREEZE | STOP_DO_TELL | STOP_DO_KEEP;",
     "actions |= STOP_DO_FREEZE | STOP_DO_KEEP | (ev->kind == STOP_EV_CAUSE ? STOP_DO_TELL : 0u);"),
    ("told before the freeze", "actions |= STOP_DO_FREEZE | STOP_DO_TELL | STOP_DO_KEEP;", "actions |= STOP_DO_TELL | STOP_DO_KEEP;"),
    ("told again for a better cause", "s->verdict = cause;\n\t\tactions |= STOP_DO_KEEP;", "s->verdict = cause;\n\t\tactions |= STOP_DO_KEEP | STOP_DO_TELL;"),
    ("ends before all are heard", "s->told.reason != STOP_NONE && s->waiting == 0)", "s->told.reason != STOP_NONE)"),
    ("first cause heard is the verdict", "&& stop_outranks(cause, s->verdict)) {", "&& false) {"),
    ("last cause heard is the verdict", "&& stop_outranks(cause, s->verdict)) {", "&& true) {"),
    ("a closing peer is taken for lost", "} else if (ev->kind == STOP_EV_HEARD && stop_outranks(cause, s->verdict)) {",
     "} else if (ev->kind == STOP_EV_LOST) {"),
    ("an own cause comes too late and counts", "} else if (ev->kind == STOP_EV_HEARD && stop_outranks", "} else if (cause.reason && stop_outranks"),
    ("a lost link is not noticed", "return (struct stop_cause){STOP_LOST, ev->from};", "break;"),
    ("deadline ignored", "\telse if (ev->kind == STOP_EV_DEADLINE)\n\t\ts->waiting = 0;\n", ""),
    ("the wrong node is blamed", "(struct stop_cause){STOP_LOST, ev->from}", "(struct stop_cause){STOP_LOST, {0}}"),
]

# source: (explorer's main, its other sources, arguments, mutants)
SUBJECTS = {
    "page": (["explore.c", "cluster.c", "cluster_text.c", "states.c", "fair.c", "../page_text.c"], ["--max-states", "3000000"], PAGE_MUTANTS),
    "stop": (["explore_stop.c", "states.c"], [], STOP_MUTANTS),
}
FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-O1", "-w"]


def compile_parts(root, work, cc, parts):
    objects = []
    for part in [os.path.join("tests/explore", p) for p in parts] + ["src/base/ensure.c"]:
        objects.append(os.path.join(work, os.path.basename(part) + ".o"))
        subprocess.run([*cc, *FLAGS, "-I", root, "-I", os.path.join(root, "src"), "-c", os.path.join(root, part), "-o", objects[-1]], check=True)
    return objects


def verdict(run):
    """What the explorer said, or None if the mutant survived."""
    if run.returncode == -signal.SIGABRT:
        return run.stderr.strip().split("\n")[-1].replace("tessera: bug: ", "assertion: ").split(" at ")[0]
    if run.returncode != 1 or "violation: " not in run.stdout:
        return None
    steps = sum(line.startswith(("  node", *(f"  {n} " for n in range(5)))) for line in run.stdout.split("\n"))
    return run.stdout.split("violation: ")[1].split("\n")[0] + f" ({steps} steps)"


def try_mutant(mutant, path, root, cc, objects, source, args):
    """path: of the mutant's files, without ending. Returns what killed it or None, and what the explorer said last."""
    _, old, new, nodes = (*mutant, 3)[:4]
    if source.count(old) != 1:
        return None, f"its text is in the source {source.count(old)} times, not once"
    with open(path + ".c", "w", encoding="utf-8") as out:
        out.write(source.replace(old, new))
    subprocess.run([*cc, *FLAGS, "-I", os.path.join(root, "src"), path + ".c", *objects, "-o", path], check=True)
    try:
        run = subprocess.run([path, "--nodes", str(nodes), *args], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return None, "the explorer did not end in 120 s"
    return verdict(run), (run.stdout.strip() or "it said nothing").split("\n")[-1]


def try_subject(name, root, work, cc):
    parts, args, mutants = SUBJECTS[name]
    with open(os.path.join(root, f"src/proto/{name}.c"), encoding="utf-8") as lines:
        source = lines.read()
    objects, survivors = compile_parts(root, work, cc, parts), 0

    def one(number):
        return try_mutant(mutants[number], os.path.join(work, f"{name}_{number}"), root, cc, objects, source, args)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for mutant, (why, said) in zip(mutants, pool.map(one, range(len(mutants)))):
            survivors += why is None
            print(f"{'killed  ' if why else 'SURVIVED'} {name}: {mutant[0]:46s} {why or said}", flush=True)
    print(f"mutants of {name}.c: {len(mutants) - survivors} of {len(mutants)} killed", flush=True)
    return survivors


def main():
    root, work, cc = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.makedirs(work, exist_ok=True)
    return sum(try_subject(name, root, work, cc) for name in SUBJECTS) > 0


if __name__ == "__main__":
    sys.exit(main())
