/* A whole cluster in virtual time: N fragments with many pages, the real page_step() and stop_step() in each, frames with real bytes, threads
 * that read and write them, a cache budget, prefetches, minimum holds, links with delays that are cut, nodes that crash or hang, and peers that
 * talk nonsense. One seed is one run, always the same.
 *
 *     sim.c         a run: what is set up, what goes wrong when, what must hold at the end
 *     sim_net.c     the queue of what happens next, and links that keep order
 *     sim_node.c    a fragment: carries out what the machines say
 *     sim_load.c    threads: what they do to memory and what they expect to find there
 *
 * The oracle knows the bytes of the last write that retired on each page. A write retires only where the frame is writable, so
 * every read, anywhere, must find exactly these bytes (I2): a wrong byte ends the program. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "proto/page.h"
#include "proto/stop.h"

enum {
	SIM_NODES_MAX = 8,
	SIM_PAGES_MAX = 48,
	SIM_THREADS_MAX = 3, /* of a node */
	SIM_BYTES = 32,      /* of a page here */
	SIM_HOLD_US = 100,
	SIM_SILENCE_US = 1000000,
	SIM_DEADLINE_US = 2000000,
};

enum sim_what {
	SIM_LETTER, SIM_STREAM_END, /* arrives at 'node' from 'from' */
	SIM_HOLD_END, SIM_FAULT,    /* at 'node', 'page' */
	SIM_THREAD,                 /* thread 'index' of 'node' goes on */
	SIM_SILENCE,                /* 'node' has heard nothing from 'from' for too long, if that still hangs */
	SIM_DEADLINE,
	SIM_TROUBLE,                /* the run's plan strikes */
};

/* Something that will happen. */
struct sim_event {
	uint64_t at_us, order;
	enum sim_what what;
	uint8_t node, from, index, write;
	uint16_t page;
	uint32_t epoch;           /* of the link it travels on */
	bool stop;                /* a letter: 'cause', else 'msg' about 'page' */
	struct stop_cause cause;
	enum page_msg msg;
	enum page_bytes bytes;
	uint8_t data[SIM_BYTES];
};

struct sim_thread {
	bool waiting, writes; /* waiting: for 'page' */
	uint16_t page;
	unsigned done;
};

struct sim_node {
	struct page page[SIM_PAGES_MAX];
	struct page_dir dir[SIM_PAGES_MAX]; /* of pages at home here */
	bool present[SIM_PAGES_MAX], writable[SIM_PAGES_MAX];
	uint8_t frame[SIM_PAGES_MAX][SIM_BYTES], buffer[SIM_BYTES];
	struct sim_thread thread[SIM_THREADS_MAX];
	unsigned threads, budget; /* frames of others' pages here, at most */
	struct stop stop;
	bool crashed, frozen;
	uint64_t hangs_until_us;
};

struct sim_link {
	uint32_t epoch;    /* letters of an earlier one are lost */
	uint64_t busy_us;  /* when the last letter arrives */
	bool closed;
};

enum sim_plan { SIM_PEACE, SIM_END, SIM_TWO_ENDS, SIM_CUT, SIM_CRASH, SIM_HANG, SIM_SHORT_HANG, SIM_NONSENSE, SIM_PLANS };

struct sim {
	uint64_t seed, random, now_us, orders, until_us;
	struct sim_event *heap;
	unsigned events, room;
	unsigned nodes, pages;
	bool trace, disorder, draining;
	uint8_t home[SIM_PAGES_MAX];
	uint8_t oracle[SIM_PAGES_MAX][SIM_BYTES];
	struct sim_node node[SIM_NODES_MAX];
	struct sim_link link[SIM_NODES_MAX][SIM_NODES_MAX];
	enum sim_plan plan;
	uint8_t struck; /* whom the plan struck; 0xff nobody */
	struct {
		uint64_t letters, bytes, reads, writes, faults, evictions, discards, retries;
	} count;
};

/* Ends the program, telling the seed. */
_Noreturn void sim_fail(const struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void sim_say(const struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* sim_net.c */
uint64_t sim_random(struct sim *s, uint64_t below);
void sim_later(struct sim *s, struct sim_event e, uint64_t delay_us);
bool sim_next(struct sim *s, struct sim_event *e); /* false: nothing happens any more */
void sim_send(struct sim *s, struct sim_event letter); /* from letter.from to letter.node; lost if the link is closed */
void sim_close(struct sim *s, uint8_t from, uint8_t to); /* after what is under way, the other end sees the end of the stream */
void sim_cut(struct sim *s, uint8_t a, uint8_t b);       /* what is under way is lost */
bool sim_arrives(const struct sim *s, const struct sim_event *e);

/* sim_node.c */
void node_init(struct sim *s, uint8_t n);
void node_take(struct sim *s, const struct sim_event *e);
void node_local(struct sim *s, uint8_t n, uint16_t page, enum page_event_kind kind);
void node_stop(struct sim *s, uint8_t n, struct stop_event ev);
bool node_runs(const struct sim *s, uint8_t n);
bool node_make_room(struct sim *s, uint8_t n, uint16_t page); /* for a page of another home; false: not now */
unsigned node_cached(const struct sim *s, uint8_t n);

/* sim_load.c */
void load_thread(struct sim *s, uint8_t n, uint8_t index);
void load_wake(struct sim *s, uint8_t n, uint16_t page);

#endif
