/* VM files: the options of `tessera run` in YAML, `tessera run -f web.yaml`. A key is an option's name, so the table of options (cli/options.h) is the
 * table of keys, too; flags are true or false, repeatable options a list. What the command line says wins over the file. */
#ifndef CLI_VMFILE_H
#define CLI_VMFILE_H

#include "base/failure.h"
#include "cli/options.h"

enum { VMFILE_BYTES_MAX = 8 << 10 };

/* What options read from a file point to. All zero = empty. */
struct vmfile {
	char **text;
	unsigned texts;
};

/* Read the file into the options it sets that are not set yet. A path in it begins at the file's folder. -EINVAL with file and line. */
int vmfile_read(struct vmfile *v, const char *path, struct options *o, struct failure *f) MUST_CHECK;
void vmfile_close(struct vmfile *v);

/* The VM as asked for, as a file that asks for it again; paths become absolute. *text: to be freed. -E2BIG. */
int vmfile_write(const struct options *o, char **text, size_t *bytes, struct failure *f) MUST_CHECK;

#endif
