/* A guest that resets itself is started again: the VM's fragments end as in any end, so that nothing of the old machine is left, and new ones take their places.
 * Its clients stay, its console goes on, its name, its id and what it was lent remain its own; what was in its memory is lost, as on a machine whose firmware clears
 * it. Not when it was started with --no-reboot, when somebody has asked for its end meanwhile, or when it has reset itself RESET_QUICK_MAX times in a row
 * within RESET_QUICK_MS of its start: then it has ended, by reset. */
#ifndef NODE_RESET_H
#define NODE_RESET_H

#include "node/vms.h"

enum { RESET_QUICK_MS = 10000, RESET_QUICK_MAX = 5 };

/* All parts of this VM have ended. True: it is not over yet. When it is, its failure to start again has become the reason of its end. */
bool reset_over(struct vm *vm);

#endif
