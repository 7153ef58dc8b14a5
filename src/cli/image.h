/* `tessera image build` and `tessera image info`: disk images made of Debian packages, and what a VM would boot from one. */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include "cli/options.h"

/* Exit codes (cli/report.h). */
int image_build(const struct options *o);
int image_info(const struct options *o);

#endif
