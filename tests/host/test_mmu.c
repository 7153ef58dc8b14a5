/* The MMU experiment runs here, repeats itself, and agrees with what module parameters say where there are any. */
#include "tests/test.h"
#include "vm/mmu.h"

#include <string.h>
#include <unistd.h>

static int parameter(const char *path)
{
	FILE *in = fopen(path, "re");
	int c = in ? fgetc(in) : 0;

	if (in)
		fclose(in);
	return c;
}

static bool on(int c) { return c == 'Y' || c == '1'; }
static bool off(int c) { return c == 'N' || c == '0'; }

TEST(mmu_mode_is_found_and_agrees_with_the_modules)
{
	int ept = parameter("/sys/module/kvm_intel/parameters/ept"), ad = parameter("/sys/module/kvm_intel/parameters/eptad");
	int npt = parameter("/sys/module/kvm_amd/parameters/npt");
	struct failure f = {0};
	enum mmu_mode mode;

	if (access("/dev/kvm", R_OK | W_OK))
		SKIP("no usable /dev/kvm on this host");
	CHECK_EQ(mmu_probe(&mode, &f), 0);
	printf("     %s (ept %c, eptad %c, npt %c)\n", mmu_mode_name(mode), ept ? ept : '-', ad ? ad : '-', npt ? npt : '-');
	if (off(ept) || off(npt))
		CHECK_EQ(mode, MMU_SHADOW);
	if (on(ept) && off(ad))
		CHECK_EQ(mode, MMU_READING);
	if (on(npt) || (on(ept) && on(ad)))
		CHECK_EQ(mode, MMU_WRITING);
	for (int i = 0; i < 20; i++) {
		enum mmu_mode again;

		CHECK_EQ(mmu_probe(&again, &f), 0);
		CHECK_EQ(again, mode);
	}
}
