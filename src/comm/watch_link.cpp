// SPDX-License-Identifier: Apache-2.0
#include "comm/watch_link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

static_assert(std::is_trivially_copyable_v<SignOfLife>);

constexpr int kConnectMs = 1000;

int open_socket() { return ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

sockaddr_in address_of(uint32_t address, uint16_t port) {
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_addr.s_addr = address;
  place.sin_port = htons(port);
  return place;
}

bool connects(int socket, const sockaddr_in& place) {
  const auto* any = reinterpret_cast<const sockaddr*>(&place);
  if (::connect(socket, any, sizeof place) == 0) return true;
  if (errno != EINPROGRESS) return false;
  pollfd waiting{.fd = socket, .events = POLLOUT, .revents = 0};
  int error = ETIMEDOUT;
  socklen_t size = sizeof error;
  if (::poll(&waiting, 1, kConnectMs) == 1) {
    ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  return error == 0;
}

}  // namespace

// A sign goes out at once: one that waits for the answer to the one before is lost if the end is
// closed meanwhile, and a rank that leaves would be taken for one that died.
WatchLink::WatchLink(int socket) : socket_(socket) {
  const int yes = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

WatchLink::WatchLink(WatchLink&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)),
      is_closed_(other.is_closed_),
      is_torn_(other.is_torn_),
      received_(std::move(other.received_)) {}

WatchLink::~WatchLink() {
  if (socket_ >= 0) ::close(socket_);
}

std::optional<WatchLink> WatchLink::connect(const std::vector<uint32_t>& addresses, uint16_t port) {
  for (const uint32_t address : addresses) {
    WatchLink link(open_socket());
    if (link.socket() >= 0 && connects(link.socket(), address_of(address, port))) return link;
  }
  return std::nullopt;
}

void WatchLink::send(const SignOfLife& sign) {
  if (is_torn_) return;
  const ssize_t sent = ::send(socket_, &sign, sizeof sign, MSG_NOSIGNAL | MSG_DONTWAIT);
  is_torn_ = sent > 0 && sent < ssize_t{sizeof sign};
}

// A read that does not fill the buffer has emptied the connection: another one would find nothing.
std::vector<SignOfLife> WatchLink::receive() {
  std::array<std::byte, 16384> bytes;
  for (ssize_t count = ssize_t{bytes.size()}; count == ssize_t{bytes.size()};) {
    count = ::recv(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0 && errno == EINTR)
      count = ssize_t{bytes.size()};
    else if (count > 0)
      received_.insert(received_.end(), bytes.begin(), bytes.begin() + count);
    else
      is_closed_ = count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  }
  std::vector<SignOfLife> signs(received_.size() / sizeof(SignOfLife));
  const size_t num_read = signs.size() * sizeof(SignOfLife);
  if (num_read > 0) std::memcpy(signs.data(), received_.data(), num_read);
  received_.erase(received_.begin(), received_.begin() + static_cast<std::ptrdiff_t>(num_read));
  return signs;
}

WatchListener::WatchListener() : socket_(open_socket()) {
  const sockaddr_in anywhere = address_of(INADDR_ANY, 0);
  sockaddr_in own{};
  socklen_t size = sizeof own;
  if (socket_ < 0 ||
      ::bind(socket_, reinterpret_cast<const sockaddr*>(&anywhere), sizeof anywhere) != 0 ||
      ::listen(socket_, SOMAXCONN) != 0 ||
      ::getsockname(socket_, reinterpret_cast<sockaddr*>(&own), &size) != 0) {
    throw CommError(concat("the watchdog cannot listen: ", std::strerror(errno)),
                    "raise ulimit -n, or set watchdog.silence_seconds and stall_seconds to 0");
  }
  port_ = ntohs(own.sin_port);
}

WatchListener::~WatchListener() { ::close(socket_); }

std::optional<WatchLink> WatchListener::accept() {
  const int socket = ::accept4(socket_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (socket < 0) return std::nullopt;
  return WatchLink(socket);
}

std::vector<uint32_t> own_addresses() {
  std::vector<uint32_t> addresses;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) == 0) {
    for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
      const bool is_usable = one->ifa_addr != nullptr && one->ifa_addr->sa_family == AF_INET &&
                             (one->ifa_flags & IFF_UP) != 0 && (one->ifa_flags & IFF_LOOPBACK) == 0;
      if (!is_usable) continue;
      addresses.push_back(reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr.s_addr);
    }
    ::freeifaddrs(list);
  }
  addresses.push_back(htonl(INADDR_LOOPBACK));
  return addresses;
}

std::vector<uint32_t> without_own(std::vector<uint32_t> addresses) {
  const std::vector<uint32_t> own = own_addresses();
  std::erase_if(addresses, [&](uint32_t address) {
    return std::find(own.begin(), own.end(), address) != own.end();
  });
  return addresses;
}

}  // namespace temper
