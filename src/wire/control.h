/* Every message of the control streams, defined once: client to daemon, daemon to daemon, daemon to fragment. One request at a time on a stream;
 * every request is answered by zero or more 'line's or typed answers and then by 'end' or 'error'. Contract of the generated functions: wire/peer.h.
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
	M(line, 4, F(text, text))

enum control_role { CONTROL_CLIENT, CONTROL_DAEMON, CONTROL_FRAGMENT };

#define WIRE_PREFIX control
#define WIRE_ENUM CONTROL
#define WIRE_MESSAGES CONTROL_MESSAGES
#include "wire/generate.h"

#endif
