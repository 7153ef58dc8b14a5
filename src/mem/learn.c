/* What a home learns of its pages as they pass: which of them migrate (mem/migrate.h). See engine.h. */
#include "mem/engine.h"

/* The owner's bytes are here. */
static void learn_verify(struct engine *e, uint64_t page, node_t owner, const uint8_t *bytes)
{
	bool changed;

	if (!migrate_watched(&e->migrate[page], owner))
		return;
	migrate_back(&e->migrate[page], migrate_print(bytes), &changed);
	tally_add(&e->tally.migratory_unused, !changed);
}

void learn_event(struct engine *e, uint64_t page, struct page_event *ev, const uint8_t *data)
{
	const struct page_dir *d = &e->dir[page];
	node_t who = ev->kind == PAGE_EV_MSG ? ev->from : e->config.self;
	bool asks = ev->kind == PAGE_EV_MSG ? ev->msg == PAGE_GET_M : ev->kind == PAGE_EV_WRITE && e->page[page].pending == PAGE_IDLE;

	if (ev->kind == PAGE_EV_MSG && (ev->msg == PAGE_DATA || ev->msg == PAGE_WRITE_BACK))
		learn_verify(e, page, who, data);
	else if (asks && !d->serving && d->sharers & 1u << who.v)
		migrate_upgrade(&e->migrate[page], who, d->sharers, e->config.self);
	else if (ev->kind == PAGE_EV_MSG && ev->msg == PAGE_GET_S)
		ev->exclusive = migrate_read(&e->migrate[page], who);
}

void learn_action(struct engine *e, uint64_t page, const struct page_action *a, const uint8_t *data)
{
	bool sent = a->kind == PAGE_DO_SEND && a->msg == PAGE_GRANT_M, kept = a->kind == PAGE_DO_INSTALL && a->state == PAGE_M;
	enum page_bytes form;

	if (a->kind == PAGE_DO_TAKE)
		learn_verify(e, page, e->config.self, e->taken_zero ? NULL : e->taken);
	if (!(sent || kept || a->kind == PAGE_DO_UPGRADE) || !migrate_granted(&e->migrate[page], sent ? a->to : e->config.self))
		return;
	tally_add(&e->tally.migratory, 1);
	if (a->kind != PAGE_DO_UPGRADE)
		migrate_watch(&e->migrate[page], migrate_print(deed_bytes(e, a->bytes, data, &form)));
}
