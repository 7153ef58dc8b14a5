/* The other daemons: who they are, whether they are heard, and the one link to each.
 *
 *            node_member, or an unknown node said node_hello
 *     (unknown) -----------------> LOST <-----------------------------.
 *                                   | node_hello both ways            | link broke, or silent for MEMBERS_SILENT_MS
 *                                   v                                 |
 *                                   UP -------------------------------'
 *                                   | node_leave, then the link closes
 *                                   v
 *                                  LEFT   (shown as such while it has parts of VMs; dialled on, in case it is only restarted)
 *
 * Two daemons that dial each other at once keep the stream that the one with the smaller name dialled. A second daemon of a name is refused
 * while the first is heard; the same name at the same address is the first one restarted. */
#ifndef NODE_MEMBERS_H
#define NODE_MEMBERS_H

#include "node/channel.h"
#include "node/daemon.h"
#include "wire/control.h"

enum {
	MEMBERS_MAX = 256,
	MEMBERS_BEAT_MS = 500,
	MEMBERS_SILENT_MS = 2000,
	MEMBERS_REDIAL_MS = 500,
	MEMBERS_PATIENCE_MS = 5000, /* for the first frame of a stream */
};

struct member {
	struct member *next;
	struct daemon *daemon;
	char name[NAME_BYTES], address[ADDR_TEXT_BYTES];
	uint64_t incarnation;
	enum control_node_state state;
	struct channel *link; /* in state UP only */
	bool dialed_by_us;    /* the link was */
	bool seen;            /* said hello since we started */
	uint64_t heard_ms, rtt_us;
	struct amount lent, used;
	struct meeting *meeting; /* our own try to reach it */
	struct loop_timer redial;
	/* The doctor's bandwidth check in flight (node/checks.h). */
	struct checks *echo;
};

/* For meeting.c: a newcomer; the stream that is now its link; our own try to reach it came to nothing. */
struct member *members_add(struct daemon *d, const char *name, const char *address);
void members_link(struct member *m, struct channel *c, bool dialed_by_us);
void members_missed(struct member *m);

struct member *members_find(struct daemon *d, const char *name);
void members_start(struct daemon *d);
void members_close(struct daemon *d);
/* What we have lent has changed: tell it now, so that it is known before the news it belongs to. */
void members_beat(struct daemon *d);

/* Tell every linked daemon. */
void members_tell(struct daemon *d, const uint8_t *frame, size_t bytes);

#define MEMBERS_TELL(d, name, ...) do { \
	uint8_t frame_[WIRE_FRAME_MAX]; \
	struct control_##name message_ = {__VA_ARGS__}; \
	members_tell((d), frame_, control_put_##name(&message_, frame_, sizeof frame_)); \
} while (0)

#endif
