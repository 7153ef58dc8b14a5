/* The functions that wire/generate.h makes of the fragments' message list. */
#define WIRE_DEFINE
#include "wire/peer.h"
