// SPDX-License-Identifier: Apache-2.0
#include "support/simulated_device/late_copies.h"

#include <ATen/ATen.h>

#include <cstring>
#include <stdexcept>
#include <utility>

#include "support/simulated_device/device_counts.h"

namespace temper::testing {

LateCopies& LateCopies::own() {
  static LateCopies* const copies = new LateCopies();
  return *copies;
}

void LateCopies::from_host(const at::Tensor& source) {
  const std::lock_guard lock(mutex_);
  copies_.push_back({source, source.clone(), /*is_to_host=*/false});
}

void LateCopies::to_host(const at::Tensor& contents, const at::Tensor& destination) {
  const std::lock_guard lock(mutex_);
  copies_.push_back({contents.clone(), destination, /*is_to_host=*/true});
  constexpr int kNotThere = 0xFF;  // NaN in fp32, bf16 and fp64.
  std::memset(destination.mutable_data_ptr(), kNotThere, destination.nbytes());
}

void LateCopies::wait(const std::string& reason) {
  count_wait(reason);
  std::vector<Copy> over;
  {
    const std::lock_guard lock(mutex_);
    over = std::exchange(copies_, {});
  }
  for (const Copy& copy : over) {
    if (copy.is_to_host) {
      copy.to.copy_(copy.from);
    } else if (!at::equal(copy.from, copy.to)) {
      throw std::logic_error("the host has changed what is copied to the device");
    }
  }
}

}  // namespace temper::testing
