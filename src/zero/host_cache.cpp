// SPDX-License-Identifier: Apache-2.0
#include "zero/host_cache.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <new>

namespace temper {
namespace {

constexpr size_t kGranule = size_t{64} << 10;  // Block sizes are multiples of this.

size_t rounded(size_t num_bytes, size_t multiple) {
  return (num_bytes + multiple - 1) / multiple * multiple;
}

std::mutex live_mutex;  // Taken after a cache's own, or alone.

}  // namespace

HostCache::HostCache() : small_(*c10::GetDefaultCPUAllocator()) {}

// Never destroyed: tensors of static objects are freed late.
std::map<void*, HostCache::Live>& HostCache::live_blocks() {
  static auto* const blocks = new std::map<void*, Live>;
  return *blocks;
}

HostCache::~HostCache() {
  for (const auto& [begin, range] : free_) ::munmap(begin, range.bytes);
}

c10::DataPtr HostCache::allocate(size_t num_bytes) {
  if (num_bytes < kSmallestBytes) return small_.allocate(num_bytes);
  const size_t bytes = rounded(num_bytes, kGranule);
  const std::lock_guard lock(mutex_);
  std::byte* data = take(bytes);
  if (data == nullptr) {
    map(bytes);
    data = take(bytes);
  }
  live_ += bytes;
  peak_live_ = std::max(peak_live_, live_);
  const std::lock_guard live_lock(live_mutex);
  live_blocks()[data] = {this, bytes};
  return {data, data, &HostCache::free, c10::Device(c10::DeviceType::CPU)};
}

void HostCache::free(void* data) {
  std::unique_lock live_lock(live_mutex);
  const auto found = live_blocks().find(data);
  if (found == live_blocks().end()) {
    c10::GetDefaultCPUAllocator()->raw_deleter()(data);
    return;
  }
  const Live block = found->second;
  live_blocks().erase(found);
  live_lock.unlock();
  const std::lock_guard lock(block.cache->mutex_);
  block.cache->live_ -= block.bytes;
  block.cache->add_free(static_cast<std::byte*>(data), block.bytes);
}

// From the begin of the smallest range that suffices; null if none does.
std::byte* HostCache::take(size_t num_bytes) {
  const auto smallest = by_size_.lower_bound({num_bytes, nullptr});
  if (smallest == by_size_.end()) return nullptr;
  std::byte* const begin = smallest->second;
  const Free range = remove(free_.find(begin));
  if (range.bytes > num_bytes) insert(begin + num_bytes, {range.bytes - num_bytes, range.since});
  return begin;
}

void HostCache::map(size_t num_bytes) {
  const size_t bytes = rounded(num_bytes, kMappedAtOnce);
  make_room(bytes);
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      /*fd=*/-1, /*offset=*/0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  // Fewer faults, and fewer pages to find; where the system has no huge pages, nothing changes.
  ::madvise(data, bytes, MADV_HUGEPAGE);
  mapped_ += bytes;
  add_free(static_cast<std::byte*>(data), bytes);
}

// Gives back no more than is needed, but for the rest of a huge page.
void HostCache::make_room(size_t num_bytes) {
  const size_t peak = std::max(peak_live_, live_ + num_bytes);
  const size_t most = peak + peak / kSpareShare + kMappedAtOnce;
  while (mapped_ + num_bytes > most && !free_.empty()) {
    const auto oldest =
        std::ranges::min_element(free_, {}, [](const auto& range) { return range.second.since; });
    std::byte* const begin = oldest->first;
    const Free range = remove(oldest);
    const size_t asked = rounded(mapped_ + num_bytes - most, kMappedAtOnce);
    const size_t given = std::min(range.bytes, asked);
    const size_t kept = range.bytes - given;
    ::munmap(begin + kept, given);
    mapped_ -= given;
    if (kept > 0) insert(begin, {kept, range.since});
  }
}

// Joined with what is free beside it.
void HostCache::add_free(std::byte* begin, size_t num_bytes) {
  const auto after = free_.lower_bound(begin);
  if (after != free_.end() && after->first == begin + num_bytes) num_bytes += remove(after).bytes;
  const auto next = free_.lower_bound(begin);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second.bytes == begin) {
      begin = before->first;
      num_bytes += remove(before).bytes;
    }
  }
  insert(begin, {num_bytes, ++num_frees_});
}

void HostCache::insert(std::byte* begin, Free range) {
  free_.emplace(begin, range);
  by_size_.emplace(range.bytes, begin);
}

HostCache::Free HostCache::remove(FreeRanges::iterator range) {
  const Free removed = range->second;
  by_size_.erase({removed.bytes, range->first});
  free_.erase(range);
  return removed;
}

void HostCache::copy_data(void* to, const void* from, size_t num_bytes) const {
  default_copy_data(to, from, num_bytes);
}

size_t HostCache::mapped_bytes() const {
  const std::lock_guard lock(mutex_);
  return mapped_;
}

size_t HostCache::peak_live_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_live_;
}

void use_host_cache() {
  // Never destroyed: tensors of other static objects may outlive it.
  static auto* const cache = new HostCache;
  c10::SetCPUAllocator(cache, /*priority=*/1);
}

}  // namespace temper
