/* Runs litmus guests on this host's real KVM: one or more KVM VMs (fragments) in this process, whose memory the caller supplies - mapped and
 * plain for one, or one mapping a fragment kept coherent by pagers. vCPU v runs on fragment v % fragments, each on a thread of its own. */
#ifndef TESTS_LITMUS_RIG_H
#define TESTS_LITMUS_RIG_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "mem/ram.h"
#include "tests/litmus/guest.h"

struct rig;

struct rig_vcpu {
	struct rig *rig;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	char error[160]; /* empty: it did its work */
};

struct rig {
	int kvm, vm[LITMUS_VCPUS];
	unsigned fragments;
	const struct ram *ram[LITMUS_VCPUS]; /* each fragment's view of LITMUS_RAM_BYTES, given by the caller */
	struct rig_vcpu vcpu[LITMUS_VCPUS];
};

/* Load the guest through ram[0] and make the VMs and vCPUs. False with a printed reason. */
bool rig_open(struct rig *g, unsigned fragments, const struct ram *const ram[]);
/* Let the first 'threads' vCPUs do 'batches' batches of a test, with random delays up to 'delay' rounds of an empty loop between turns. False
 * when a guest did not finish its work. */
bool rig_run(struct rig *g, enum litmus_test test, unsigned threads, uint64_t batches, uint64_t delay);
void rig_close(struct rig *g);

/* How often each result came up, over cells and batches; which are forbidden depends on the test. Returns the number of forbidden outcomes and
 * prints one line. results[t]: what thread t recorded. Pure but for the line. */
uint64_t litmus_judge(enum litmus_test test, const uint8_t *const results[LITMUS_VCPUS], uint64_t iterations);
/* Locked counters: how many of the cells differ from 'want'. */
uint64_t litmus_judge_counters(enum litmus_test test, const struct ram *ram, uint64_t want);
const char *litmus_name(enum litmus_test test);
unsigned litmus_threads(enum litmus_test test);

#endif
