#include "server/grpc/connections.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace bertrand {
namespace {

// The local port of a TCP socket; 0 for any other descriptor.
uint16_t LocalPort(int descriptor) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
  }
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
  }
  return 0;
}

bool IsListening(int descriptor) {
  int listening = 0;
  socklen_t size = sizeof(listening);
  return getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 &&
         listening != 0;
}

std::vector<int> SocketsOf(uint16_t port) {
  std::vector<int> sockets;
  std::error_code error;
  for (std::filesystem::directory_iterator file("/proc/self/fd", error), end; !error && file != end;
       file.increment(error)) {
    const std::string name = file->path().filename().string();
    int descriptor = -1;
    std::from_chars(name.data(), name.data() + name.size(), descriptor);
    if (descriptor >= 0 && LocalPort(descriptor) == port) sockets.push_back(descriptor);
  }
  return sockets;
}

}  // namespace

int CloseConnections(uint16_t port) {
  int count = 0;
  // First the door, so that nobody comes in behind the second look.
  for (const bool listeners : {true, false}) {
    for (const int descriptor : SocketsOf(port)) {
      if (IsListening(descriptor) != listeners) continue;
      count += shutdown(descriptor, SHUT_RDWR) == 0 ? 1 : 0;
    }
  }
  return count;
}

}  // namespace bertrand
