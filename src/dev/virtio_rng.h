/* virtio entropy device (virtio 1.2, 5.4): fills what the driver offers with the host kernel's random bytes, getrandom(2). */
#ifndef DEV_VIRTIO_RNG_H
#define DEV_VIRTIO_RNG_H

#include "dev/virtio.h"

/* No state of its own: open and close the transport around it (dev/virtio_pci.h). */
struct virtio_dev virtio_rng_dev(void);

#endif
