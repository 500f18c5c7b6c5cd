// SPDX-License-Identifier: Apache-2.0
#include "support/simulated_device/device_counts.h"

#include <mutex>

namespace temper::testing {
namespace {

std::mutex mutex;
DeviceCounts counts;

template <typename Change>
void change(Change change_counts) {
  const std::lock_guard lock(mutex);
  change_counts(counts);
}

}  // namespace

DeviceCounts DeviceCounts::since(const DeviceCounts& before) const {
  DeviceCounts difference = *this;
  difference.launches -= before.launches;
  difference.copies_in -= before.copies_in;
  difference.copies_out -= before.copies_out;
  difference.bytes_in -= before.bytes_in;
  difference.bytes_out -= before.bytes_out;
  difference.waits -= before.waits;
  difference.allocations -= before.allocations;
  for (const auto& [name, number] : before.by_operator) difference.by_operator[name] -= number;
  std::erase_if(difference.by_operator, [](const auto& one) { return one.second == 0; });
  return difference;
}

DeviceCounts device_counts() {
  const std::lock_guard lock(mutex);
  return counts;
}

void count_launch(const std::string& name) {
  change([&](DeviceCounts& all) {
    ++all.launches;
    ++all.by_operator[name];
  });
}

void count_wait(const std::string& reason) {
  change([&](DeviceCounts& all) {
    ++all.waits;
    ++all.by_operator["wait: " + reason];
  });
}

void count_copy_in(int64_t bytes) {
  change([&](DeviceCounts& all) {
    ++all.copies_in;
    all.bytes_in += bytes;
  });
}

void count_copy_out(int64_t bytes) {
  change([&](DeviceCounts& all) {
    ++all.copies_out;
    all.bytes_out += bytes;
  });
}

void count_allocation() {
  change([](DeviceCounts& all) { ++all.allocations; });
}

}  // namespace temper::testing
