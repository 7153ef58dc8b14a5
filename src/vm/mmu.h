/* How this host's MMU walks guest page tables, found by experiment. A guest that spans nodes keeps its page tables in coherent memory, so a
 * store to one on another node must be obeyed here once the page has been fetched again, and walks that only read should not need the page
 * writable (else page tables cannot be shared). */
#ifndef VM_MMU_H
#define VM_MMU_H

#include "base/failure.h"

enum mmu_mode {
	MMU_READING,  /* Intel EPT without guest A/D bits: walks read; page-table pages can be Shared */
	MMU_WRITING,  /* EPT with A/D bits, AMD NPT: every walk wants the page writable; correct, slow */
	MMU_SHADOW,   /* shadow paging: stores made elsewhere go unnoticed; wrong for a VM that spans nodes */
};

/* Run a tiny long-mode guest (a few exits). -errno when this host's KVM cannot run it at all. Any thread; makes and closes its own VM. */
int mmu_probe(enum mmu_mode *mode, struct failure *f) MUST_CHECK;

const char *mmu_mode_name(enum mmu_mode mode);

#endif
