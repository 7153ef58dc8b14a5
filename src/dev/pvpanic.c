/* A panicked guest must not look like a slow one. */
#include "dev/pvpanic.h"

#include "dev/addrmap.h"

#include <errno.h>
#include <stdlib.h>

enum { PVPANIC_EVENTS = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED };

struct pvpanic {
	struct pvpanic_config c;
};

static void pvpanic_bus_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	bus_put(data, bytes, PVPANIC_EVENTS);
}

static void pvpanic_bus_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct pvpanic *p = dev;
	unsigned events = bus_get(data, bytes) & PVPANIC_EVENTS;

	if (events)
		p->c.panic(p->c.user, events);
}

static const struct bus_ops pvpanic_ops = {.read = pvpanic_bus_read, .write = pvpanic_bus_write};

int pvpanic_open(struct pvpanic **out, const struct pvpanic_config *c)
{
	struct pvpanic *p = calloc(1, sizeof *p);
	int err;

	if (!p)
		return -ENOMEM;
	p->c = *c;
	bus_lock(c->bus);
	err = bus_add(c->bus, BUS_PIO, ADDRMAP_PORT_PVPANIC, 1, &pvpanic_ops, p, "pvpanic");
	bus_unlock(c->bus);
	if (err)
		free(p);
	else
		*out = p;
	return err;
}

void pvpanic_close(struct pvpanic *p)
{
	if (!p)
		return;
	bus_lock(p->c.bus);
	bus_remove(p->c.bus, BUS_PIO, ADDRMAP_PORT_PVPANIC);
	bus_unlock(p->c.bus);
	free(p);
}
