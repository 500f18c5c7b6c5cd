// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "device/accelerator.h"
#include "train/invariant_run.h"

namespace temper::testing {

struct DeviceFixture {
  MpiCommunicator world{MPI_COMM_WORLD, testing::accelerator()};
  MpiCommunicator self{MPI_COMM_SELF, testing::accelerator()};
  MpiCommunicator host{MPI_COMM_SELF};
};

/// The largest one, relative.
inline double difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(a[i] - b[i]) / std::abs(b[i]));
  }
  return most;
}

}  // namespace temper::testing
