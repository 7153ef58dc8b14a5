/* See nic.h: one thread, one queue. A frame leaves from its sender's thread while the other side takes it; what is left over waits in the queue, in order. */
#include "dev/nic_backend.h"

#include "base/ensure.h"
#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LENGTH_BYTES = 4, INPUT_BYTES = 2 * (LENGTH_BYTES + NIC_FRAME_MAX), READS = 16 };
static const unsigned OFFLOAD_NEWS = 1u << 31;

struct nic {
	struct nic_calls calls;
	void (*trouble)(void *user, const char *what);
	void *trouble_user;
	struct nic_backend backend;
	int wake;
	bool started;
	pthread_t thread;
	atomic_bool stop, resume;
	_Atomic unsigned offload; /* what is wanted, and whether that is news */
	_Atomic uint64_t sent, sent_bytes, received, received_bytes, dropped, refused;

	pthread_mutex_t lock; /* guards down, the queue, and the order of writes */
	bool down;
	size_t first, queued;
	uint8_t queue[NIC_QUEUE_BYTES];

	/* The thread's own. */
	bool paused;
	size_t begin, end; /* of what has come and was not taken */
	uint8_t input[INPUT_BYTES];
};

static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void wake(struct nic *n)
{
	uint64_t one = 1;

	while (write(n->wake, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* Behind what is queued; the caller has seen that there is room. Under the lock. */
static void enqueue(struct nic *n, const uint8_t *bytes, size_t count)
{
	while (count) {
		size_t at = (n->first + n->queued) % NIC_QUEUE_BYTES, run = NIC_QUEUE_BYTES - at < count ? NIC_QUEUE_BYTES - at : count;

		memcpy(n->queue + at, bytes, run);
		n->queued += run;
		bytes += run;
		count -= run;
	}
}

/* How much went; 0: nothing now; -errno: the link is broken, which the thread will see as well. */
static ssize_t write_some(struct nic *n, struct iovec *iov, unsigned iovs)
{
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = iovs};
	ssize_t got;

	do
		got = n->backend.stream ? sendmsg(n->backend.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) : writev(n->backend.fd, iov, (int)iovs);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? 0 : -errno;
	return got;
}

/* What is left of a frame of which so much has gone, behind what is queued; false: no room. Under the lock. */
static bool enqueue_rest(struct nic *n, const struct iovec part[2], size_t gone)
{
	if (n->queued + part[0].iov_len + part[1].iov_len - gone > NIC_QUEUE_BYTES)
		return false;
	for (unsigned i = 0; i < 2; i++) {
		size_t skip = gone < part[i].iov_len ? gone : part[i].iov_len;

		enqueue(n, (const uint8_t *)part[i].iov_base + skip, part[i].iov_len - skip);
		gone -= skip;
	}
	return true;
}

/* Frames, each behind its length, in one write as far as that goes. Returns how many are on their way, and their bytes. Under the lock. */
static unsigned send_stream(struct nic *n, const struct iovec *frame, unsigned frames, size_t *bytes)
{
	uint8_t length[NIC_BATCH_MAX][LENGTH_BYTES];
	struct iovec iov[2 * NIC_BATCH_MAX];
	unsigned sent = 0;
	ssize_t gone;

	for (unsigned i = 0; i < frames; i++) {
		for (unsigned k = 0; k < LENGTH_BYTES; k++)
			length[i][k] = (uint8_t)(frame[i].iov_len >> (24 - 8 * k));
		iov[2 * i] = (struct iovec){length[i], LENGTH_BYTES};
		iov[2 * i + 1] = frame[i];
	}
	gone = n->queued ? 0 : write_some(n, iov, 2 * frames);
	if (gone < 0)
		return 0;
	for (unsigned i = 0; i < frames; i++) {
		size_t all = LENGTH_BYTES + frame[i].iov_len, some = (size_t)gone < all ? (size_t)gone : all;
		bool goes = some == all || enqueue_rest(n, iov + 2 * i, some); /* one of which a part has gone finds room: the queue is empty */

		sent += goes;
		*bytes += goes ? frame[i].iov_len : 0;
		gone -= (ssize_t)some;
	}
	return sent;
}

/* Under the lock. */
static unsigned send_locked(struct nic *n, struct iovec *frame, unsigned frames, size_t *bytes)
{
	unsigned sent = 0;

	if (n->down || !frames)
		return 0;
	if (n->backend.stream)
		return send_stream(n, frame, frames, bytes);
	for (unsigned i = 0; i < frames; i++)
		if (write_some(n, frame + i, 1) > 0) {
			*bytes += frame[i].iov_len - n->backend.head;
			sent++;
		}
	return sent;
}

static bool frame_fits(const struct nic *n, size_t bytes)
{
	return bytes >= n->backend.head + NIC_FRAME_MIN && bytes <= n->backend.head + NIC_FRAME_MAX;
}

static bool allowed(const struct nic *n, const struct iovec *frame)
{
	return !n->backend.allowed || n->backend.allowed(frame->iov_base, frame->iov_len);
}

int nic_send(struct nic *n, const struct iovec *frame, unsigned frames)
{
	struct iovec good[NIC_BATCH_MAX];
	unsigned goods = 0, sent;
	size_t bytes = 0;
	bool queued;
	int err = frames >= 1 && frames <= NIC_BATCH_MAX ? 0 : -EINVAL;

	for (unsigned i = 0; i < frames && frames <= NIC_BATCH_MAX; i++) {
		if (!frame_fits(n, frame[i].iov_len))
			err = -EINVAL;
		else if (allowed(n, &frame[i]))
			good[goods++] = frame[i];
	}
	add(&n->refused, frames <= NIC_BATCH_MAX ? frames - goods : 0);
	pthread_mutex_lock(&n->lock);
	sent = send_locked(n, good, goods, &bytes);
	queued = n->queued > 0;
	pthread_mutex_unlock(&n->lock);
	add(&n->sent, sent);
	add(&n->sent_bytes, bytes);
	add(&n->dropped, goods - sent);
	if (sent && queued)
		wake(n);
	return err;
}

unsigned nic_head_bytes(const struct nic *n)
{
	return n->backend.head;
}

void nic_offload(struct nic *n, unsigned tun_flags)
{
	atomic_store(&n->offload, tun_flags | OFFLOAD_NEWS);
	wake(n);
}

bool nic_busy(struct nic *n)
{
	bool busy;

	pthread_mutex_lock(&n->lock);
	busy = n->queued > 0;
	pthread_mutex_unlock(&n->lock);
	return busy;
}

void nic_resume(struct nic *n)
{
	atomic_store(&n->resume, true);
	wake(n);
}

static void lose(struct nic *n)
{
	pthread_mutex_lock(&n->lock);
	n->down = true;
	n->queued = 0;
	pthread_mutex_unlock(&n->lock);
	n->calls.link(n->calls.user, false);
	if (n->calls.drained)
		n->calls.drained(n->calls.user);
	if (n->calls.trouble)
		n->calls.trouble(n->calls.user, -EPIPE, n->backend.lost);
	else if (n->trouble)
		n->trouble(n->trouble_user, n->backend.lost);
	else
		log_warn("%s", n->backend.lost);
}

/* Returns whether the link still is. */
static bool drain_queue(struct nic *n)
{
	ssize_t gone = 1;
	bool empty;

	pthread_mutex_lock(&n->lock);
	while (n->queued && gone > 0) {
		size_t run = NIC_QUEUE_BYTES - n->first < n->queued ? NIC_QUEUE_BYTES - n->first : n->queued;
		struct iovec iov = {n->queue + n->first, run};

		gone = write_some(n, &iov, 1);
		if (gone > 0) {
			n->first = (n->first + (size_t)gone) % NIC_QUEUE_BYTES;
			n->queued -= (size_t)gone;
		}
	}
	empty = !n->queued;
	pthread_mutex_unlock(&n->lock);
	if (empty && n->calls.drained)
		n->calls.drained(n->calls.user);
	return gone >= 0;
}

/* Returns false when the guest cannot take it now. */
static bool deliver(struct nic *n, const uint8_t *frame, size_t bytes)
{
	if (!frame_fits(n, bytes)) {
		add(&n->refused, 1);
		return true;
	}
	if (!n->calls.receive(n->calls.user, frame, bytes)) {
		n->paused = true;
		return false;
	}
	add(&n->received, 1);
	add(&n->received_bytes, bytes - n->backend.head);
	return true;
}

/* Returns false when that is not the language of the other side. */
static bool deliver_frames(struct nic *n)
{
	while (n->backend.stream ? n->end - n->begin >= LENGTH_BYTES : n->end > n->begin) {
		const uint8_t *at = n->input + n->begin;
		size_t head = n->backend.stream ? LENGTH_BYTES : 0;
		size_t bytes = head ? (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3] : n->end - n->begin;

		if (head && (!bytes || bytes > NIC_FRAME_MAX))
			return false;
		if (n->end - n->begin < head + bytes)
			break;
		if (!deliver(n, at + head, bytes))
			return true;
		n->begin += head + bytes;
	}
	memmove(n->input, n->input + n->begin, n->end - n->begin);
	n->end -= n->begin;
	n->begin = 0;
	return true;
}

static void flush(struct nic *n)
{
	if (n->calls.flush)
		n->calls.flush(n->calls.user);
}

/* Hand on what has come: some reads, so that the queue and the bell are looked at in between, and one flush, which wakes others. Returns whether the link still is. */
static bool take(struct nic *n)
{
	bool good = true;

	for (unsigned i = 0; i < READS && good && !n->paused; i++) {
		ssize_t got = read(n->backend.fd, n->input + n->end, sizeof n->input - n->end);

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		n->end += got > 0 ? (size_t)got : 0;
		good = got > 0 && deliver_frames(n);
	}
	flush(n);
	return good;
}

/* One round of the thread; false: the link is gone. */
static bool serve(struct nic *n)
{
	struct pollfd p[2] = {{.fd = n->wake, .events = POLLIN}, {.fd = n->backend.fd}};
	unsigned offload;
	uint64_t rings;
	bool queued;
	int ready;

	offload = atomic_exchange(&n->offload, 0);
	if (offload && n->backend.offload)
		n->backend.offload(n->backend.fd, offload & ~OFFLOAD_NEWS);
	if (atomic_exchange(&n->resume, false) && n->paused) {
		n->paused = false;
		if (!deliver_frames(n))
			return false;
		flush(n);
	}
	pthread_mutex_lock(&n->lock);
	queued = n->queued > 0;
	pthread_mutex_unlock(&n->lock);
	p[1].events = (short)((n->paused ? 0 : POLLIN) | (queued ? POLLOUT : 0));
	ready = poll(p, 2, n->paused ? NIC_RETRY_MS : -1);
	if (ready < 0)
		return errno == EINTR;
	if (ready == 0)
		atomic_store(&n->resume, true);
	if (p[0].revents && read(n->wake, &rings, sizeof rings) < 0 && errno != EAGAIN)
		return false;
	if ((p[1].revents & POLLOUT) && !drain_queue(n))
		return false;
	if (p[1].revents & POLLIN)
		return take(n);
	return !(p[1].revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void *run(void *arg)
{
	struct nic *n = arg;
	bool up = true;
	uint64_t rings;

	while (!atomic_load(&n->stop))
		if (up && !serve(n)) {
			up = false;
			lose(n);
		} else if (!up) {
			struct pollfd p = {.fd = n->wake, .events = POLLIN};

			poll(&p, 1, -1);
			if (read(n->wake, &rings, sizeof rings) < 0)
				continue;
		}
	return NULL;
}

int nic_start(struct nic *n, const struct nic_calls *calls)
{
	sigset_t before;
	int err;

	ensure(!n->started);
	n->calls = *calls;
	n->calls.link(n->calls.user, true);
	thread_block(&before, 0);
	err = pthread_create(&n->thread, NULL, run, n);
	thread_unblock(&before);
	if (err)
		return -err;
	pthread_setname_np(n->thread, "nic");
	n->started = true;
	return 0;
}

int nic_open(struct nic **out, const struct nic_config *c, struct failure *f)
{
	struct nic *n = calloc(1, sizeof *n);
	int err;

	*out = NULL;
	if (!n)
		return failure_set(f, -ENOMEM, "free some memory on this host", "out of memory for a network card");
	n->trouble = c->trouble;
	n->trouble_user = c->user;
	n->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->wake < 0)
		err = failure_set(f, -errno, "see that the node has descriptors left", "no event to be had for a network card");
	else
		err = c->kind == NIC_USER ? nic_passt_open(&n->backend, c, f) : c->kind == NIC_TAP ? nic_tap_open(&n->backend, c, f) : -EINVAL;
	if (err) {
		if (n->wake >= 0)
			close(n->wake);
		free(n);
		return err;
	}
	pthread_mutex_init(&n->lock, NULL);
	*out = n;
	return 0;
}

void nic_stop(struct nic *n)
{
	if (!n->started)
		return;
	atomic_store(&n->stop, true);
	wake(n);
	pthread_join(n->thread, NULL);
	n->started = false;
}

void nic_close(struct nic *n)
{
	if (!n)
		return;
	nic_stop(n);
	close(n->backend.fd);
	close(n->wake);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

void nic_count(const struct nic *n, struct nic_counts *to)
{
	*to = (struct nic_counts){atomic_load_explicit(&n->sent, memory_order_relaxed), atomic_load_explicit(&n->sent_bytes, memory_order_relaxed),
		atomic_load_explicit(&n->received, memory_order_relaxed), atomic_load_explicit(&n->received_bytes, memory_order_relaxed),
		atomic_load_explicit(&n->dropped, memory_order_relaxed), atomic_load_explicit(&n->refused, memory_order_relaxed)};
}

const char *nic_interface(const struct nic *n)
{
	return n->backend.ifname;
}
