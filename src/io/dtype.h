// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace temper {

/// The element types of safetensors, in the order of its reference implementation.
enum class DType {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

/// As safetensors spells it: "BF16".
std::string_view to_string(DType dtype);

/// Empty if safetensors has no such type.
std::optional<DType> parse_dtype(std::string_view name);

/// Bits of one element; some types fill less than a byte.
int64_t num_bits(DType dtype);

/// Whether `to_floats` and `from_floats` know the type: F32, BF16 and F16.
bool is_convertible(DType dtype);

/// Converts elements to fp32, exactly. Shapes: bytes [n * element bytes], floats [n].
/// Throws: std::invalid_argument for other types and sizes.
void to_floats(DType dtype, std::span<const std::byte> bytes, std::span<float> floats);

/// Converts fp32 to elements, rounded to the nearest, ties to even; NaN stays NaN.
/// Shapes: floats [n], bytes [n * element bytes].
/// Throws: std::invalid_argument for other types and sizes.
void from_floats(DType dtype, std::span<const float> floats, std::span<std::byte> bytes);

}  // namespace temper
