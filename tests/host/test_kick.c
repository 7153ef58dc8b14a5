/* Kernel and simulator assumption: a guest that spins comes out of KVM_RUN when its thread gets a signal, whether it takes interrupts or not. (A
 * hypervisor whose host gets no interrupt while a guest spins with interrupts off cannot serve that guest's pages from the same CPU.) */
#include "tests/test.h"
#include "vm/trial.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

static void on_alarm(int sig) { (void)sig; }

/* Comes out with EINTR, which only a signal can cause; a guest that cannot be interrupted hangs here, and the test's time limit tells. */
static int spin_until_alarm(const uint8_t *code, size_t bytes, uint64_t rflags)
{
	const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
	struct sigaction alarmed = {.sa_handler = on_alarm};
	struct trial t;
	int err;

	sigaction(SIGALRM, &alarmed, NULL);
	if (trial_open(&t, PAGE_BYTES))
		return -1;
	memcpy(t.ram, code, bytes);
	err = trial_enter_real(&t, 0, rflags);
	if (!err) {
		setitimer(ITIMER_REAL, &soon, NULL);
		err = ioctl(t.vcpu, KVM_RUN, 0) < 0 ? errno : 0;
	}
	trial_close(&t);
	return err;
}

static const uint8_t bare[] = {0xeb, 0xfe};                     /* jmp . */
static const uint8_t pausing[] = {0xf3, 0x90, 0xeb, 0xfc};      /* pause; jmp */
static const uint8_t cleared[] = {0xfb, 0x90, 0xfa, 0xeb, 0xfe}; /* sti; nop; cli; jmp . */

TEST(spinning_guests_can_be_interrupted)
{
	static const struct { const char *name; const uint8_t *code; size_t bytes; uint64_t rflags; } cases[] = {
		{"interrupts on", bare, sizeof bare, 0x202}, {"on, then off", cleared, sizeof cleared, 2},
		{"off, with pause", pausing, sizeof pausing, 2}, {"interrupts off", bare, sizeof bare, 2},
	};

	if (access("/dev/kvm", R_OK | W_OK))
		SKIP("no usable /dev/kvm on this host");
	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		printf("     %s\n", cases[i].name);
		CHECK_EQ(spin_until_alarm(cases[i].code, cases[i].bytes, cases[i].rflags), EINTR);
	}
}
