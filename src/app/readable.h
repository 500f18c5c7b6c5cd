// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace temper {

/// "1.53 GB"; powers of ten.
std::string readable_bytes(int64_t bytes);

/// "134.5 M".
std::string readable_count(int64_t count);

}  // namespace temper
