/* Page coherence: what one node does about one guest page. A pure machine: no I/O, no clock, no heap, no threads.
 *
 * MSI with a blocking directory at the page's home. All messages of a page pass between its home and one other node; two
 * other nodes never speak to each other about it. The transport delivers in order per pair of nodes (contract, not hope).
 *
 *            write fault: get_m                  (at the home the same requests are made of the directory in-process)
 *      I ------------------------> M         (a read may come out here, too: the home may grant a get_s as if it were a get_m)
 *      | read fault: get_s       ^ |  fetch_s: protect, take, answer data, stay S
 *      v                         | |  fetch_m: protect, take, zap, answer data, go I
 *      S ------------------------' |  evict: protect, take, zap, write_back, go I
 *      |  write fault: get_m (grant without data if still a sharer when the home serves it)
 *      |  inv: zap, ack, go I (a Shared frame is write-protected already)        evict: zap, drop, go I (not at the home)
 *      v
 *      I
 *
 * The home serves one request at a time (it blocks: 'serving'), the others wait as bits, round-robin:
 *
 *      idle --get_s, no owner-----------------------------------------------------------------> grant_s, idle
 *      idle --get_s, owner o--> fetch_s to o --data: install S at the home--------------------> grant_s, idle
 *      idle --get_m, owner o--> fetch_m to o --data: pass it on, the home keeps nothing-------> grant_m, idle
 *      idle --get_m, sharers--> inv to all at once --every ack: then the home's own copy goes-> grant_m, idle
 *      write_back: install S at the home at any time; if it crossed a fetch, the ack that follows lets the request go on from there
 *      the home's own copy is asked for in-process, last, and may have to wait for its hold like any other
 *
 * Choices: in S the home holds a copy, so dropping a Shared copy elsewhere loses nothing; a page held M elsewhere costs its home no frame.
 * A page that is all zero as far as the home knows (nobody has touched it, or its owner last sent zeros: 'touched' is 0) needs no frame anywhere:
 * grants say "zero", no bytes travel, and the home need not hold a copy even while others hold it S.
 * Each inv/fetch gets exactly one answer: data, or ack ("I hold nothing": it was dropped or written back in flight; in-order delivery means the
 * write-back has already arrived at the home).
 * A hold begins with every grant somebody waits for, so that the faulting instruction can retire; a prefetched page that nobody waited for is
 * not held: it may be taken or evicted at once.
 *
 * A page that node after node reads and then writes (migratory data) costs each a read and an upgrade. Who drives the home's machine may see that
 * and have reads served as writes ('exclusive' of an event); which reads, is policy (mem/migrate.h): the invariants hold whatever is chosen.
 * Bytes that are worth nothing any more (a page that the guest reports as free) are discarded by their owner: a write of zeros and an eviction in
 * one step, so that no frame is left anywhere and nothing is sent but the flag.
 *
 * Invariants (cited by tests as I1..):
 *  I1  one writer: if any node holds M, no other node holds M or S.
 *  I2  freshness: a copy held S or M carries the bytes of the last write that retired anywhere.
 *  I3  at most one request of a node for a page is in flight; duplicate faults send nothing.
 *  I4  never answer before gone: an ack or data answer that gives up rights is emitted after the local protect/zap of the same step.
 *  I5  the directory covers: at rest, owner/sharers in the directory include every holder; exactly, when no drop is in flight.
 *  I6  in S the home holds a copy (or the bytes are zero and it knows); the last copy of non-zero bytes is never dropped.
 *  I7  each inv/fetch is answered exactly once; each get is granted exactly once (or the VM stops).
 *  I8  progress: with hold ends delivered, every pending fault is granted after finitely many steps; requests for a page are served in round-robin order.
 *  I9  a held page is not taken before its hold has ended; the request is remembered, not lost.
 * I10  bounded: every step emits at most PAGE_ACTIONS_MAX actions; state is fixed-size; a node sends the home at most one request, one give-up
 *      (drop, write_back) and one answer that are unread, the home sends a node at most one recall and one grant.
 */
#ifndef PROTO_PAGE_H
#define PROTO_PAGE_H

#include "base/types.h"

enum page_state { PAGE_I, PAGE_S, PAGE_M };

/* Messages of the machine; wire/peer.h carries each with or without its bytes. */
enum page_msg {
	PAGE_GET_S, PAGE_GET_M, PAGE_DROP, PAGE_WRITE_BACK,   /* to the home */
	PAGE_INV, PAGE_FETCH_S, PAGE_FETCH_M,                  /* from the home */
	PAGE_ACK, PAGE_DATA,                                   /* answers to the home */
	PAGE_GRANT_S, PAGE_GRANT_M,                            /* from the home */
	PAGE_MSGS
};

/* Does a message or an install carry bytes, and which? */
enum page_bytes {
	PAGE_NONE, /* carries nothing (an upgrade grant, an ack) */
	PAGE_ZERO, /* known to be all zero: a flag travels */
	PAGE_DATA_IN,  /* the bytes of the message being handled (may turn out all zero: the driver sends the zero form of the message then) */
	PAGE_TAKEN,    /* the bytes that an earlier PAGE_DO_TAKE of this step put in the transfer buffer */
};

enum page_event_kind {
	PAGE_EV_READ, PAGE_EV_WRITE,    /* a fault of a local thread; it waits until an install, upgrade or wake */
	PAGE_EV_PREFETCH,               /* like a read, but nobody waits; ignored unless I and idle */
	PAGE_EV_EVICT,                  /* give the frame back if that is allowed now; ignored at the home, in I, while held and while a request is pending */
	PAGE_EV_DISCARD,                /* the bytes are worth nothing: zeros instead, and the frame back, if M, not held and nothing is pending; else ignored */
	PAGE_EV_HOLD_END,               /* the minimum hold begun by PAGE_DO_HOLD is over */
	PAGE_EV_MSG,                    /* 'msg' arrived from 'from' */
};

struct page_event {
	enum page_event_kind kind;
	enum page_msg msg;      /* PAGE_EV_MSG */
	node_t from;            /* PAGE_EV_MSG */
	enum page_bytes bytes;  /* PAGE_EV_MSG: PAGE_NONE, PAGE_ZERO or PAGE_DATA_IN */
	bool exclusive;         /* PAGE_GET_S: serve it as if it were PAGE_GET_M. Says nothing elsewhere */
};

/* What the driver must do, in order. Waiters that are woken retry their access; if it faults again, that is a new event. */
enum page_action_kind {
	PAGE_DO_SEND,     /* msg to 'to' with 'bytes' */
	PAGE_DO_INSTALL,  /* make the frame present: state S = write-protected, M = writable; from 'bytes' (never NONE); wake waiters */
	PAGE_DO_UPGRADE,  /* S -> M in place: lift write protection, wake waiters */
	PAGE_DO_PROTECT,  /* write-protect the local frame; writers stop and queue */
	PAGE_DO_TAKE,     /* copy the (protected) local frame to the transfer buffer */
	PAGE_DO_ZAP,      /* unmap and free the local frame; it is provably gone on return */
	PAGE_DO_WAKE,     /* the fault is already satisfied: wake waiters */
	PAGE_DO_HOLD,     /* start the minimum hold; deliver PAGE_EV_HOLD_END later, exactly once for each (two may run at a time: S, then its upgrade) */
};

struct page_action {
	enum page_action_kind kind;
	enum page_msg msg;
	node_t to;
	enum page_bytes bytes;
	enum page_state state; /* PAGE_DO_INSTALL */
};

enum { PAGE_ACTIONS_MAX = 2 * NODES_MAX + 8 };
struct page_actions {
	struct page_action at[PAGE_ACTIONS_MAX];
	unsigned n;
};

/* Why a node waits for the home. At most one request is in flight (I3). */
enum page_pending {
	PAGE_IDLE,
	PAGE_PREFETCHING, /* get_s, nobody waits for it; granted S or M */
	PAGE_READING,     /* get_s, somebody waits (a writer too, if it came later: it faults again if the page comes S); granted S or M */
	PAGE_WRITING,     /* get_m */
};

/* What one node knows of one page. All zero = I, idle. */
struct page {
	uint8_t state;    /* enum page_state */
	uint8_t pending;  /* enum page_pending */
	uint8_t held;     /* minimum holds running, 0 to 2; not in I */
	uint8_t recalled; /* 0, or the inv/fetch that waits for the hold's end: 1 + enum page_msg */
};

/* What the home knows besides. All zero = untouched: held by nobody, all zero bytes. */
struct page_dir {
	uint16_t sharers;   /* nodes holding S, home included; empty while there is an owner */
	uint16_t want_s, want_m; /* requests waiting their turn, by node */
	uint16_t awaiting;  /* answers outstanding for the request being served */
	uint8_t owner;      /* 1 + node holding M, 0 none */
	uint8_t serving;    /* 1 + node being served, 0 idle (the directory blocks while not 0) */
	uint8_t serving_m;  /* it wants M */
	uint8_t last;       /* last node served, for round-robin */
	uint8_t touched;    /* the bytes may differ from zero; 0: every copy is zero and none need be kept */
	uint8_t spare[3];
};

/* Take one event of the page at node 'self'. dir is NULL unless self is the page's home. On 0 the driver carries out *out, in order, before
 * the page's next event. A message that the sender may not send in this state (malice or a broken peer) returns -EPROTO, changes nothing and
 * leaves *out empty. Local events never fail. Any thread
 * that owns the page; asserts only on our own bugs (a hold end that was not owed, a dir at the wrong node). */
int page_step(struct page *p, struct page_dir *dir, node_t self, node_t home, const struct page_event *ev, struct page_actions *out) MUST_CHECK;

const char *page_state_name(enum page_state s);
const char *page_msg_name(enum page_msg m);

#endif
