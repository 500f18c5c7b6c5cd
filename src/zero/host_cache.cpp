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
constexpr size_t kSlackShare = 8;              // A block may be bigger than asked by one eighth.

size_t rounded(size_t num_bytes) { return (num_bytes + kGranule - 1) / kGranule * kGranule; }

// Above what was live at a time: without it, what the fullest moment needs and what other moments
// need would take turns in the same place, and be mapped and cleared anew in each step.
constexpr size_t kSpareShare = 64;

std::mutex live_mutex;  // Taken after a cache's own, or alone.

}  // namespace

HostCache::HostCache() : small_(*c10::GetDefaultCPUAllocator()) {}

// Never destroyed: tensors of static objects are freed late.
std::map<void*, HostCache::Block*>& HostCache::live_blocks() {
  static auto* const blocks = new std::map<void*, Block*>;
  return *blocks;
}

HostCache::~HostCache() {
  const std::lock_guard lock(mutex_);
  while (!waiting_.empty()) unmap(waiting_.begin());
}

c10::DataPtr HostCache::allocate(size_t num_bytes) {
  if (num_bytes < kSmallestBytes) return small_.allocate(num_bytes);
  const std::lock_guard lock(mutex_);
  Block* block = take_waiting(rounded(num_bytes));
  if (block == nullptr) block = map(rounded(num_bytes));
  live_ += block->bytes;
  peak_live_ = std::max(peak_live_, live_);
  const std::lock_guard live_lock(live_mutex);
  live_blocks()[block->data] = block;
  return {block->data, block->data, &HostCache::free, c10::Device(c10::DeviceType::CPU)};
}

void HostCache::free(void* data) {
  std::unique_lock live_lock(live_mutex);
  const auto found = live_blocks().find(data);
  if (found == live_blocks().end()) {
    c10::GetDefaultCPUAllocator()->raw_deleter()(data);
    return;
  }
  Block* const block = found->second;
  live_blocks().erase(found);
  live_lock.unlock();
  HostCache& cache = *block->cache;
  const std::lock_guard lock(cache.mutex_);
  cache.live_ -= block->bytes;
  cache.waiting_.push_back(block);
  cache.by_size_.emplace(block->bytes, std::prev(cache.waiting_.end()));
}

// Of the smallest blocks that suffice the one that was freed last: it may still be in a cache.
HostCache::Block* HostCache::take_waiting(size_t num_bytes) {
  const auto smallest = by_size_.lower_bound(num_bytes);
  if (smallest == by_size_.end()) return nullptr;
  if (smallest->first > num_bytes + num_bytes / kSlackShare) return nullptr;
  const auto last = std::prev(by_size_.upper_bound(smallest->first));
  Block* block = *last->second;
  waiting_.erase(last->second);
  by_size_.erase(last);
  return block;
}

HostCache::Block* HostCache::map(size_t num_bytes) {
  make_room(num_bytes);
  void* data = ::mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      /*fd=*/-1, /*offset=*/0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  // Fewer faults, and fewer pages to find; where the system has no huge pages, nothing changes.
  ::madvise(data, num_bytes, MADV_HUGEPAGE);
  mapped_ += num_bytes;
  return new Block{this, data, num_bytes};
}

void HostCache::make_room(size_t num_bytes) {
  const size_t peak = std::max(peak_live_, live_ + num_bytes), most = peak + peak / kSpareShare;
  while (!waiting_.empty() && mapped_ + num_bytes > most) unmap(waiting_.begin());
}

void HostCache::unmap(Waiting::iterator waiting) {
  Block* block = *waiting;
  const auto [first, last] = by_size_.equal_range(block->bytes);
  by_size_.erase(std::find_if(first, last, [&](const auto& e) { return e.second == waiting; }));
  waiting_.erase(waiting);
  ::munmap(block->data, block->bytes);
  mapped_ -= block->bytes;
  delete block;
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
