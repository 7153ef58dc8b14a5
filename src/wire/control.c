/* The functions that wire/generate.h makes of the daemons' message list. */
#define WIRE_DEFINE
#include "wire/control.h"
