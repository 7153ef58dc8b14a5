/* A guest's ways to say "I am done", and ours to say "please finish". */
#include "dev/acpi_pm.h"

#include "dev/addrmap.h"

#include <errno.h>
#include <stdlib.h>

enum { PM1_STATUS = 0, PM1_ENABLE = 2, PM1_EVENT_BYTES = 4, PM1_CONTROL_BYTES = 2 };
/* Enables a kernel may set, and reads back to see that they exist: global lock, power button, sleep button, clock (ACPI 6.5, table 4.13). Only the power
 * button ever happens. */
enum { PM1_POWER_BUTTON = 1u << 8, PM1_ENABLES = 1u << 5 | 1u << 8 | 1u << 9 | 1u << 10 };
enum { CONTROL_SCI_EN = 1u << 0, CONTROL_TYPE_SHIFT = 10, CONTROL_TYPE = 7u << 10, CONTROL_SLEEP = 1u << 13 };
enum { I8042_PULSE_RESET = 0xfe };

struct acpi_pm {
	struct acpi_pm_config c;
	unsigned ranges; /* of acpi_pm_range that are on the bus */
	uint16_t status, enable, control;
	bool line;
};

static void acpi_pm_update(struct acpi_pm *p)
{
	bool line = (p->status & p->enable) != 0;

	if (line == p->line)
		return;
	p->line = line;
	p->c.irq_sink.line(p->c.irq_sink.vm, ADDRMAP_GSI_SCI, line);
}

static void acpi_pm_event_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	struct acpi_pm *p = dev;
	uint32_t both = p->status | (uint32_t)p->enable << 16;

	bus_put(data, bytes, both >> 8 * offset);
}

/* Status bits are cleared by writing ones, byte by byte as they are addressed. */
static void acpi_pm_event_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct acpi_pm *p = dev;
	uint32_t value = (uint32_t)(bus_get(data, bytes) << 8 * offset);
	uint32_t touched = (uint32_t)((bytes >= 4 ? 0xffffffff : (1u << 8 * bytes) - 1) << 8 * offset);

	p->status &= (uint16_t)~value;
	p->enable = (uint16_t)((p->enable & ~(touched >> 16)) | (value >> 16 & touched >> 16 & PM1_ENABLES));
	acpi_pm_update(p);
}

static void acpi_pm_control_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	struct acpi_pm *p = dev;

	bus_put(data, bytes, (uint64_t)(p->control | CONTROL_SCI_EN) >> 8 * offset);
}

static void acpi_pm_control_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct acpi_pm *p = dev;
	uint16_t value = (uint16_t)(bus_get(data, bytes) << 8 * offset);

	p->control = bytes == 1 ? (uint16_t)((p->control & 0xff << 8 * (1 - offset)) | value) : value;
	if (value & CONTROL_SLEEP && (p->control & CONTROL_TYPE) >> CONTROL_TYPE_SHIFT == ADDRMAP_S5_SLEEP_TYPE)
		p->c.off(p->c.user);
	p->control &= CONTROL_TYPE; /* SLP_EN reads 0 */
}

/* Not a keyboard controller: just its status, never busy, so that nobody polls for long, and its reset command. */
static void acpi_pm_i8042_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	bus_put(data, bytes, 0);
}

static void acpi_pm_i8042_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct acpi_pm *p = dev;

	if ((bus_get(data, bytes) & 0xff) == I8042_PULSE_RESET)
		p->c.reset(p->c.user);
}

static const struct acpi_pm_range {
	uint16_t port, bytes;
	struct bus_ops ops;
	const char *name;
} acpi_pm_range[] = {
	{ADDRMAP_PORT_PM1, PM1_EVENT_BYTES, {acpi_pm_event_read, acpi_pm_event_write}, "pm1 event"},
	{ADDRMAP_PORT_PM1_CONTROL, PM1_CONTROL_BYTES, {acpi_pm_control_read, acpi_pm_control_write}, "pm1 control"},
	{ADDRMAP_PORT_I8042_COMMAND, 1, {acpi_pm_i8042_read, acpi_pm_i8042_write}, "i8042"},
};

int acpi_pm_open(struct acpi_pm **out, const struct acpi_pm_config *c)
{
	struct acpi_pm *p = calloc(1, sizeof *p);
	int err = 0;

	if (!p)
		return -ENOMEM;
	p->c = *c;
	bus_lock(c->bus);
	while (!err && p->ranges < ARRAY_LEN(acpi_pm_range)) {
		const struct acpi_pm_range *r = &acpi_pm_range[p->ranges];

		err = bus_add(c->bus, BUS_PIO, r->port, r->bytes, &r->ops, p, r->name);
		p->ranges += !err;
	}
	bus_unlock(c->bus);
	if (err) {
		acpi_pm_close(p);
		return err;
	}
	*out = p;
	return 0;
}

void acpi_pm_close(struct acpi_pm *p)
{
	if (!p)
		return;
	bus_lock(p->c.bus);
	while (p->ranges)
		bus_remove(p->c.bus, BUS_PIO, acpi_pm_range[--p->ranges].port);
	bus_unlock(p->c.bus);
	free(p);
}

void acpi_pm_press_power_button(struct acpi_pm *p)
{
	bus_lock(p->c.bus);
	p->status |= PM1_POWER_BUTTON;
	acpi_pm_update(p);
	bus_unlock(p->c.bus);
}
