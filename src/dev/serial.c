/* The guest's console line. The interrupt line is always recomputed from the whole state (serial_update), so no path can lose an interrupt. */
#include "dev/serial.h"

#include "dev/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SERIAL_PORTS = 8,
	SERIAL_FIFO = 16,
	SERIAL_TX_RING = 16384, /* powers of two: positions run freely and are masked */
	SERIAL_RX_RING = 8192,
	SERIAL_BURST = 4096, /* bytes received in one go while the guest has not seen "no interrupt pending": its handler must come to an end, for one that
		gives up (Linux does after 512 rounds) with the line still up gets no further edge */
	SERIAL_GATHER_US = 1000, /* how long the worker lets bytes come together: one wake-up a line instead of one a byte */
};

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

enum { IER_RDI = 1u << 0, IER_THRI = 1u << 1, IER_RLSI = 1u << 2, IER_MSI = 1u << 3 };
enum { IIR_NONE = 1, IIR_MSI = 0, IIR_THRI = 2, IIR_RDI = 4, IIR_TIMEOUT = 12, IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1u << 0, FCR_CLEAR_RX = 1u << 1 };
enum { LCR_DLAB = 1u << 7 };
enum { MCR_DTR = 1u << 0, MCR_RTS = 1u << 1, MCR_OUT1 = 1u << 2, MCR_OUT2 = 1u << 3, MCR_LOOP = 1u << 4 };
enum { LSR_DR = 1u << 0, LSR_THRE = 1u << 5, LSR_TEMT = 1u << 6 };
enum { MSR_CTS = 1u << 4, MSR_DSR = 1u << 5, MSR_RI = 1u << 6, MSR_DCD = 1u << 7 };

struct serial {
	struct serial_config c;
	struct worker worker;
	pthread_cond_t drained; /* with drain_lock; see serial_drain */
	pthread_mutex_t drain_lock; /* guards sent */
	uint64_t sent;          /* bytes output() has taken */

	/* The rest under the bus lock. */
	uint8_t ier, fcr, lcr, mcr, scr, divisor[2];
	bool thre_due;          /* a THRE interrupt not yet read from IIR */
	bool line;              /* level last given to the sink */
	bool input_refused;     /* room() is owed */
	unsigned arrived;       /* bytes of rx that are in the receive FIFO */
	unsigned burst;         /* bytes arrived since the guest last saw "no interrupt pending" */
	uint64_t tx_head, tx_tail, rx_head, rx_tail;
	uint8_t tx[SERIAL_TX_RING], rx[SERIAL_RX_RING];
};

static bool serial_tx_ready(const struct serial *s)
{
	return s->tx_head - s->tx_tail <= SERIAL_TX_RING - SERIAL_FIFO;
}

static unsigned serial_fifo_bytes(const struct serial *s)
{
	return s->fcr & FCR_ENABLE ? SERIAL_FIFO : 1;
}

/* The far end sends while RTS is up. */
static void serial_receive(struct serial *s)
{
	uint64_t queued = s->rx_head - s->rx_tail;
	unsigned room = serial_fifo_bytes(s), n;

	if ((s->mcr & (MCR_RTS | MCR_LOOP)) != MCR_RTS || s->arrived >= room)
		return;
	n = (queued < room ? (unsigned)queued : room) - s->arrived;
	if (s->ier & IER_RDI && n > SERIAL_BURST - s->burst)
		n = SERIAL_BURST - s->burst;
	s->arrived += n;
	s->burst = s->ier & IER_RDI ? s->burst + n : 0;
}

/* Highest-priority interrupt that is enabled and pending. */
static uint8_t serial_cause(const struct serial *s)
{
	if (s->ier & IER_RDI && s->arrived)
		return s->arrived >= serial_fifo_bytes(s) ? IIR_RDI : IIR_TIMEOUT;
	if (s->ier & IER_THRI && s->thre_due)
		return IIR_THRI;
	return IIR_NONE;
}

static bool serial_input_owed(const struct serial *s)
{
	return s->input_refused && s->rx_head - s->rx_tail <= SERIAL_RX_RING / 2;
}

static void serial_update(struct serial *s)
{
	bool line;

	serial_receive(s);
	if (serial_input_owed(s))
		worker_ring(&s->worker);
	line = serial_cause(s) != IIR_NONE;
	if (line == s->line)
		return;
	s->line = line;
	s->c.irq_sink.line(s->c.irq_sink.vm, s->c.irq, line);
}

static bool serial_queue_input(struct serial *s, uint8_t byte)
{
	if (s->rx_head - s->rx_tail == SERIAL_RX_RING)
		return false;
	if (s->rx_head == s->rx_tail)
		s->burst = 0;
	s->rx[s->rx_head++ % SERIAL_RX_RING] = byte;
	return true;
}

/* Loop-back: what is sent is received, overtaking the queue, which stands still meanwhile. */
static void serial_loop_back(struct serial *s, uint8_t byte)
{
	if (s->arrived >= serial_fifo_bytes(s) || s->rx_head - s->rx_tail == SERIAL_RX_RING)
		return; /* overrun: lost, as on the wire */
	for (uint64_t at = s->rx_head++; at > s->rx_tail + s->arrived; at--)
		s->rx[at % SERIAL_RX_RING] = s->rx[(at - 1) % SERIAL_RX_RING];
	s->rx[(s->rx_tail + s->arrived++) % SERIAL_RX_RING] = byte;
}

static void serial_transmit(struct serial *s, uint8_t byte)
{
	s->thre_due = false;
	if (s->mcr & MCR_LOOP)
		serial_loop_back(s, byte);
	else if (s->tx_head - s->tx_tail < SERIAL_TX_RING) {
		s->tx[s->tx_head++ % SERIAL_TX_RING] = byte;
		worker_ring(&s->worker);
	}
	s->thre_due = serial_tx_ready(s);
}

static uint8_t serial_read_data(struct serial *s)
{
	uint8_t byte;

	if (!s->arrived)
		return 0;
	byte = s->rx[s->rx_tail++ % SERIAL_RX_RING];
	s->arrived--;
	return byte;
}

static uint8_t serial_read_iir(struct serial *s)
{
	uint8_t cause = serial_cause(s);

	if (cause == IIR_THRI)
		s->thre_due = false;
	if (cause == IIR_NONE)
		s->burst = 0;
	return (uint8_t)(cause | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0));
}

static uint8_t serial_read_msr(const struct serial *s)
{
	uint8_t m = s->mcr;

	if (!(m & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (uint8_t)((m & MCR_RTS ? MSR_CTS : 0) | (m & MCR_DTR ? MSR_DSR : 0) | (m & MCR_OUT1 ? MSR_RI : 0) | (m & MCR_OUT2 ? MSR_DCD : 0));
}

static uint8_t serial_read_lsr(const struct serial *s)
{
	uint8_t lsr = s->arrived ? LSR_DR : 0;

	if (serial_tx_ready(s))
		lsr |= LSR_THRE | LSR_TEMT;
	return lsr;
}

static uint8_t serial_read_reg(struct serial *s, uint64_t reg)
{
	switch (reg) {
	case REG_DATA: return s->lcr & LCR_DLAB ? s->divisor[0] : serial_read_data(s);
	case REG_IER: return s->lcr & LCR_DLAB ? s->divisor[1] : s->ier;
	case REG_IIR_FCR: return serial_read_iir(s);
	case REG_LCR: return s->lcr;
	case REG_MCR: return s->mcr;
	case REG_LSR: return serial_read_lsr(s);
	case REG_MSR: return serial_read_msr(s);
	default: return s->scr;
	}
}

/* Enabling THRI while the transmitter is empty raises the interrupt anew: Linux starts every transmission that way. */
static void serial_write_ier(struct serial *s, uint8_t value)
{
	if (value & ~s->ier & IER_THRI)
		s->thre_due = serial_tx_ready(s);
	s->ier = value & 0x0f;
}

static void serial_write_fcr(struct serial *s, uint8_t value)
{
	if (value & FCR_CLEAR_RX || (value ^ s->fcr) & FCR_ENABLE) {
		s->rx_tail += s->arrived;
		s->arrived = 0;
	}
	s->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
}

static void serial_write_reg(struct serial *s, uint64_t reg, uint8_t value)
{
	switch (reg) {
	case REG_DATA:
		if (s->lcr & LCR_DLAB)
			s->divisor[0] = value;
		else
			serial_transmit(s, value);
		break;
	case REG_IER:
		if (s->lcr & LCR_DLAB)
			s->divisor[1] = value;
		else
			serial_write_ier(s, value);
		break;
	case REG_IIR_FCR: serial_write_fcr(s, value); break;
	case REG_LCR: s->lcr = value; break;
	case REG_MCR: s->mcr = value & 0x1f; break;
	case REG_SCR: s->scr = value; break;
	default: break; /* LSR and MSR are read-only */
	}
}

/* Wider accesses are what the ISA bus makes of them: one byte after the other. */
static void serial_bus_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	struct serial *s = dev;

	for (unsigned i = 0; i < bytes; i++)
		((uint8_t *)data)[i] = serial_read_reg(s, offset + i);
	serial_update(s);
}

static void serial_bus_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct serial *s = dev;

	for (unsigned i = 0; i < bytes; i++)
		serial_write_reg(s, offset + i, ((const uint8_t *)data)[i]);
	serial_update(s);
}

static const struct bus_ops serial_ops = {.read = serial_bus_read, .write = serial_bus_write};

static void serial_note_sent(struct serial *s, size_t n)
{
	pthread_mutex_lock(&s->drain_lock);
	s->sent += n;
	pthread_mutex_unlock(&s->drain_lock);
	pthread_cond_broadcast(&s->drained);
}

/* The ring's oldest bytes up to its end; they stay in the ring, so that THRE tells the truth while output() is slow. */
static void serial_send(struct serial *s)
{
	uint8_t chunk[SERIAL_TX_RING];

	for (;;) {
		size_t at, n;

		bus_lock(s->c.bus);
		at = s->tx_tail % SERIAL_TX_RING;
		n = s->tx_head - s->tx_tail;
		n = n < SERIAL_TX_RING - at ? n : SERIAL_TX_RING - at;
		memcpy(chunk, s->tx + at, n);
		bus_unlock(s->c.bus);
		if (!n)
			return;
		s->c.output(s->c.user, chunk, n);
		bus_lock(s->c.bus);
		if (!serial_tx_ready(s))
			s->thre_due = true;
		s->tx_tail += n;
		serial_update(s);
		bus_unlock(s->c.bus);
		serial_note_sent(s, n);
	}
}

static void serial_work(void *dev)
{
	struct serial *s = dev;
	bool owed;

	usleep(SERIAL_GATHER_US);
	serial_send(s);
	bus_lock(s->c.bus);
	owed = serial_input_owed(s);
	if (owed)
		s->input_refused = false;
	bus_unlock(s->c.bus);
	if (owed && s->c.room)
		s->c.room(s->c.user);
}

int serial_open(struct serial **out, const struct serial_config *config)
{
	struct serial *s = calloc(1, sizeof *s);
	int err;

	if (!s)
		return -ENOMEM;
	s->c = *config;
	pthread_mutex_init(&s->drain_lock, NULL);
	pthread_cond_init(&s->drained, NULL);
	err = worker_open(&s->worker, "serial", serial_work, s);
	if (!err) {
		bus_lock(s->c.bus);
		err = bus_add(s->c.bus, BUS_PIO, s->c.port, SERIAL_PORTS, &serial_ops, s, "serial");
		bus_unlock(s->c.bus);
	}
	if (err) {
		s->c.bus = NULL; /* nothing to remove */
		serial_close(s);
		return err;
	}
	*out = s;
	return 0;
}

void serial_close(struct serial *s)
{
	if (!s)
		return;
	if (s->c.bus) {
		bus_lock(s->c.bus);
		bus_remove(s->c.bus, BUS_PIO, s->c.port);
		bus_unlock(s->c.bus);
	}
	worker_close(&s->worker);
	if (s->c.bus)
		serial_send(s); /* what the worker had not got to */
	pthread_cond_destroy(&s->drained);
	pthread_mutex_destroy(&s->drain_lock);
	free(s);
}

size_t serial_input(struct serial *s, const uint8_t *bytes, size_t n)
{
	size_t done = 0;

	bus_lock(s->c.bus);
	while (done < n && serial_queue_input(s, bytes[done]))
		done++;
	s->input_refused |= done < n;
	serial_update(s);
	bus_unlock(s->c.bus);
	return done;
}

void serial_drain(struct serial *s)
{
	uint64_t target;

	bus_lock(s->c.bus);
	target = s->tx_head;
	bus_unlock(s->c.bus);
	pthread_mutex_lock(&s->drain_lock);
	while (s->sent < target)
		pthread_cond_wait(&s->drained, &s->drain_lock);
	pthread_mutex_unlock(&s->drain_lock);
}
