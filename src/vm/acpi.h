/* ACPI tables: how the guest learns of its CPUs, its memory's homes, and the fixed devices (ACPI 6.5; PCI firmware 3.3 for MCFG).
 *
 * The DSDT is constant, compiled by iasl from dsdt.asl. RSDP, XSDT, FADT, MADT, SRAT, SLIT and MCFG are built here, one after
 * the other, into one image for MEMMAP_ACPI. Pure. CPUs appear only as x2APIC entries, so that no LAPIC ever needs xAPIC mode. Every
 * interrupt is edge-triggered, the SCI too (MADT override): an EOI on one node then never has to reach an IOAPIC on another. */
#ifndef VM_ACPI_H
#define VM_ACPI_H

#include "base/types.h"
#include "mem/ram.h"
#include "vm/topology.h"

/* Beyond 30 Linux no longer starts new threads and programs on another node just because it idles (node_reclaim_distance); each such start would fetch
 * hundreds of pages. Its load balancer still moves what runs for longer. */
enum { ACPI_DISTANCE_LOCAL = 10, ACPI_DISTANCE_REMOTE = 40 };

struct acpi_config {
	const struct topology *topology;
	const struct ram *ram;
	unsigned remote_distance; /* SLIT, between nodes; 0: ACPI_DISTANCE_REMOTE; 11 .. 254 */
};

/* Build the image for guest address MEMMAP_ACPI into to[room]; the RSDP comes first. -ENOSPC, -EINVAL. *bytes: its length. */
int acpi_build(const struct acpi_config *c, uint8_t *to, size_t room, size_t *bytes) MUST_CHECK;

#endif
