// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace temper {

/// Marks a position without a target; it carries no loss. The value is PyTorch's ignore index.
inline constexpr int64_t kNoTarget = -100;

}  // namespace temper
