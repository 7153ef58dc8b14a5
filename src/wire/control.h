/* Every message of the control streams, defined once: client to daemon, daemon to daemon, daemon to fragment. Contract of the generated
 * functions: wire/peer.h.
 *
 * Client to daemon: hello both ways, then one request at a time; a request is answered by zero or more typed answers and then by 'end' or
 * 'error'. A console's answers and keys flow until 'vm_ended' and 'end', or until the client says console_detach (then 'end').
 * Daemon to daemon: node_hello both ways, then anything at any time; everything about a VM names it by its id.
 * Daemon to fragment: the same part_ messages, forwarded word by word; a fragment has one VM and one daemon at a time.
 */
#ifndef WIRE_CONTROL_H
#define WIRE_CONTROL_H

#include "wire/codec.h"

/* M(name, id, fields)   fields: F(kind, name) ... */
#define CONTROL_MESSAGES(M) \
	/* First on a stream, both ways. role: enum control_role; node: the speaker's name, empty for a client. */ \
	M(hello, 1, F(u32, version) F(u8, role) F(name, node)) \
	/* The request failed; nothing more comes for it. code: positive errno; node: where (empty: the answering node); what and todo: struct failure. */ \
	M(error, 2, F(u32, code) F(name, node) F(text, what) F(text, todo)) \
	/* The request is done. */ \
	M(end, 3, ) \
	/* One line for a person. */ \
	M(line, 4, F(text, text)) \
	\
	/* Requests of a client. vm: its name. flags: enum control_run_flag. place: as in --place, empty: the daemon chooses. file: the VM as asked for, in YAML; \
	 * only kept, for ask_file. seed: a disk that the guest sees besides its own, empty: none. gear: disks and \
	 * network cards, as dev/gear.h writes them. */ \
	M(ask_list, 16, ) \
	M(ask_info, 17, F(name, vm)) \
	M(ask_run, 18, F(name, vm) F(u32, cpus) F(u64, memory) F(text, place) F(text, kernel) F(text, initrd) F(blob, append) F(u32, flags) \
		F(blob, file) F(blob, seed) F(blob, gear) F(u32, cid)) \
	/* owner: the VM ends when this client goes without console_detach. from: position in the console's stream to begin at (0: all that is kept). port: enum \
	 * control_console. */ \
	M(ask_console, 19, F(name, vm) F(u8, owner) F(u8, port) F(u64, from)) \
	/* Press the power button; kill after timeout_ms (0: never, return at once). */ \
	M(ask_stop, 20, F(name, vm) F(u32, timeout_ms)) \
	M(ask_kill, 21, F(name, vm)) \
	/* Of that node only (its part of the VM, its checks, its time for a round trip and for a megabyte to each other node). */ \
	M(ask_stats, 22, F(name, vm) F(name, node)) \
	M(ask_doctor, 23, F(name, node)) \
	M(ask_quit, 24, ) \
	M(ask_file, 25, F(name, vm)) \
	/* Ask the guest to do with so much of its memory. */ \
	M(ask_balloon, 26, F(name, vm) F(u64, memory)) \
	/* Answers. address: as peers reach it; state: enum control_node_state; silent_ms: since it was last heard. */ \
	M(node_line, 32, F(name, node) F(text, address) F(u8, state) F(u64, silent_ms) F(u32, cpus) F(u32, cpus_used) F(u64, memory) \
		F(u64, memory_used) F(u64, rtt_us) F(u64, garbage)) \
	/* state: enum control_vm_state; reason: enum stop_reason once ended, about: the node it is about. age_ms: since it was asked for. resets: how often \
	 * its guest has reset itself and was started again. trouble: the last there was with a disk or a network card. sockets: where on the \
	 * coordinator's host programs meet its guest, without what follows the dot (dev/porch.h). cid: of the guest, for vsock. */ \
	M(vm_line, 33, F(u64, vm_id) F(name, vm) F(name, coordinator) F(u8, state) F(u32, cpus) F(u64, memory) F(u64, age_ms) F(text, kernel) \
		F(u32, resets) F(u8, reason) F(name, about) F(text, what) F(text, trouble) F(text, sockets) F(u32, cid)) \
	M(part_line, 34, F(u64, vm_id) F(u8, index) F(name, node) F(u64, vcpus) F(u64, memory) F(u8, state) F(u32, pid) F(text, address)) \
	M(stat_line, 35, F(name, node) F(name, key) F(u64, value)) \
	/* level: enum control_level. */ \
	M(check_line, 36, F(name, node) F(name, check) F(u8, level) F(text, found) F(text, why) F(text, fix)) \
	/* That host's CPUID, as vm/leaves.h packs it. */ \
	M(check_cpuid, 37, F(name, node) F(blob, leaves)) \
	M(vm_file, 38, F(blob, file)) \
	/* A console of the VM, both directions. port: enum control_console; at: position in its stream of the first of these bytes; a reader that is too slow misses \
	 * some. */ \
	M(console_out, 40, F(u8, port) F(u64, at) F(blob, bytes)) \
	M(console_in, 41, F(u8, port) F(blob, bytes)) \
	M(console_detach, 42, ) \
	/* The size of the client's terminal, for the second console. */ \
	M(console_size, 44, F(u16, columns) F(u16, rows)) \
	M(vm_ended, 43, F(u8, reason) F(name, about) F(text, what)) \
	\
	/* First between daemons, both ways. address: where it listens; incarnation: random per start of the daemon; lent: as --lend. */ \
	M(node_hello, 64, F(u32, version) F(name, node) F(text, address) F(u64, incarnation) F(u32, cpus) F(u64, memory)) \
	/* Instead of the answering node_hello; then the stream closes. code: positive errno. */ \
	M(node_refuse, 65, F(u32, code) F(text, what) F(text, todo)) \
	/* Another node there is. */ \
	M(node_member, 66, F(name, node) F(text, address)) \
	/* Every half second; answered, so that both know the other's state and the round trip. */ \
	M(node_beat, 67, F(u64, sent_us) F(u32, cpus_used) F(u64, memory_used)) \
	M(node_beat_reply, 68, F(u64, sent_us)) \
	/* This daemon ends on purpose; its fragments may live on. */ \
	M(node_leave, 69, ) \
	/* All there is to tell about parts of the listener's VMs has been told (part_status): what was not named is gone. */ \
	M(node_ready, 72, ) \
	/* The doctor's bandwidth check: all of it comes back as node_echo_reply. */ \
	M(node_echo, 70, F(u64, sent_us) F(blob, bytes)) \
	M(node_echo_reply, 71, F(u64, sent_us) F(blob, bytes)) \
	\
	/* Birth of a VM: the coordinator's daemon to each daemon, and each daemon to its fragment. First what the whole VM is: one part_prepare, then \
	 * one part_layout a node; the last of them sets it going. index: the receiver's node_t. vcpus: a bit each. console_at: position in the VM's \
	 * console at which this guest's begins, hvc_at: the same of the second. file, seed: to the coordinator's own part only. */ \
	M(part_prepare, 80, F(u64, vm_id) F(name, vm) F(name, coordinator) F(u8, coordinator_index) F(u8, index) F(u8, nodes) F(u32, cpus) F(u64, memory) \
		F(text, kernel) F(text, initrd) F(blob, append) F(u32, flags) F(u32, resets) F(u32, cid) F(u64, console_at) F(u64, hvc_at) F(blob, file) \
		F(blob, seed) F(blob, gear)) \
	M(part_layout, 81, F(u64, vm_id) F(u8, of) F(name, node) F(u64, vcpus) F(u64, memory)) \
	/* Reserved, and its fragment listens there for the others. cpuid: what that node's KVM offers, as vm/ packs it. */ \
	M(part_ready, 82, F(u64, vm_id) F(u8, index) F(u32, pid) F(text, address) F(blob, cpuid)) \
	/* To all, once all are ready: where each listens and its CPUID; then part_connect. cookie: a random secret of this VM. */ \
	M(part_peer, 83, F(u64, vm_id) F(u8, of) F(text, address) F(blob, cpuid)) \
	M(part_connect, 84, F(u64, vm_id) F(u64, cookie_hi) F(u64, cookie_lo)) \
	M(part_meshed, 85, F(u64, vm_id) F(u8, index)) \
	M(part_start, 86, F(u64, vm_id)) \
	M(part_started, 87, F(u64, vm_id) F(u8, index)) \
	/* Before it has started: why the birth fails; everything is rolled back, and part_ended follows. */ \
	M(part_failed, 88, F(u64, vm_id) F(u8, index) F(u32, code) F(name, node) F(text, what) F(text, todo)) \
	/* End it, saying why. reason: enum stop_reason. resets, here and in the answer: which start of the VM is meant. */ \
	M(part_stop, 89, F(u64, vm_id) F(u32, resets) F(u8, reason) F(name, about) F(text, what)) \
	/* It has ended. From a daemon: its process is gone and its reservation returned. died: without a word of its own. */ \
	M(part_ended, 90, F(u64, vm_id) F(u8, index) F(u32, resets) F(u8, died) F(u8, reason) F(name, about) F(text, what)) \
	M(part_button, 91, F(u64, vm_id)) \
	/* Daemon to fragment: tell all about yourself (a daemon that was restarted): part_prepare, the part_layouts, part_status, console_out. */ \
	M(part_ask_status, 92, ) \
	M(part_status, 93, F(u64, vm_id) F(u8, index) F(u8, state) F(u32, pid) F(u64, age_ms) F(text, address)) \
	M(part_ask_stats, 94, F(u64, vm_id)) \
	/* A VM as its coordinator's daemon knows it, to all daemons: vm_line, then its part_lines. The VM is forgotten: vm_gone. */ \
	M(vm_gone, 95, F(u64, vm_id)) \
	/* Before part_ready: a disk of the VM was opened there. disk: its number in the gear; flags: enum control_disk_flag. */ \
	M(part_disk, 96, F(u64, vm_id) F(u8, index) F(u8, disk) F(u64, bytes) F(u32, block_bytes) F(u32, optimal_bytes) F(u8, flags)) \
	/* To all, before part_connect. */ \
	M(part_peer_disk, 97, F(u64, vm_id) F(u8, disk) F(u64, bytes) F(u32, block_bytes) F(u32, optimal_bytes) F(u8, flags)) \
	/* Something of the world's is wrong with a disk or a network card there, which its guest feels. One line for a person. */ \
	M(part_trouble, 98, F(u64, vm_id) F(u8, index) F(text, what)) \
	/* To the coordinator's own part. */ \
	M(part_balloon, 99, F(u64, vm_id) F(u64, memory))

enum control_role { CONTROL_CLIENT, CONTROL_DAEMON, CONTROL_FRAGMENT };
enum control_run_flag {
	CONTROL_RUN_DETACH = 1u << 0,     /* the VM outlives the client */
	CONTROL_RUN_UNSAFE_MMU = 1u << 1, /* run on a host whose MMU mode is wrong for VMs that span nodes: for guests with static page tables */
	CONTROL_RUN_FAKE = 1u << 2,       /* no guest at all: node/fragment_fake.h, for tests of the life cycle */
	CONTROL_RUN_NO_SANDBOX = 1u << 3, /* fragments are not locked up (node/sandbox.h): for debugging */
	CONTROL_RUN_NO_REBOOT = 1u << 4,  /* a guest that resets itself has ended */
};
enum control_disk_flag { CONTROL_DISK_DISCARDS = 1u << 0, CONTROL_DISK_WRITES_BACK = 1u << 1 };
enum control_node_state { CONTROL_NODE_HERE, CONTROL_NODE_UP, CONTROL_NODE_LOST, CONTROL_NODE_LEFT, CONTROL_NODE_STATES };
enum control_vm_state { CONTROL_VM_STARTING, CONTROL_VM_RUNNING, CONTROL_VM_STOPPING, CONTROL_VM_ENDED, CONTROL_VM_STATES };
/* In the order of a part's life. */
enum control_part_state {
	CONTROL_PART_ASKED, CONTROL_PART_READY, CONTROL_PART_MESHED, CONTROL_PART_STARTED, CONTROL_PART_ENDED, CONTROL_PART_STATES
};
enum control_console { CONTROL_CONSOLE_SERIAL, CONTROL_CONSOLE_HVC, CONTROL_CONSOLES };
enum control_level { CONTROL_OK, CONTROL_WARN, CONTROL_FAIL, CONTROL_LEVELS };

#define WIRE_PREFIX control
#define WIRE_ENUM CONTROL
#define WIRE_MESSAGES CONTROL_MESSAGES
#include "wire/generate.h"

#endif
