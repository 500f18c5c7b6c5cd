// SPDX-License-Identifier: Apache-2.0
#include "io/dtype.h"

#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "core/concat.h"
#include "core/floats.h"

namespace temper {
namespace {

static_assert(std::endian::native == std::endian::little, "the files hold little-endian numbers");

struct Description {
  std::string_view name;
  int64_t bits;
};

constexpr std::array<Description, 22> kDescriptions{{
    // [DType]
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
}};
static_assert(kDescriptions.size() == static_cast<size_t>(DType::kU64) + 1);

const Description& description(DType dtype) { return kDescriptions[static_cast<size_t>(dtype)]; }

uint16_t to_bf16(float number) {
  const auto bits = std::bit_cast<uint32_t>(number);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40u;  // Rounding could carry a NaN into infinity.
  return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet_nan : rounded);
}

// Moves the exponent by multiplication, which makes normal numbers of denormal ones, too.
float from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7FFFu) << 13;
  const float finite = std::bit_cast<float>(magnitude) * 0x1p112f;
  const uint32_t special = magnitude | 0x7F800000u;  // Infinity and NaN.
  const bool is_special = (bits & 0x7C00u) == 0x7C00u;
  return std::bit_cast<float>((is_special ? special : std::bit_cast<uint32_t>(finite)) | sign);
}

uint16_t to_f16(float number) {
  const auto bits = std::bit_cast<uint32_t>(number);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  // Normal: drop 13 bits, to even, and move the exponent by 112.
  const uint32_t normal = (magnitude + 0xFFFu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
  // Denormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low mantissa bits.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  const uint32_t denormal = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f);
  const uint32_t nan = 0x7E00u | ((magnitude >> 13) & 0x3FFu);
  uint32_t half = magnitude < (113u << 23) ? denormal : normal;
  if (magnitude >= 0x477FF000u) half = 0x7C00u;  // 65,520 and more round to infinity.
  if (magnitude > 0x7F800000u) half = nan;
  return static_cast<uint16_t>(half | sign);
}

// The bytes need not be aligned: memcpy of one element becomes a plain load.
template <typename Element, typename Convert>
void widen(std::span<const std::byte> bytes, std::span<float> floats, Convert convert) {
  for (size_t i = 0; i < floats.size(); ++i) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof(Element), sizeof(Element));
    floats[i] = convert(element);
  }
}

template <typename Element, typename Convert>
void narrow(std::span<const float> floats, std::span<std::byte> bytes, Convert convert) {
  for (size_t i = 0; i < floats.size(); ++i) {
    const Element element = convert(floats[i]);
    std::memcpy(bytes.data() + i * sizeof(Element), &element, sizeof(Element));
  }
}

void require_sizes(DType dtype, size_t num_bytes, size_t num_floats) {
  if (!is_convertible(dtype)) {
    throw std::invalid_argument(concat("no conversion between fp32 and ", to_string(dtype)));
  }
  if (num_bytes * 8 != num_floats * static_cast<size_t>(num_bits(dtype))) {
    throw std::invalid_argument(
        concat(num_bytes, " bytes are not ", num_floats, " elements of ", to_string(dtype)));
  }
}

}  // namespace

std::string_view to_string(DType dtype) { return description(dtype).name; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (size_t i = 0; i < kDescriptions.size(); ++i) {
    if (kDescriptions[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

int64_t num_bits(DType dtype) { return description(dtype).bits; }

bool is_convertible(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

void to_floats(DType dtype, std::span<const std::byte> bytes, std::span<float> floats) {
  require_sizes(dtype, bytes.size(), floats.size());
  if (floats.empty()) return;
  switch (dtype) {
    case DType::kBF16: return widen<uint16_t>(bytes, floats, from_bf16);
    case DType::kF16: return widen<uint16_t>(bytes, floats, from_f16);
    default: std::memcpy(floats.data(), bytes.data(), bytes.size());
  }
}

void from_floats(DType dtype, std::span<const float> floats, std::span<std::byte> bytes) {
  require_sizes(dtype, bytes.size(), floats.size());
  if (floats.empty()) return;
  switch (dtype) {
    case DType::kBF16: return narrow<uint16_t>(floats, bytes, to_bf16);
    case DType::kF16: return narrow<uint16_t>(floats, bytes, to_f16);
    default: std::memcpy(bytes.data(), floats.data(), bytes.size());
  }
}

}  // namespace temper
