// SPDX-License-Identifier: Apache-2.0
#include "support/simulated_device/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "support/simulated_device/device_counts.h"

namespace temper::testing {
namespace {

constexpr size_t kSize = size_t{1} << 33;  // Of addresses: pages that are not used cost nothing.
constexpr size_t kSmallest = 512;          // As CUDA's allocator has it.
constexpr int kNeverWritten = 0xFF;        // NaN in fp32, bf16 and fp64.

std::byte* reserve(int protection) {
  void* const place =
      ::mmap(nullptr, kSize, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(place);
}

size_t rounded_up(size_t num_bytes) { return std::max(kSmallest, std::bit_ceil(num_bytes)); }

c10::Device device() { return {c10::DeviceType::PrivateUse1, 0}; }

}  // namespace

// It is not taken apart: tensors may outlive all else.
DeviceMemory& DeviceMemory::own() {
  static DeviceMemory* const memory = new DeviceMemory();
  return *memory;
}

DeviceMemory::DeviceMemory()
    : guarded_(reserve(PROT_NONE)), backing_(reserve(PROT_READ | PROT_WRITE)), limit_(kSize) {
  if (const char* const limit = std::getenv("TEMPER_SIMULATED_BYTES")) limit_ = std::stoull(limit);
}

bool DeviceMemory::has(const void* address) const {
  const auto* place = static_cast<const std::byte*>(address);
  return place >= guarded_ && place < guarded_ + kSize;
}

std::byte* DeviceMemory::on_host(const void* address) const {
  if (!has(address)) throw std::invalid_argument("an address of the host, not of the device");
  return backing_ + (static_cast<const std::byte*>(address) - guarded_);
}

size_t DeviceMemory::take(size_t size) {
  std::vector<size_t>& freed = free_[size];
  if (!freed.empty()) {
    const size_t begin = freed.back();
    freed.pop_back();
    return begin;
  }
  count_allocation();
  TORCH_CHECK_WITH(OutOfMemoryError, num_taken_ + size <= limit_,
                   "the simulated device is out of memory. Tried to allocate ", size, " bytes");
  const size_t begin = num_taken_;
  num_taken_ += size;
  std::memset(backing_ + begin, kNeverWritten, size);
  return begin;
}

c10::DataPtr DeviceMemory::allocate(size_t num_bytes) {
  if (num_bytes == 0) return {nullptr, device()};
  const std::lock_guard lock(mutex_);
  const size_t size = rounded_up(num_bytes);
  const size_t begin = take(size);
  sizes_[begin] = size;
  live_ += size;
  peak_live_ = std::max(peak_live_, live_);
  std::byte* const place = guarded_ + begin;
  return {place, place, &DeviceMemory::free, device()};
}

void DeviceMemory::free(void* address) {
  DeviceMemory& memory = own();
  const std::lock_guard lock(memory.mutex_);
  const auto begin = static_cast<size_t>(static_cast<std::byte*>(address) - memory.guarded_);
  const auto found = memory.sizes_.find(begin);
  std::memset(memory.backing_ + begin, kNeverWritten, found->second);
  memory.free_[found->second].push_back(begin);
  memory.live_ -= found->second;
  memory.sizes_.erase(found);
}

c10::CachingDeviceAllocator::DeviceStats DeviceMemory::getDeviceStats(c10::DeviceIndex) {
  const std::lock_guard lock(mutex_);
  c10::CachingDeviceAllocator::DeviceStats stats;
  for (auto* const bytes : {&stats.allocated_bytes, &stats.reserved_bytes}) {
    auto& all = (*bytes)[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
    all.current = static_cast<int64_t>(live_);
    all.peak = static_cast<int64_t>(peak_live_);
  }
  return stats;
}

// What is free, and all.
std::pair<size_t, size_t> DeviceMemory::getMemoryInfo(c10::DeviceIndex) {
  const std::lock_guard lock(mutex_);
  return {limit_ - num_taken_, limit_};
}

c10::DeleterFnPtr DeviceMemory::raw_deleter() const { return &DeviceMemory::free; }

void DeviceMemory::copy_data(void* to, const void* from, size_t num_bytes) const {
  std::memcpy(on_host(to), on_host(from), num_bytes);
}

PinnedMemory& PinnedMemory::own() {
  static PinnedMemory* const memory = new PinnedMemory();
  return *memory;
}

bool PinnedMemory::has(const void* address) const {
  const auto* const place = static_cast<const std::byte*>(address);
  const std::lock_guard lock(mutex_);
  const auto after = sizes_.upper_bound(place);
  if (after == sizes_.begin()) return false;
  const auto& [begin, size] = *std::prev(after);
  return place < begin + size;
}

c10::DataPtr PinnedMemory::allocate(size_t num_bytes) {
  if (num_bytes == 0) return {nullptr, c10::DeviceType::CPU};
  void* const place = std::malloc(num_bytes);
  if (place == nullptr) throw std::bad_alloc();
  const std::lock_guard lock(mutex_);
  sizes_[static_cast<std::byte*>(place)] = num_bytes;
  return {place, place, &PinnedMemory::free, c10::DeviceType::CPU};
}

void PinnedMemory::free(void* address) {
  PinnedMemory& memory = own();
  const std::lock_guard lock(memory.mutex_);
  memory.sizes_.erase(static_cast<std::byte*>(address));
  std::free(address);
}

c10::DeleterFnPtr PinnedMemory::raw_deleter() const { return &PinnedMemory::free; }

void PinnedMemory::copy_data(void* to, const void* from, size_t num_bytes) const {
  std::memcpy(to, from, num_bytes);
}

}  // namespace temper::testing
