/* See meeting.h. */
#include "node/meeting.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rundir.h"
#include "base/text.h"
#include "node/asks.h"
#include "node/dial.h"

struct meeting {
	struct meeting *next;
	struct daemon *daemon;
	struct member *member;   /* whom we dial; NULL: accepted, or joining */
	bool joining, closed;
	unsigned tries;
	struct addr address;  /* joining */
	struct dial dial;
	struct channel *channel;
	struct loop_timer patience; /* for an answer; between tries to join */
	struct loop_task grave;
};

static void bury(struct loop_task *t)
{
	free((char *)t - offsetof(struct meeting, grave));
}

void meeting_close(struct meeting *m)
{
	struct meeting **at;

	if (!m || m->closed)
		return;
	m->closed = true;
	for (at = &m->daemon->meetings; *at != m;)
		at = &(*at)->next;
	*at = m->next;
	if (m->dial.busy)
		dial_stop(&m->dial);
	channel_close(m->channel);
	m->channel = NULL;
	loop_disarm(&m->daemon->loop, &m->patience);
	m->grave.run = bury;
	loop_later(&m->daemon->loop, &m->grave);
}

/* It came to nothing: try again, or leave that to the member. */
static void fail(struct meeting *m, const char *why)
{
	struct member *member = m->member;

	channel_close(m->channel);
	m->channel = NULL;
	if (m->joining) {
		char text[ADDR_TEXT_BYTES];

		addr_print(&m->address, text);
		if (m->tries++ % 20 == 0)
			log_info("waiting for the daemon at %s: %s", text, why);
		loop_arm(&m->daemon->loop, &m->patience, MEMBERS_REDIAL_MS);
		return;
	}
	meeting_close(m);
	if (member)
		members_missed(member);
}

static void hello(struct daemon *d, struct channel *c)
{
	CHANNEL_SEND(c, node_hello, .version = WIRE_VERSION, .node = channel_name(d->name), .address = channel_text(d->address_text),
		.incarnation = d->incarnation, .cpus = (uint32_t)d->lent.cpus, .memory = d->lent.memory);
}

/* Whom the other side says it is: may it be a member? */
static int judge(struct daemon *d, const struct control_node_hello *h, struct failure *f)
{
	struct member *m = members_find(d, h->node.s);
	struct addr a;

	if (h->version != WIRE_VERSION)
		return failure_set(f, -EPROTONOSUPPORT, "run the same version of tessera on all nodes", "node %s speaks version %u of the protocol, node %s version %u",
		                   h->node.s, h->version, d->name, (unsigned)WIRE_VERSION);
	if (!rundir_good_name(h->node.s) || addr_parse(&a, h->address.s, NULL))
		return failure_set(f, -EINVAL, "give the node a name of letters and digits", "that is no name and address of a node");
	if (strcmp(h->node.s, d->name) == 0)
		return failure_set(f, -EEXIST, "choose another --name", h->incarnation == d->incarnation ? "node %s cannot join itself" : "there is already a node named %s",
		                   d->name);
	if (m && m->link && m->incarnation != h->incarnation && strcmp(m->address, h->address.s) != 0)
		return failure_set(f, -EEXIST, "choose another --name, or end that daemon first", "there is already a node named %s, at %s", m->name, m->address);
	return 0;
}

/* Of two streams between the same two daemons, the one dialled by the smaller name stays; of two dialled by the same one, the newer. */
static bool keep_old(struct daemon *d, const struct member *m, const struct control_node_hello *h, bool dialed_by_us)
{
	if (!m->link || m->incarnation != h->incarnation || m->dialed_by_us == dialed_by_us)
		return false;
	return m->dialed_by_us == (strcmp(d->name, m->name) < 0);
}

static void introduce(struct meeting *m, const struct control_node_hello *h)
{
	struct daemon *d = m->daemon;
	bool dialed_by_us = m->member || m->joining;
	struct member *member = members_find(d, h->node.s);
	struct channel *c = m->channel;

	if (!member)
		member = members_add(d, h->node.s, h->address.s);
	if (!member) {
		fail(m, "too many nodes");
		return;
	}
	if (m->member && m->member != member) {
		fail(m, "another node answers there");
		return;
	}
	m->channel = NULL;
	if (member->meeting == m)
		member->meeting = NULL;
	meeting_close(m);
	if (keep_old(d, member, h, dialed_by_us)) {
		channel_close(c);
		return;
	}
	member->incarnation = h->incarnation;
	TEXT_SET(member->address, h->address.s);
	member->lent = (struct amount){h->cpus, h->memory};
	if (!dialed_by_us)
		hello(d, c);
	members_link(member, c, dialed_by_us);
}

static void on_hello(struct meeting *m, const uint8_t *body, size_t bytes)
{
	struct control_node_hello in;
	struct failure f = {0};

	if (control_get_node_hello(body, bytes, &in)) {
		m->daemon->garbage++;
		fail(m, "it does not speak our language");
		return;
	}
	if (!judge(m->daemon, &in, &f)) {
		introduce(m, &in);
		return;
	}
	log_warn("refused: %s", f.what);
	CHANNEL_SEND(m->channel, node_refuse, .code = (uint32_t)-f.err, .what = channel_text(f.what), .todo = channel_text(f.todo));
	channel_finish(m->channel);
	m->channel = NULL;
	if (m->joining)
		daemon_stop(m->daemon, &f);
	else
		fail(m, f.what);
}

static void on_refuse(struct meeting *m, const uint8_t *body, size_t bytes)
{
	struct control_node_refuse in;
	struct failure f = {0};

	if (control_get_node_refuse(body, bytes, &in)) {
		m->daemon->garbage++;
		fail(m, "it does not speak our language");
		return;
	}
	failure_set(&f, in.code ? -(int)in.code : -EPROTO, in.todo.s, "%s", in.what.s);
	if (m->joining) {
		daemon_stop(m->daemon, &f);
		return;
	}
	log_warn("node %s refuses us: %s", m->member ? m->member->name : "?", in.what.s);
	fail(m, in.what.s);
}

static void frame(void *owner, struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	struct meeting *m = owner;

	if (id == CONTROL_node_hello) {
		on_hello(m, body, bytes);
	} else if (id == CONTROL_node_refuse && (m->member || m->joining)) {
		on_refuse(m, body, bytes);
	} else if (id == CONTROL_hello && !m->member && !m->joining) {
		struct daemon *d = m->daemon;

		m->channel = NULL;
		meeting_close(m);
		asks_take(d, c, id, body, bytes);
	} else {
		m->daemon->garbage++;
		log_warn("dropped a connection to the peer port that said nothing a daemon says");
		fail(m, "it does not speak our language");
	}
}

static void closed(void *owner, struct channel *c, int err)
{
	struct meeting *m = owner;

	if (m->channel != c)
		return;
	m->channel = NULL;
	if (err == -EBADMSG) {
		m->daemon->garbage++;
		log_warn("dropped a connection to the peer port that said nothing a daemon says");
	}
	fail(m, err ? strerror(-err) : "it closed the connection");
}

static const struct channel_ops ops = {.frame = frame, .closed = closed};

static void dial_again(struct meeting *m);

static void patience_over(struct loop_timer *t)
{
	struct meeting *m = (struct meeting *)((char *)t - offsetof(struct meeting, patience));

	if (m->joining && !m->channel)
		dial_again(m);
	else
		fail(m, "no answer");
}

static void dialed(struct dial *dial, int fd, int err)
{
	struct meeting *m = (struct meeting *)((char *)dial - offsetof(struct meeting, dial));

	if (!err)
		err = channel_open(&m->channel, &m->daemon->loop, fd, &ops, m);
	if (err) {
		fail(m, strerror(-err));
		return;
	}
	hello(m->daemon, m->channel);
	loop_arm(&m->daemon->loop, &m->patience, MEMBERS_PATIENCE_MS);
}

static void dial_again(struct meeting *m)
{
	int err = dial_start(&m->dial, &m->daemon->loop, &m->address, MEMBERS_PATIENCE_MS, dialed);

	if (err)
		fail(m, strerror(-err));
}

static struct meeting *meeting_new(struct daemon *d)
{
	struct meeting *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	*m = (struct meeting){.next = d->meetings, .daemon = d, .patience.fire = patience_over};
	d->meetings = m;
	return m;
}

void meeting_accept(struct daemon *d, int fd)
{
	struct meeting *m = meeting_new(d);

	if (!m) {
		close(fd);
		return;
	}
	dial_tune(fd);
	if (channel_open(&m->channel, &d->loop, fd, &ops, m))
		meeting_close(m);
	else
		loop_arm(&d->loop, &m->patience, MEMBERS_PATIENCE_MS);
}

int meeting_dial(struct member *member, struct meeting **slot)
{
	struct meeting *m;
	struct failure f = {0};
	int err;

	m = meeting_new(member->daemon);
	if (!m)
		return -ENOMEM;
	m->member = member;
	err = addr_parse(&m->address, member->address, &f);
	if (!err)
		err = dial_start(&m->dial, &member->daemon->loop, &m->address, MEMBERS_PATIENCE_MS, dialed);
	if (err)
		meeting_close(m);
	else
		*slot = m;
	return err;
}

int meeting_join(struct daemon *d, const char *address, struct failure *f)
{
	struct meeting *m = meeting_new(d);
	int err;

	if (!m)
		return failure_set(f, -ENOMEM, "free some memory", "out of memory");
	m->joining = true;
	err = addr_parse(&m->address, address, f);
	if (err)
		meeting_close(m);
	else
		dial_again(m);
	return err;
}

void meeting_close_all(struct daemon *d)
{
	while (d->meetings)
		meeting_close(d->meetings);
}
