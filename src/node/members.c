/* See members.h: links between daemons. The meeting of two strangers is in meeting.c. */
#include "node/members.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "node/checks.h"
#include "node/meeting.h"
#include "node/parts.h"
#include "node/vms.h"

struct member *members_find(struct daemon *d, const char *name)
{
	struct member *m = d->members;

	while (m && strcmp(m->name, name) != 0)
		m = m->next;
	return m;
}

void members_tell(struct daemon *d, const uint8_t *frame, size_t bytes)
{
	for (struct member *m = d->members; m; m = m->next)
		if (m->link)
			channel_send(m->link, frame, bytes);
}

static void redial(struct loop_timer *t)
{
	struct member *m = (struct member *)((char *)t - offsetof(struct member, redial));

	if (m->link || m->meeting)
		return;
	if (meeting_dial(m, &m->meeting))
		loop_arm(&m->daemon->loop, &m->redial, MEMBERS_REDIAL_MS);
}

void members_missed(struct member *m)
{
	m->meeting = NULL;
	if (!m->link)
		loop_arm(&m->daemon->loop, &m->redial, MEMBERS_REDIAL_MS);
}

static void forget(struct member *m)
{
	struct member **at = &m->daemon->members;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	loop_disarm(&m->daemon->loop, &m->redial);
	meeting_close(m->meeting);
	checks_lost(m);
	free(m);
}

/* The link is gone. */
static void lose(struct member *m, const char *why)
{
	struct daemon *d = m->daemon;

	channel_close(m->link);
	m->link = NULL;
	checks_lost(m);
	if (m->state == CONTROL_NODE_UP) {
		m->state = CONTROL_NODE_LOST;
		log_warn("node %s is lost: %s; trying to reach it again at %s", m->name, why, m->address);
	} else {
		log_info("node %s has left", m->name);
	}
	parts_node_lost(d, m->name);
	vms_node_lost(d, m->name);
	if (m->state == CONTROL_NODE_LEFT && !vms_on_node(d, m->name))
		forget(m);
	else
		loop_arm(&d->loop, &m->redial, MEMBERS_REDIAL_MS);
}

static void link_closed(void *owner, struct channel *c, int err)
{
	struct member *m = owner;

	if (m->link != c)
		return;
	m->link = NULL;
	if (err == -EBADMSG)
		m->daemon->garbage++;
	lose(m, err ? strerror(-err) : "its daemon closed the connection");
}

struct member *members_add(struct daemon *d, const char *name, const char *address)
{
	struct member *m;
	unsigned n = 0;

	for (m = d->members; m; m = m->next)
		n++;
	m = n < MEMBERS_MAX ? calloc(1, sizeof *m) : NULL;
	if (!m)
		return NULL;
	*m = (struct member){.next = d->members, .daemon = d, .state = CONTROL_NODE_LOST, .redial.fire = redial, .heard_ms = loop_now_ms()};
	TEXT_SET(m->name, name);
	TEXT_SET(m->address, address);
	d->members = m;
	return m;
}

static void on_member(struct daemon *d, const uint8_t *body, size_t bytes)
{
	struct control_node_member in;
	struct addr a;
	struct member *m;

	if (control_get_node_member(body, bytes, &in) || !rundir_good_name(in.node.s) || addr_parse(&a, in.address.s, NULL)) {
		d->garbage++;
		return;
	}
	if (strcmp(in.node.s, d->name) == 0 || members_find(d, in.node.s))
		return;
	m = members_add(d, in.node.s, in.address.s);
	if (m)
		loop_arm(&d->loop, &m->redial, 0);
}

static void on_beat(struct member *m, const uint8_t *body, size_t bytes)
{
	struct control_node_beat in;

	if (control_get_node_beat(body, bytes, &in))
		return;
	m->used = (struct amount){in.cpus_used, in.memory_used};
	CHANNEL_SEND(m->link, node_beat_reply, .sent_us = in.sent_us);
}

static void on_beat_reply(struct member *m, const uint8_t *body, size_t bytes)
{
	struct control_node_beat_reply in;
	uint64_t rtt;

	if (control_get_node_beat_reply(body, bytes, &in))
		return;
	rtt = loop_now_us() - in.sent_us;
	m->rtt_us = m->rtt_us && m->rtt_us < rtt ? (m->rtt_us * 7 + rtt) / 8 : rtt;
}

static void link_frame(void *owner, struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	struct member *m = owner;

	m->heard_ms = loop_now_ms();
	switch (id) {
	case CONTROL_node_member:
		on_member(m->daemon, body, bytes);
		break;
	case CONTROL_node_beat:
		on_beat(m, body, bytes);
		break;
	case CONTROL_node_beat_reply:
		on_beat_reply(m, body, bytes);
		break;
	case CONTROL_node_leave:
		m->state = CONTROL_NODE_LEFT;
		break;
	case CONTROL_node_echo:
		channel_pass(c, CONTROL_node_echo_reply, body, bytes);
		break;
	case CONTROL_node_echo_reply:
		checks_echoed(m, body, bytes);
		break;
	default:
		daemon_take(m->daemon, m->name, id, body, bytes);
	}
}

static const struct channel_ops link_ops = {.frame = link_frame, .closed = link_closed};

void members_link(struct member *m, struct channel *c, bool dialed_by_us)
{
	struct daemon *d = m->daemon;
	bool news = !m->seen;

	if (m->link && m->link != c) {
		channel_close(m->link);
		checks_lost(m);
	}
	m->link = c;
	m->dialed_by_us = dialed_by_us;
	m->seen = true;
	m->state = CONTROL_NODE_UP;
	m->heard_ms = loop_now_ms();
	loop_disarm(&d->loop, &m->redial);
	channel_give(c, &link_ops, m);
	log_info("node %s is here (%s), lends %llu CPUs", m->name, m->address, (unsigned long long)m->lent.cpus);
	for (struct member *other = d->members; other; other = other->next) {
		if (other == m)
			continue;
		CHANNEL_SEND(c, node_member, .node = channel_name(other->name), .address = channel_text(other->address));
		if (news && other->link)
			CHANNEL_SEND(other->link, node_member, .node = channel_name(m->name), .address = channel_text(m->address));
	}
	CHANNEL_SEND(c, node_beat, .sent_us = loop_now_us(), .cpus_used = (uint32_t)d->used.cpus, .memory_used = d->used.memory);
	vms_tell_all(d, m->name);
	parts_tell_all(d, m->name);
}

void members_beat(struct daemon *d)
{
	MEMBERS_TELL(d, node_beat, .sent_us = loop_now_us(), .cpus_used = (uint32_t)d->used.cpus, .memory_used = d->used.memory);
}

static void beat(struct loop_timer *t)
{
	struct daemon *d = (struct daemon *)((char *)t - offsetof(struct daemon, beat));
	uint64_t now = loop_now_ms();
	struct member *next;

	for (struct member *m = d->members; m; m = next) {
		next = m->next;
		if (m->link && now - m->heard_ms > MEMBERS_SILENT_MS)
			lose(m, "it has been silent for two seconds");
		else if (m->link)
			CHANNEL_SEND(m->link, node_beat, .sent_us = loop_now_us(), .cpus_used = (uint32_t)d->used.cpus, .memory_used = d->used.memory);
	}
	loop_arm(&d->loop, &d->beat, MEMBERS_BEAT_MS);
}

void members_start(struct daemon *d)
{
	d->beat.fire = beat;
	loop_arm(&d->loop, &d->beat, MEMBERS_BEAT_MS);
}

void members_close(struct daemon *d)
{
	while (d->members) {
		channel_finish(d->members->link);
		d->members->link = NULL;
		forget(d->members);
	}
}
