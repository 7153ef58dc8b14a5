/* What was lent to a VM's part here, and stays so while its guest, which has reset itself, is started again (node/reset.h): so that nobody takes its place in between.
 * Given back when the new part begins, when the coordinator's daemon asks for its end, or after KEPT_MS. */
#ifndef NODE_KEPT_H
#define NODE_KEPT_H

#include "node/daemon.h"

enum { KEPT_MS = 15000 };

/* Count it as used, on top of what is; members are not told. Out of memory: nothing is kept. */
void kept_add(struct daemon *d, uint64_t vm_id, struct amount amount);

/* Of that VM; nothing if there is none. */
void kept_return(struct daemon *d, uint64_t vm_id);

void kept_close(struct daemon *d);

#endif
