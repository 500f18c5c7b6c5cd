// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <span>

#include "comm/communicator.h"

namespace temper {

/// Replaces each word by its sum over the ranks: exact, whatever the order.
///
/// `device` is where the communicator's tensors live.
/// Collective. Throws: CommError.
void sum_over_ranks(std::span<int64_t> words, Communicator& ranks, at::Device device);

}  // namespace temper
