/* One judgement, msix_flush, after every change of a mask. */
#include "dev/msix.h"

#include "base/ensure.h"

#include <string.h>

enum { CAP_BYTES = 12, CAP_CONTROL = 2, CAP_TABLE = 4, CAP_PBA = 8 };
enum { CONTROL_MASK = 1u << 14, CONTROL_ENABLE = 1u << 15 };
enum { ENTRY_ADDRESS = 0, ENTRY_DATA = 8, ENTRY_CONTROL = 12, ENTRY_MASKED = 1 };
enum { MSI_WINDOW = 0xfee }; /* a message to any other megabyte is no interrupt; dropped */

static uint32_t msix_control(const struct msix *m)
{
	return pci_get(m->pci, m->cap + CAP_CONTROL, 2);
}

static bool msix_masked(const struct msix *m, unsigned vector)
{
	return !pci_is_master(m->pci) || msix_control(m) & CONTROL_MASK || m->table[vector * MSIX_ENTRY_BYTES + ENTRY_CONTROL] & ENTRY_MASKED;
}

static bool msix_entry(const struct msix *m, unsigned vector, uint64_t *address, uint32_t *data)
{
	const uint8_t *entry = m->table + vector * MSIX_ENTRY_BYTES;

	*address = bus_get(entry + ENTRY_ADDRESS, 8);
	*data = (uint32_t)bus_get(entry + ENTRY_DATA, 4);
	return *address >> 20 == MSI_WINDOW;
}

bool msix_message(const struct msix *m, unsigned vector, uint64_t *address, uint32_t *data)
{
	if (vector < m->vectors && msix_control(m) & CONTROL_ENABLE && !msix_masked(m, vector) && msix_entry(m, vector, address, data))
		return true;
	*address = *data = 0;
	return false;
}

static void msix_send(struct msix *m, unsigned vector)
{
	uint64_t address;
	uint32_t data;

	if (msix_entry(m, vector, &address, &data))
		m->sink.msi(m->sink.vm, address, data);
}

static void msix_flush(struct msix *m)
{
	if (!(msix_control(m) & CONTROL_ENABLE))
		m->pending = 0;
	for (unsigned v = 0; m->pending && v < m->vectors; v++) {
		if (!(m->pending & 1ull << v) || msix_masked(m, v))
			continue;
		m->pending &= ~(1ull << v);
		msix_send(m, v);
	}
}

void msix_raise(struct msix *m, unsigned vector)
{
	if (vector >= m->vectors || !(msix_control(m) & CONTROL_ENABLE))
		return;
	if (msix_masked(m, vector))
		m->pending |= 1ull << vector;
	else
		msix_send(m, vector);
}

void msix_config_written(struct msix *m)
{
	msix_flush(m);
}

static void msix_bar_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	struct msix *m = dev;
	uint64_t table_bytes = m->vectors * MSIX_ENTRY_BYTES;

	memset(data, 0, bytes);
	if (offset + bytes <= table_bytes)
		memcpy(data, m->table + offset, bytes);
	else if (offset >= MSIX_PBA_OFFSET && offset + bytes <= MSIX_PBA_OFFSET + sizeof m->pending)
		memcpy(data, (const uint8_t *)&m->pending + (offset - MSIX_PBA_OFFSET), bytes);
}

static void msix_bar_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct msix *m = dev;

	if (offset + bytes > m->vectors * MSIX_ENTRY_BYTES)
		return; /* the PBA is read-only */
	memcpy(m->table + offset, data, bytes);
	for (unsigned v = 0; v < m->vectors; v++) {
		uint8_t *control = m->table + v * MSIX_ENTRY_BYTES + ENTRY_CONTROL;

		bus_put(control, 4, bus_get(control, 4) & ENTRY_MASKED);
	}
	msix_flush(m);
	if (m->changed)
		m->changed(m->user);
}

static const struct bus_ops msix_bar_ops = {.read = msix_bar_read, .write = msix_bar_write};

void msix_init(struct msix *m, struct pci_dev *pci, unsigned bar, unsigned vectors, struct irq_sink sink)
{
	ensure(vectors >= 1 && vectors <= MSIX_VECTORS_MAX);
	*m = (struct msix){.pci = pci, .sink = sink, .vectors = vectors};
	for (unsigned v = 0; v < vectors; v++)
		m->table[v * MSIX_ENTRY_BYTES + ENTRY_CONTROL] = ENTRY_MASKED;
	pci_bar_init(pci, bar, MSIX_BAR_BYTES, &msix_bar_ops, m);
	m->cap = pci_cap_add(pci, PCI_CAP_MSIX, CAP_BYTES);
	pci_set(pci, m->cap + CAP_CONTROL, 2, vectors - 1);
	pci_allow(pci, m->cap + CAP_CONTROL, 2, CONTROL_ENABLE | CONTROL_MASK);
	pci_set(pci, m->cap + CAP_TABLE, 4, bar);
	pci_set(pci, m->cap + CAP_PBA, 4, MSIX_PBA_OFFSET | bar);
}
