/* Reads as zero, ignores writes. See absent.h. */
#include "vm/absent.h"

#include <string.h>

#include "vm/memmap.h"

static void absent_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	memset(data, 0, bytes);
}

static void absent_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
}

int absent_add(struct bus *b)
{
	static const struct bus_ops ops = {absent_read, absent_write};
	int err;

	bus_lock(b);
	err = bus_add(b, BUS_PIO, MEMMAP_PORT_PIT, 4, &ops, NULL, "no timer");
	if (!err)
		err = bus_add(b, BUS_PIO, MEMMAP_PORT_PIT_GATE, 1, &ops, NULL, "no timer gate");
	bus_unlock(b);
	return err;
}
