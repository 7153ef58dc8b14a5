/* `tessera image build`, `info` and `seed`: disk images made of Debian packages, what a VM would boot from one, and the disk that sets it up. */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include "cli/options.h"

/* Exit codes (cli/report.h). */
int image_build(const struct options *o);
int image_info(const struct options *o);
int image_seed(const struct options *o);

#endif
