/* `tessera stats`: what each part of a VM has counted; `tessera top` shows it otherwise. */
#ifndef CLI_STATS_H
#define CLI_STATS_H

#include "cli/options.h"
#include "cli/snapshot.h"

/* Of all parts, each from its own node's daemon. Zeroed is empty. */
struct stats {
	struct control_stat_line *line;
	unsigned lines;
};

/* The VM that the command line names: its record (one in s, parts in the order of their nodes), then its counters. *s is filled in as far as it got. */
int stats_gather(const struct options *o, struct snapshot *s, struct stats *k, struct failure *f) MUST_CHECK;
void stats_fini(struct stats *k);

/* NULL: not counted there. */
const uint64_t *stats_find(const struct stats *k, const char *node, const char *key);

/* An exit code (cli/report.h). */
int stats_verb(const struct options *o);

#endif
