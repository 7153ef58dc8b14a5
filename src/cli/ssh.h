/* tessera ssh: the host's ssh program, sent to the port that a VM's network card passes on to the guest's port 22. */
#ifndef CLI_SSH_H
#define CLI_SSH_H

#include "cli/options.h"

/* Becomes ssh, whose exit status is the command's then (255: ssh's own); returns only when there is nothing to become. */
int ssh_verb(const struct options *o);

#endif
