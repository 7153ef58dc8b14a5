/* See kept.h. */
#include "node/kept.h"

#include <stddef.h>
#include <stdlib.h>

#include "node/members.h"

struct kept {
	struct kept *next;
	struct daemon *daemon;
	uint64_t vm_id;
	struct amount amount;
	struct loop_timer limit;
};

/* *at leaves the list. */
static void drop(struct kept **at)
{
	struct kept *k = *at;

	*at = k->next;
	k->daemon->used.cpus -= k->amount.cpus;
	k->daemon->used.memory -= k->amount.memory;
	loop_disarm(&k->daemon->loop, &k->limit);
	free(k);
}

void kept_return(struct daemon *d, uint64_t vm_id)
{
	for (struct kept **at = &d->kept; *at; at = &(*at)->next)
		if ((*at)->vm_id == vm_id) {
			drop(at);
			members_beat(d);
			return;
		}
}

static void limit_over(struct loop_timer *t)
{
	struct kept *k = (struct kept *)((char *)t - offsetof(struct kept, limit));

	kept_return(k->daemon, k->vm_id);
}

void kept_add(struct daemon *d, uint64_t vm_id, struct amount amount)
{
	struct kept *k = calloc(1, sizeof *k);

	if (!k)
		return;
	*k = (struct kept){.next = d->kept, .daemon = d, .vm_id = vm_id, .amount = amount, .limit.fire = limit_over};
	d->kept = k;
	d->used.cpus += amount.cpus;
	d->used.memory += amount.memory;
	loop_arm(&d->loop, &k->limit, KEPT_MS);
}

void kept_close(struct daemon *d)
{
	while (d->kept)
		drop(&d->kept);
}
