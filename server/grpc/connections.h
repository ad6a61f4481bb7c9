#pragma once

// The gRPC port's sockets, at the end of a drain.
//
// gRPC's own shutdown answers a call that arrives while it goes on with CANCELLED, which clients do
// not retry: it says that they themselves gave up. So before it, when every accepted call is
// answered, the port is closed below gRPC: calls on their way then fail UNAVAILABLE, as when a
// server goes. Linux alone. Thread-safe.

#include <cstdint>

namespace bertrand {

// Stops listening on `port` and ends its connections, in both directions; what was sent before is
// still delivered. The descriptors stay gRPC's to close. Returns the number of sockets.
int CloseConnections(uint16_t port);

}  // namespace bertrand
