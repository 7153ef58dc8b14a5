/* The fixed ACPI hardware a guest needs to end well: power button, soft-off, reset (ACPI 6.5, 4.8.3), and the keyboard controller's reset line.
 *
 * PM1a event block at ADDRMAP_PORT_PM1 (status, enable: 2 bytes each), PM1a control block at ADDRMAP_PORT_PM1_CONTROL (2 bytes). Always in ACPI
 * mode: SCI_EN reads 1. The SCI is level-triggered, on irq_sink.line pin ADDRMAP_GSI_SCI. The reset register itself is a byte of the PCI
 * configuration port (dev/pci.h).
 *
 * Threads: registers under the bus lock; acpi_pm_press_power_button from any thread without it. off() and reset() are called under the bus lock
 * by the vCPU's exit: they note the fact and return. */
#ifndef DEV_ACPI_PM_H
#define DEV_ACPI_PM_H

#include "dev/bus.h"

struct acpi_pm_config {
	struct bus *bus;
	struct irq_sink irq_sink;
	void (*off)(void *user);   /* the guest entered S5 */
	void (*reset)(void *user); /* the guest asked the keyboard controller for a reset */
	void *user;
};

struct acpi_pm;

int acpi_pm_open(struct acpi_pm **out, const struct acpi_pm_config *c) MUST_CHECK;
void acpi_pm_close(struct acpi_pm *p);

/* Ask the guest to shut down. */
void acpi_pm_press_power_button(struct acpi_pm *p);

#endif
