/* Puts the fixed devices on the bus. See board.h. */
#include "vm/board.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "dev/serial.h"
#include "vm/memmap.h"

struct board {
	struct board_config c;
	struct bus *bus;
	struct serial *serial;
};

enum { PVPANIC_PANICKED = 1 };

/* There is no timer chip, but kernels look for one: zeros end their search at once, all ones would have them poll 100,000 times (Linux
 * arch/x86/kernel/tsc.c, pit_expect_msb). */
static void nothing_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	memset(data, 0, bytes);
}

static void nothing_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
}

/* QEMU docs/specs/pvpanic.rst: reading says which events can be told, writing tells one. */
static void pvpanic_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	memset(data, 0, bytes);
	*(uint8_t *)data = PVPANIC_PANICKED;
}

static void pvpanic_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct board *b = dev;

	if (*(const uint8_t *)data & PVPANIC_PANICKED)
		b->c.end(b->c.owner, MACHINE_PANIC, "the guest's kernel panicked");
}

static const struct bus_ops nothing_ops = {nothing_read, nothing_write}, pvpanic_ops = {pvpanic_read, pvpanic_write};

/* Interrupts. */

static void board_msi(void *vm, uint64_t address, uint32_t data)
{
	struct board *b = vm;
	struct kvm_msi msi = {.address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};

	if (ioctl(b->c.vm_fd, KVM_SIGNAL_MSI, &msi) < 0)
		log_debug("an interrupt to 0x%llx was refused: %s", (unsigned long long)address, strerror(errno));
}

static void board_line(void *vm, unsigned gsi, bool level)
{
}

static void board_output(void *user, const uint8_t *bytes, size_t n)
{
	struct board *b = user;

	b->c.console(b->c.owner, bytes, n);
}

static int board_add_ports(struct board *b)
{
	int err = bus_add(b->bus, BUS_PIO, MEMMAP_PORT_PIT, 4, &nothing_ops, b, "timer");

	if (!err)
		err = bus_add(b->bus, BUS_PIO, 0x61, 1, &nothing_ops, b, "timer gate");
	return err ? err : bus_add(b->bus, BUS_PIO, MEMMAP_PORT_PVPANIC, 1, &pvpanic_ops, b, "pvpanic");
}

static int board_build(struct board *b)
{
	struct irq_sink irqs = {.msi = board_msi, .line = board_line, .vm = b};
	struct serial_config serial = {.port = MEMMAP_PORT_COM1, .irq = MEMMAP_GSI_COM1, .irq_sink = irqs, .output = board_output, .user = b};
	int err = bus_open(&b->bus);

	if (err)
		return err;
	serial.bus = b->bus;
	err = serial_open(&b->serial, &serial);
	return err ? err : board_add_ports(b);
}

int board_open(struct board **out, const struct board_config *c, struct failure *f)
{
	struct board *b = calloc(1, sizeof *b);
	int err;

	*out = NULL;
	if (!b)
		return failure_set(f, -ENOMEM, "free some memory", "no memory for the devices");
	b->c = *c;
	err = board_build(b);
	if (err) {
		board_close(b);
		return failure_set(f, err, "free some memory or raise the limit on threads", "the devices cannot be built: %s", strerror(-err));
	}
	*out = b;
	return 0;
}

void board_close(struct board *b)
{
	if (!b)
		return;
	serial_close(b->serial);
	bus_close(b->bus);
	free(b);
}

void board_access(struct board *b, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write)
{
	if (write)
		bus_write(b->bus, space, addr, data, bytes);
	else
		bus_read(b->bus, space, addr, data, bytes);
}

void board_ioapic_eoi(struct board *b, uint8_t vector)
{
}

size_t board_console_input(struct board *b, const void *bytes, size_t n)
{
	return serial_input(b->serial, bytes, n);
}

void board_power_button(struct board *b)
{
}
