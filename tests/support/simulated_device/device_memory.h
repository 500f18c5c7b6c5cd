// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace temper::testing {

/// The memory of the simulated device.
///
/// Its addresses are those of pages that may never be read or written: the program crashes where
/// it touches them. What is stored at them lies elsewhere, at `on_host(address)`, where only the
/// simulated kernels look. What is freed, and what has not been written yet, is NaN. It has as many
/// bytes as TEMPER_SIMULATED_BYTES says, or 8 GiB.
class DeviceMemory final : public c10::DeviceAllocator {
 public:
  static DeviceMemory& own();

  /// Whether an address is the device's.
  bool has(const void* address) const;

  /// Where the contents of an address are. Throws: std::invalid_argument, for one of the host's.
  std::byte* on_host(const void* address) const;

  c10::DataPtr allocate(size_t num_bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, size_t num_bytes) const override;

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override;
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override;

 private:
  DeviceMemory();
  static void free(void* address);
  size_t take(size_t size);

  std::byte* guarded_;  // [kSize], the device's addresses.
  std::byte* backing_;  // [kSize], the contents.
  std::mutex mutex_;
  size_t limit_;
  size_t num_taken_ = 0;                        // Bytes that were ever handed out.
  size_t live_ = 0, peak_live_ = 0;             // Bytes in use, and the most that were.
  std::map<size_t, std::vector<size_t>> free_;  // By size: where freed pieces begin.
  std::map<size_t, size_t> sizes_;              // Of pieces in use, by where they begin.
};

/// Host memory that the device copies from and to without a wait.
class PinnedMemory final : public c10::Allocator {
 public:
  static PinnedMemory& own();

  bool has(const void* address) const;

  c10::DataPtr allocate(size_t num_bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, size_t num_bytes) const override;

 private:
  static void free(void* address);

  mutable std::mutex mutex_;
  std::map<const std::byte*, size_t> sizes_;
};

}  // namespace temper::testing
