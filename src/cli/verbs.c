/* See verbs.h. */
#include "cli/verbs.h"

#include <stdio.h>

#include "cli/balloon.h"
#include "cli/console.h"
#include "cli/diagnosis.h"
#include "cli/image.h"
#include "cli/lists.h"
#include "cli/manual.h"
#include "cli/quit.h"
#include "cli/report.h"
#include "cli/run.h"
#include "cli/ssh.h"
#include "cli/stats.h"
#include "cli/top.h"
#include "wire/codec.h"

static int version(const struct options *o)
{
	if (o->value[OPTION_JSON])
		report_json(json_pack("{s:s,s:i}", "version", TESSERA_VERSION, "protocol", (int)WIRE_VERSION));
	else
		printf("tessera %s (protocol %u)\n", TESSERA_VERSION, (unsigned)WIRE_VERSION);
	return REPORT_OK;
}

int verbs_run(const struct options *o, const struct verbs_host *host)
{
	switch (o->verb) {
	case VERB_LS:
		return lists_ls(o);
	case VERB_INFO:
		return lists_info(o);
	case VERB_RUN:
		return run_verb(o);
	case VERB_BALLOON:
		return balloon_verb(o);
	case VERB_CONSOLE:
		return console_verb(o);
	case VERB_SSH:
		return ssh_verb(o);
	case VERB_STOP:
		return run_stop(o);
	case VERB_KILL:
		return run_kill(o);
	case VERB_STATS:
		return stats_verb(o);
	case VERB_TOP:
		return top_verb(o);
	case VERB_DOCTOR:
		return diagnosis_verb(o, host);
	case VERB_QUIT:
		return quit_verb(o);
	case VERB_IMAGE_BUILD:
		return image_build(o);
	case VERB_IMAGE_INFO:
		return image_info(o);
	case VERB_IMAGE_SEED:
		return image_seed(o);
	case VERB_HELP:
		return manual_verb(o);
	case VERB_VERSION:
		return version(o);
	default: /* VERB_NODE is no client's: see main() */
		return REPORT_USAGE;
	}
}
