/* Every message between the fragments of one VM, defined once. From this list come the ids, the structs, the encoders, the length-checked
 * decoders (trailing bytes are an error), the printer, the fuzz dictionary and doc/wire.md.
 *
 * Three ordered streams per pair of fragments: 'page' (owned by the pager thread; in-order delivery per pair is part of the protocol's
 * contract, proto/page.h), 'bus' (interrupts, delegated I/O, clock, liveness) and 'io' (what devices' queues carry). gfn is a guest frame number. */
#ifndef WIRE_PEER_H
#define WIRE_PEER_H

#include "wire/codec.h"

/* M(name, id, fields)   fields: F(kind, name) ... */
#define PEER_MESSAGES(M) \
	/* First on every stream, both ways; its layout never changes. stream: enum mesh_stream (net/mesh.h). cookie: random per VM, proves the daemon sent us here. */ \
	M(hello, 1, F(u32, version) F(u64, vm_id) F(u64, cookie_hi) F(u64, cookie_lo) F(u8, node) F(u8, stream)) \
	/* Why this fragment stops; sent to all, then the streams close. reason: enum stop_reason (proto/stop.h); node: who it is about. */ \
	M(stop, 2, F(u8, reason) F(u8, node) F(text, what)) \
	/* Coherence, requester to home (proto/page.h names the transitions). */ \
	M(page_get_s, 16, F(u64, gfn)) \
	M(page_get_m, 17, F(u64, gfn)) \
	M(page_drop, 18, F(u64, gfn)) \
	M(page_write_back, 19, F(u64, gfn) F(page, data)) \
	M(page_write_back_zero, 20, F(u64, gfn)) \
	/* Coherence, home to holder. */ \
	M(page_inv, 24, F(u64, gfn)) \
	M(page_fetch_s, 25, F(u64, gfn)) \
	M(page_fetch_m, 26, F(u64, gfn)) \
	/* Coherence, holder's answer to its home: nothing held any more, or the bytes. */ \
	M(page_ack, 32, F(u64, gfn)) \
	M(page_data, 33, F(u64, gfn) F(page, data)) \
	M(page_data_zero, 34, F(u64, gfn)) \
	/* Coherence, home to requester. Without data: the requester's own Shared copy is good. */ \
	M(page_grant_s, 40, F(u64, gfn) F(page, data)) \
	M(page_grant_s_zero, 41, F(u64, gfn)) \
	M(page_grant_m, 42, F(u64, gfn) F(page, data)) \
	M(page_grant_m_zero, 43, F(u64, gfn)) \
	M(page_grant_m_upgrade, 44, F(u64, gfn)) \
	/* Bus. irq: deliver (x2APIC destination already resolved to one vCPU); mode: APIC delivery mode bits 10:8 >> 8 (0 fixed, 4 NMI, 5 INIT, 6 SIPI). */ \
	M(irq, 64, F(u16, vcpu) F(u8, mode) F(u8, vector)) \
	/* A port or MMIO access for the node that has the devices. space: enum bus_space. A read is answered; a write is answered too (x86: non-posted PIO). */ \
	M(io_read, 66, F(u16, vcpu) F(u8, space) F(u64, addr) F(u8, bytes)) \
	M(io_write, 67, F(u16, vcpu) F(u8, space) F(u64, addr) F(u8, bytes) F(u64, value)) \
	M(io_done, 68, F(u16, vcpu) F(u64, value)) \
	/* Liveness and clock: echo carries the sender's TSC; echo_reply returns it with the TSC at receipt and at reply. */ \
	M(echo, 72, F(u64, tsc_sent)) \
	M(echo_reply, 73, F(u64, tsc_sent) F(u64, tsc_received) F(u64, tsc_replied)) \
	/* Node 0 to all: guest TSC = host TSC of node 0 + offset; each adds its own measured difference. */ \
	M(tsc_base, 74, F(u64, guest_tsc_offset)) \
	/* From the node that loaded the kernel to the node of vCPU 0: where it starts (vm/boot.h). */ \
	M(boot_entry, 75, F(u32, eip) F(u32, esi) F(u32, ebx)) \
	/* Bus. The devices' node to the node that serves a queue of a device (dev/plane.h). wire: bell is the doorbell's guest-physical address or 0; direct: send the \
	   MSI-X message (address, data) yourself, else queue_raise. */ \
	M(queue_start, 80, F(u8, device) F(u16, queue) F(u32, epoch) F(u16, size) F(u64, desc) F(u64, avail) F(u64, used) F(u64, features)) \
	M(queue_stop, 81, F(u8, device) F(u16, queue)) \
	M(queue_wire, 82, F(u8, device) F(u16, queue) F(u64, bell) F(u8, direct) F(u64, address) F(u32, data)) \
	M(queue_ring, 83, F(u8, device) F(u16, queue)) \
	/* Bus. And back. */ \
	M(queue_stopped, 84, F(u8, device) F(u16, queue)) \
	M(queue_broken, 85, F(u8, device) F(u16, queue)) \
	M(queue_raise, 86, F(u8, device) F(u16, queue)) \
	/* Io. A piece of a disk request from the node of the queue to the disk's, and its answer (dev/virtio_blk.h). op: enum disk_op; status: of virtio 1.2, 5.2.6. */ \
	M(blk_request, 96, F(u8, device) F(u16, queue) F(u16, slot) F(u8, op) F(u8, unmap) F(u64, offset) F(u64, bytes) F(blob, data)) \
	M(blk_done, 97, F(u8, device) F(u16, queue) F(u16, slot) F(u8, status) F(blob, data)) \
	/* Io. Frames of a network card's queue, between its node and the link's (dev/virtio_net.h); more: the batch goes on in the queue's next. credit: what they cost \
	   is free again. setup: to the link's node, what the driver wants (pairs in use; offloads as TUN_F_*). link: back to the devices' node. */ \
	M(net_frames, 104, F(u8, device) F(u16, queue) F(u8, more) F(blob, data)) \
	M(net_credit, 105, F(u8, device) F(u16, queue) F(u32, cost)) \
	M(net_setup, 106, F(u8, device) F(u16, pairs) F(u8, offloads)) \
	M(net_link, 107, F(u8, device) F(u8, up)) \
	/* Io. The devices' node to the home of pages (dense numbers, mem/ram.h) that the guest has freed, about its queue's request; and back when they are gone. */ \
	M(balloon_free, 120, F(u8, device) F(u16, queue) F(u64, page) F(u64, pages)) \
	M(balloon_freed, 121, F(u8, device) F(u16, queue))

/* The body of this header is generated by the preprocessor: enum peer_id (PEER_hello = 1 ...), struct peer_NAME, and
 *   size_t peer_put_NAME(const struct peer_NAME *m, uint8_t *to, size_t room);   header and body; 0 when it does not fit (or a string is unterminated).
 *       A page field with .at NULL is left out but counted in the header: hand the head and the page to link_queue (net/link.h).
 *   int peer_get_NAME(const uint8_t *body, size_t bytes, struct peer_NAME *m);   0, or -EBADMSG (short, long, bad text): count it, fence the sender.
 *       Blobs and pages in *m are views into body; *m is unspecified after -EBADMSG.
 *   const char *peer_name(unsigned id);   "unknown" for an id that is in no list
 *   int peer_print(unsigned id, const uint8_t *body, size_t bytes, char *to, size_t room);   one line without newline, cut when full, printable
 *       whatever the peer sent; -EBADMSG for what does not decode (the line says so)
 * Pure, any thread. */
#define WIRE_PREFIX peer
#define WIRE_ENUM PEER
#define WIRE_MESSAGES PEER_MESSAGES
#include "wire/generate.h"

#endif
