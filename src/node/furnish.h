/* The disks and network cards of a VM on their way through the daemons: from the request to every fragment, and what their nodes found back to all. */
#ifndef NODE_FURNISH_H
#define NODE_FURNISH_H

#include "dev/gear.h"
#include "node/vms.h"

/* Read what is asked for; then, once the VM is placed, give each thing a node, which must have a part of it. -errno with the reason. */
int furnish_begin(struct vm *vm, struct wire_blob asked, struct failure *f) MUST_CHECK;
int furnish_settle(struct vm *vm, struct failure *f) MUST_CHECK;

/* The same from a part that was found running. */
void furnish_adopt(struct vm *vm, struct wire_blob gear);

/* As it travels; into to[], which must live as long as the blob. */
struct wire_blob furnish_text(const struct vm *vm, char to[GEAR_TEXT_BYTES]);

/* A node has opened a disk; then tell a part of all that were found. -errno: that part's node is gone. */
void furnish_found(struct vm *vm, const char *from, const struct control_part_disk *in);
int furnish_tell(struct vm *vm, const char *node) MUST_CHECK;

/* part_trouble from the daemon of node 'from': kept, told to all and to who looks at the console. */
void furnish_trouble(struct daemon *d, const char *from, const uint8_t *body, size_t bytes);

void furnish_end(struct vm *vm);

#endif
