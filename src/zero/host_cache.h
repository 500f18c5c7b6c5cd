// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Allocator.h>

#include <cstdint>
#include <list>
#include <map>
#include <mutex>

namespace temper {

/// Memory for LibTorch's big tensors on the host: blocks that were freed are used again.
///
/// The C library gives a big block back to the system when it is freed, and gets it anew, page by
/// page, in the next layer; what it keeps it splits and scatters. Here a freed block waits for a
/// tensor of about its size, and before a 64th more than the highest sum of live blocks so far
/// would be mapped, those that waited longest are given back. So the steady state neither asks the
/// system for memory, nor needs much more of it than the tensors do.
///
/// Small blocks are the C library's. Thread-safe.
class HostCache final : public c10::Allocator {
 public:
  static constexpr size_t kSmallestBytes = size_t{1} << 20;  ///< Of a block that is cached.

  HostCache();
  ~HostCache() override;

  /// Throws: std::bad_alloc.
  c10::DataPtr allocate(size_t num_bytes) override;
  /// Frees a block by its address alone, as oneDNN asks for; it may be a small one.
  c10::DeleterFnPtr raw_deleter() const override { return &HostCache::free; }

  void copy_data(void* to, const void* from, size_t num_bytes) const override;

  size_t mapped_bytes() const;     ///< Live and waiting blocks.
  size_t peak_live_bytes() const;  ///< The most that was live at a time.

 private:
  struct Block {
    HostCache* cache;
    void* data;
    size_t bytes;
  };
  using Waiting = std::list<Block*>;  // The longest waiting one first.

  static void free(void* data);
  static std::map<void*, Block*>& live_blocks();  // Of all caches.
  Block* take_waiting(size_t num_bytes);
  Block* map(size_t num_bytes);
  void unmap(Waiting::iterator block);
  void make_room(size_t num_bytes);

  c10::Allocator& small_;
  mutable std::mutex mutex_;
  Waiting waiting_;
  std::multimap<size_t, Waiting::iterator> by_size_;
  size_t mapped_ = 0;
  size_t live_ = 0;
  size_t peak_live_ = 0;
};

/// Makes a cache of its own the allocator of all tensors on the host, for the rest of the process.
void use_host_cache();

}  // namespace temper
