// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/collective_ring.h"

namespace temper {

/// What ranks tell each other once a second, as bytes: all run the same binary.
struct SignOfLife {
  uint64_t token = 0;  ///< That of the job, so that a stranger is not taken for a rank.
  int64_t rank = 0;
  int64_t is_leaving = 0;  ///< The connection ends next, and that is no loss.
  RankStatus status;
};

/// One end of a TCP connection over which signs of life come and go; no call blocks.
class WatchLink {
 public:
  explicit WatchLink(int socket);
  WatchLink(WatchLink&& other) noexcept;
  WatchLink& operator=(WatchLink&&) = delete;
  ~WatchLink();

  /// Connects to the first of `addresses` that answers within a second; nothing if none does.
  static std::optional<WatchLink> connect(const std::vector<uint32_t>& addresses, uint16_t port);

  /// What does not fit into the system's buffers is dropped: then nobody reads at the other end.
  void send(const SignOfLife& sign);

  /// The signs that have come, oldest first.
  std::vector<SignOfLife> receive();

  /// Whether the other end is gone. Known after `receive`.
  bool is_closed() const { return is_closed_; }

  int socket() const { return socket_; }

 private:
  int socket_;
  bool is_closed_ = false;
  bool is_torn_ = false;  // Half a sign was sent.
  std::vector<std::byte> received_;
};

/// Waits for connections on every address of this node.
class WatchListener {
 public:
  /// Throws: CommError.
  WatchListener();
  WatchListener(const WatchListener&) = delete;
  WatchListener& operator=(const WatchListener&) = delete;
  ~WatchListener();

  uint16_t port() const { return port_; }

  /// A connection that has come, if one has. Does not block.
  std::optional<WatchLink> accept();

 private:
  int socket_;
  uint16_t port_ = 0;
};

/// The IPv4 addresses of this node in network byte order, that of the loopback last.
std::vector<uint32_t> own_addresses();

/// Those of `addresses` that this node does not have itself: what leads to another node.
std::vector<uint32_t> without_own(std::vector<uint32_t> addresses);

}  // namespace temper
