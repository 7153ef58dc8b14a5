/* Which devices the standard machine has and how they are wired. */
#include "dev/board.h"

#include "dev/acpi_pm.h"
#include "dev/addrmap.h"
#include "dev/pci.h"
#include "dev/pvpanic.h"
#include "dev/rtc.h"
#include "dev/serial.h"
#include "dev/virtio_pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT_FIRST = 1 }; /* PCI slot of the plane's device 0; the host bridge has 0 */

struct board {
	struct board_config c;
	struct bus *bus;
	struct ioapic *ioapic;
	struct acpi_pm *pm;
	struct pci *pci;
	struct pvpanic *pvpanic;
	struct rtc *rtc;
	struct serial *serial;
	struct virtio_pci *virtio[PLANE_DEVICES_MAX];
};

static void board_msi(void *vm, uint64_t address, uint32_t data)
{
	struct board *b = vm;

	b->c.msi(b->c.user, address, data);
}

static void board_line(void *vm, unsigned gsi, bool level)
{
	struct board *b = vm;

	ioapic_line(b->ioapic, gsi, level);
}

static void board_off(void *user)
{
	struct board *b = user;

	b->c.end(b->c.user, BOARD_POWEROFF);
}

static void board_reset(void *user)
{
	struct board *b = user;

	b->c.end(b->c.user, BOARD_RESET);
}

static void board_panic(void *user, unsigned events)
{
	struct board *b = user;

	if (events & PVPANIC_PANICKED)
		b->c.end(b->c.user, BOARD_PANIC);
}

static struct irq_sink board_sink(struct board *b)
{
	return (struct irq_sink){.msi = board_msi, .line = board_line, .vm = b};
}

static int board_open_platform(struct board *b)
{
	struct irq_sink sink = board_sink(b);
	int err = bus_open(&b->bus);

	if (!err)
		err = ioapic_open(&b->ioapic, &(struct ioapic_config){.bus = b->bus, .base = ADDRMAP_IOAPIC, .msi = b->c.msi, .routes = b->c.routes,
			.user = b->c.user});
	if (!err)
		err = acpi_pm_open(&b->pm, &(struct acpi_pm_config){.bus = b->bus, .irq_sink = sink, .off = board_off, .reset = board_reset, .user = b});
	if (!err)
		err = pvpanic_open(&b->pvpanic, &(struct pvpanic_config){.bus = b->bus, .panic = board_panic, .user = b});
	if (!err)
		err = rtc_open(&b->rtc, &(struct rtc_config){.bus = b->bus});
	if (!err)
		err = serial_open(&b->serial, &(struct serial_config){.bus = b->bus, .port = ADDRMAP_PORT_COM1, .irq = ADDRMAP_GSI_COM1, .irq_sink = sink,
			.output = b->c.output, .room = b->c.room, .user = b->c.user});
	return err;
}

static int board_open_pci(struct board *b)
{
	int err = pci_open(&b->pci, &(struct pci_config){.bus = b->bus, .ecam = ADDRMAP_ECAM, .window = ADDRMAP_PCI_MMIO,
		.window_bytes = ADDRMAP_PCI_MMIO_BYTES, .reset = board_reset, .user = b});

	for (unsigned i = 0; i < PLANE_DEVICES_MAX && !err; i++)
		if (plane_dev(b->c.plane, i))
			err = virtio_pci_open(&b->virtio[i], &(struct virtio_pci_config){.bus = b->bus, .pci = b->pci, .slot = SLOT_FIRST + i,
				.irq_sink = board_sink(b), .plane = b->c.plane, .device = i});
	return err;
}

int board_open(struct board **out, const struct board_config *c, struct failure *f)
{
	struct board *b = calloc(1, sizeof *b);
	int err;

	if (!b)
		return failure_set(f, -ENOMEM, "free some memory on this node", "no memory for the devices");
	b->c = *c;
	err = board_open_platform(b);
	if (!err)
		err = board_open_pci(b);
	if (err) {
		board_close(b);
		return failure_set(f, err, "free memory and threads on this node", "cannot make the devices: %s", strerror(-err));
	}
	*out = b;
	return 0;
}

void board_close(struct board *b)
{
	if (!b)
		return;
	for (unsigned i = 0; i < PLANE_DEVICES_MAX; i++)
		virtio_pci_close(b->virtio[i]);
	pci_close(b->pci);
	serial_close(b->serial);
	rtc_close(b->rtc);
	pvpanic_close(b->pvpanic);
	acpi_pm_close(b->pm);
	ioapic_close(b->ioapic);
	bus_close(b->bus);
	free(b);
}

struct bus *board_bus(struct board *b)
{
	return b->bus;
}

size_t board_input(struct board *b, const uint8_t *bytes, size_t n)
{
	return serial_input(b->serial, bytes, n);
}

void board_drain(struct board *b)
{
	serial_drain(b->serial);
}

void board_power_button(struct board *b)
{
	acpi_pm_press_power_button(b->pm);
}

void board_eoi(struct board *b, uint8_t vector)
{
	ioapic_eoi(b->ioapic, vector);
}
