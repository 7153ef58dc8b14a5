/* Text of page events and actions, see page_text.h. */
#include "tests/page_text.h"

#include <stdio.h>
#include <string.h>

static const char *const local_events[] = {
	[PAGE_EV_READ] = "read", [PAGE_EV_WRITE] = "write", [PAGE_EV_PREFETCH] = "prefetch",
	[PAGE_EV_EVICT] = "evict", [PAGE_EV_DISCARD] = "discard", [PAGE_EV_HOLD_END] = "hold_end",
};
static const char *const bytes_names[] = {[PAGE_NONE] = "", [PAGE_ZERO] = " zero", [PAGE_DATA_IN] = " data", [PAGE_TAKEN] = " taken"};

static int text_msg(const char *text, struct page_event *ev)
{
	char msg[16], bytes[16] = "";
	unsigned from;

	if (sscanf(text, "%u:%15s %15s", &from, msg, bytes) < 2)
		return -1;
	ev->exclusive = strcmp(bytes, "exclusive") == 0;
	ev->kind = PAGE_EV_MSG;
	ev->from = (node_t){(uint8_t)from};
	for (unsigned b = PAGE_NONE; b <= PAGE_DATA_IN; b++)
		if (strcmp(bytes, b ? bytes_names[b] + 1 : "") == 0)
			ev->bytes = (enum page_bytes)b;
	for (unsigned m = 0; m < PAGE_MSGS; m++) {
		ev->msg = (enum page_msg)m;
		if (strcmp(msg, page_msg_name(ev->msg)) == 0)
			return 0;
	}
	return -1;
}

int page_text_event(const char *text, struct page_event *ev)
{
	*ev = (struct page_event){0};
	for (unsigned k = 0; k < ARRAY_LEN(local_events); k++)
		if (strcmp(text, local_events[k]) == 0) {
			ev->kind = (enum page_event_kind)k;
			return 0;
		}
	return text_msg(text, ev);
}

const char *page_text_of_event(const struct page_event *ev, char to[PAGE_TEXT_BYTES])
{
	if (ev->kind != PAGE_EV_MSG)
		return local_events[ev->kind];
	snprintf(to, PAGE_TEXT_BYTES, "%u:%s%s%s", ev->from.v, page_msg_name(ev->msg), bytes_names[ev->bytes], ev->exclusive ? " exclusive" : "");
	return to;
}

static void action_text(const struct page_action *a, char *to, size_t room)
{
	static const char *const names[] = {
		[PAGE_DO_UPGRADE] = "upgrade", [PAGE_DO_PROTECT] = "protect", [PAGE_DO_TAKE] = "take",
		[PAGE_DO_ZAP] = "zap", [PAGE_DO_WAKE] = "wake", [PAGE_DO_HOLD] = "hold",
	};

	if (a->kind == PAGE_DO_SEND)
		snprintf(to, room, "%s>%u%s", page_msg_name(a->msg), a->to.v, bytes_names[a->bytes]);
	else if (a->kind == PAGE_DO_INSTALL)
		snprintf(to, room, "install %s%s", page_state_name(a->state), bytes_names[a->bytes]);
	else
		snprintf(to, room, "%s", names[a->kind]);
}

const char *page_text_of_actions(const struct page_actions *a, char to[PAGE_TEXT_BYTES])
{
	size_t n = 0;

	to[0] = 0;
	for (unsigned i = 0; i < a->n && n + 64 < PAGE_TEXT_BYTES; i++) {
		if (i)
			n += (size_t)snprintf(to + n, PAGE_TEXT_BYTES - n, ", ");
		action_text(&a->at[i], to + n, PAGE_TEXT_BYTES - n);
		n += strlen(to + n);
	}
	return to;
}
