#!/usr/bin/env python3
"""Seed one-line bugs in proto/page.c, proto/stop.c and proto/handoff.c, one at a time; the explorers must find every one of them.

usage: mutants.py SOURCE_ROOT WORK_DIR CC...          exit 1 if a mutant survives

A mutant is a text of the source (found exactly once, or the table is out of date) and what to put in its place.
"""
import concurrent.futures
import os
import signal
import subprocess
import sys

# (name, text in the source, replacement[, nodes it takes to see it[, arguments for the explorer ...]])
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

HANDOFF_MUTANTS = [
    ("the source keeps running what it ships", "act(s, HANDOFF_DO_FREEZE, h->self);\n", ""),
    ("commit before the target is ready", "if (h->state != HANDOFF_ASKING)\n\t\t\tbreak;\n\t\th->state = HANDOFF_FREEZING;",
     "if (h->state != HANDOFF_ASKING)\n\t\t\tbreak;\n\t\tsource_commit(s);\n\t\treturn;\n\t\th->state = HANDOFF_FREEZING;"),
    ("the source does not give it up", "act(s, HANDOFF_DO_RETIRE, h->self);\n", ""),
    ("ready after an abort commits", "if (h->state == HANDOFF_SHIPPED)\n\t\t\tsource_commit", "if (h->state != HANDOFF_HERE)\n\t\t\tsource_commit"),
    ("cancelled after the commit", "if (source_may_undo(h))\n\t\t\tsource_undo(s, true);", "if (source_may_undo(h) || h->state == HANDOFF_FORWARDING)\n\t\t\tsource_undo(s, true);"),
    ("the target runs at once", "h->state = HANDOFF_INSTALLING;\n\t\tact(s, HANDOFF_DO_INSTALL, h->peer);",
     "h->state = HANDOFF_INSTALLING;\n\t\tact(s, HANDOFF_DO_INSTALL, h->peer);\n\t\tact(s, HANDOFF_DO_RUN, h->self);"),
    ("the target never runs", "act(s, HANDOFF_DO_RUN, h->self);\n", ""),
    ("an abort is not answered", "target_drop(s);\n\t\tact_send(s, h->peer, HANDOFF_ABORTED, h->self);", "target_drop(s);"),
    ("an aborted copy stays", "act(s, HANDOFF_DO_DISCARD, s->h->self);\n", ""),
    ("an abort ends the wait for its answer", "if (tell)\n\t\tact_send(s, s->h->peer, HANDOFF_ABORT, s->h->self);\n\telse\n\t\tsource_rest(s);",
     "if (tell)\n\t\tact_send(s, s->h->peer, HANDOFF_ABORT, s->h->self);\n\tsource_rest(s);"),
    ("thawed only when captured", "if (s->h->state == HANDOFF_FREEZING || s->h->state == HANDOFF_SHIPPED) {", "if (s->h->state == HANDOFF_SHIPPED) {"),
    ("kept words forgotten when undone", "\t\tact(s, HANDOFF_DO_GIVE_ALL, s->h->self);\n", ""),
    ("kept words forgotten at commit", "\tact(s, HANDOFF_DO_PASS_ALL, h->peer);\n", ""),
    ("kept words go before the commit", "\tact_send(s, h->peer, HANDOFF_COMMIT, h->self);\n\tact(s, HANDOFF_DO_PASS_ALL, h->peer);",
     "\tact(s, HANDOFF_DO_PASS_ALL, h->peer);\n\tact_send(s, h->peer, HANDOFF_COMMIT, h->self);"),
    ("words delivered to what is captured", "else if (h->state == HANDOFF_SHIPPED || h->state == HANDOFF_READY || early)", "else if (h->state == HANDOFF_READY || early)"),
    ("direct words do not wait for the mark", "|| h->state == HANDOFF_READY || early)", "|| h->state == HANDOFF_READY)", 3, "--words", "2"), # one word cannot overtake
    ("direct words delivered before the commit", "h->state == HANDOFF_SHIPPED || h->state == HANDOFF_READY || early", "h->state == HANDOFF_SHIPPED || early"),
    ("the target's own words do not wait", "h->waiting = (uint16_t)(everybody(h) & ~bit(h->peer));", "h->waiting = (uint16_t)(everybody(h) & ~bit(h->peer) & ~bit(h->self));"),
    ("kept words of a sender forgotten at its mark", "\tact(s, HANDOFF_DO_GIVE, s->ev->node.v);\n", ""),
    ("settled at the first mark", "if (s->h->waiting)\n\t\treturn;\n", ""),
    ("done is not told", "\tact_send(s, s->h->coordinator, HANDOFF_DONE, s->h->self);\n", ""),
    ("undone is not told", "\tact_send(s, s->h->coordinator, HANDOFF_UNDONE, s->h->peer);\n", ""),
    ("the source forgets to forward", "act_send(s, h->peer, HANDOFF_WORD, sender);", "(void)sender;"),
    ("the source keeps delivering", "if (h->state == HANDOFF_FORWARDING)\n\t\tact_send(s, h->peer, HANDOFF_WORD, sender);\n\telse if", "if"),
    ("the source forgets too early", "if (!h->waiting)\n\t\th->state = HANDOFF_AWAY;", "h->state = HANDOFF_AWAY;"),
    ("marks do not go on", "act_send(s, h->peer, HANDOFF_MARK, who);", "(void)who;"),
    ("nobody is told where it went", "act_send(s, n, HANDOFF_MOVED, h->peer);", "(void)n;"),
    ("a bystander answers after it believes", "act_send(s, s->ev->from.v, HANDOFF_SWITCHED, h->self);\n\th->at = s->ev->node.v;",
     "h->at = s->ev->node.v;\n\tact_send(s, h->at, HANDOFF_SWITCHED, h->self);"),
    ("a bystander goes on without its target", "if (h->lost & bit(h->at))\n\t\tact_stop", "if (h->lost & bit(h->self))\n\t\tact_stop"),
    ("the source's own belief stays", "h->at = h->peer;\n\th->waiting", "h->waiting"),
    ("the target's own belief stays", "h->at = h->self;\n\th->waiting", "h->waiting"),
    ("a lost bystander is waited for", "else if (h->state == HANDOFF_FORWARDING && !peer && h->waiting & bit(who))\n\t\tsource_switched(s, who);\n", "", 3),
    ("who was lost before is waited for", "if (h->waiting & h->lost & bit(n))", "if (h->waiting & h->lost & bit(n) & 1)"),
    ("a lost target is waited for", "if (peer && (source_may_undo(h) || h->state == HANDOFF_UNDOING))", "if (peer && source_may_undo(h) && h->state != HANDOFF_SHIPPED)"),
    ("a lost target ends the VM", "if (who == h->at || (h->state == HANDOFF_ARRIVED && peer))", "if (who == h->at || peer)"),
    ("a lost source is not missed", "if (who == h->at || (h->state == HANDOFF_ARRIVED && peer))", "if (who == h->at)"),
    ("a lost holder is not missed", "if (who == h->at || (h->state == HANDOFF_ARRIVED && peer))", "if (h->state == HANDOFF_ARRIVED && peer)"),
    ("a source that takes over from itself", "else if (target_uncommitted(h) && peer)\n\t\ttarget_drop(s);", "else if (target_uncommitted(h) && peer)\n\t\ttarget_commit(s);"),
    ("a refusal keeps the room", "target_drop(s);\n\tact_send(s, s->h->peer, HANDOFF_REFUSED", "s->h->state = HANDOFF_AWAY;\n\tact_send(s, s->h->peer, HANDOFF_REFUSED"),
    ("a freeze that fails is not undone", "source_undo(s, true);\n\t\treturn;", "source_undo(s, false);\n\t\treturn;"),
    ("an order to who is lost is carried out", "if (h->lost & bit(h->peer))\n\t\tsource_rest(s);\n\telse\n\t\tact_send", "act_send"),
    ("the end of a move is not noted", "s->h->order = 0;\n", ""),
]

# source: (explorer's main, its other sources, arguments, mutants)
SUBJECTS = {
    "page": (["explore.c", "cluster.c", "cluster_text.c", "states.c", "fair.c", "../page_text.c"], ["--max-states", "3000000"], PAGE_MUTANTS),
    "stop": (["explore_stop.c", "states.c"], [], STOP_MUTANTS),
    "handoff": (["explore_handoff.c", "handover.c", "handover_text.c", "states.c"], [], HANDOFF_MUTANTS),
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
    _, old, new, nodes, *more = (*mutant, 3) if len(mutant) < 4 else mutant
    if source.count(old) != 1:
        return None, f"its text is in the source {source.count(old)} times, not once"
    with open(path + ".c", "w", encoding="utf-8") as out:
        out.write(source.replace(old, new))
    subprocess.run([*cc, *FLAGS, "-I", os.path.join(root, "src"), path + ".c", *objects, "-o", path], check=True)
    try:
        run = subprocess.run([path, "--nodes", str(nodes), *args, *more], capture_output=True, text=True, timeout=120, check=False)
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
