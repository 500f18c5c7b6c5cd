// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace temper {

/// Memory for LibTorch's big tensors on the host: what was freed is used again.
///
/// The C library gives a big block back to the system when it is freed, and gets it anew, page by
/// page, in the next layer; smaller ones it keeps for blocks as small. Here what is free side by
/// side becomes one, of which blocks of any size are cut, so that what activations leave takes
/// gradients. Before a 64th more than the highest sum of live blocks so far would be mapped, what
/// has been free longest is given back. So the steady state asks the system for little memory, and
/// needs not much more of it than the tensors do.
///
/// Small blocks are the C library's. Thread-safe.
class HostCache final : public c10::Allocator {
 public:
  static constexpr size_t kSmallestBytes = size_t{256} << 10;  ///< Of a block that is cached.
  static constexpr size_t kMappedAtOnce = size_t{2} << 20;     ///< A huge page.
  /// Of what was live at a time, that may be mapped above it: what is free lies in several places,
  /// of which the biggest may be too small for what is asked. Without it more would be mapped and
  /// cleared anew in each step.
  static constexpr size_t kSpareShare = 64;

  HostCache();
  ~HostCache() override;

  /// Throws: std::bad_alloc.
  c10::DataPtr allocate(size_t num_bytes) override;
  /// Frees a block by its address alone, as oneDNN asks for; it may be a small one.
  c10::DeleterFnPtr raw_deleter() const override { return &HostCache::free; }

  void copy_data(void* to, const void* from, size_t num_bytes) const override;

  size_t mapped_bytes() const;     ///< Live and free.
  size_t peak_live_bytes() const;  ///< The most that was live at a time.

 private:
  struct Live {
    HostCache* cache;
    size_t bytes;
  };
  struct Free {
    size_t bytes;
    uint64_t since;  // In frees of this cache.
  };
  using FreeRanges = std::map<std::byte*, Free>;  // By their begin. No two touch.

  static void free(void* data);
  static std::map<void*, Live>& live_blocks();  // Of all caches.
  std::byte* take(size_t num_bytes);
  void map(size_t num_bytes);
  void make_room(size_t num_bytes);
  void add_free(std::byte* begin, size_t num_bytes);
  void insert(std::byte* begin, Free range);
  Free remove(FreeRanges::iterator range);

  c10::Allocator& small_;
  mutable std::mutex mutex_;
  FreeRanges free_;
  std::set<std::pair<size_t, std::byte*>> by_size_;
  uint64_t num_frees_ = 0;
  size_t mapped_ = 0;
  size_t live_ = 0;
  size_t peak_live_ = 0;
};

/// Makes a cache of its own the allocator of all tensors on the host, for the rest of the process.
void use_host_cache();

}  // namespace temper
