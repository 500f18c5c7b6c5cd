// SPDX-License-Identifier: Apache-2.0
#include "model/quantised/quantise.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace temper {
namespace {

constexpr int64_t kElementsPerTask = 65536;
constexpr float kSmallestScale = 1e-38F;  // Of bitsandbytes; it is denormal.

// By bits, in which infinity and then NaN are above all numbers: neither can get lost.
float largest_magnitude(const float* x, int64_t size) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < size; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffU);
  }
  return std::bit_cast<float>(largest);
}

class BlockQuantiser {
 public:
  explicit BlockQuantiser(const FourBitFormat& format)
      : search_(four_bit_search(format.kind)),
        block_size_(format.block_size),
        scaled_(static_cast<size_t>(format.block_size)),
        places_(static_cast<size_t>(format.block_size) + 1) {}

  // Returns the block's absmax.
  template <typename T>
  float operator()(const T* x, int64_t size, uint8_t* codes) {
    for (int64_t i = 0; i < size; ++i) scaled_[size_t(i)] = static_cast<float>(x[i]);
    const float absmax = scale(size);
    find_places(size);
    for (int64_t i = 0; i < size; i += 2) {
      const uint8_t* pair = places_.data() + i;
      codes[i / 2] = static_cast<uint8_t>(search_.codes[pair[0]] << 4 | search_.codes[pair[1]]);
    }
    return absmax;
  }

 private:
  // As bitsandbytes does it: a partial block is divided, and its absmax is never 0.
  float scale(int64_t size) {
    float* const x = scaled_.data();
    const float absmax = largest_magnitude(x, size);
    const float divisor = std::max(absmax, kSmallestScale);
    if (size < block_size_) {
      for (int64_t i = 0; i < size; ++i) x[i] /= divisor;
      return divisor;
    }
    const float inverse = 1.0F / divisor;
    for (int64_t i = 0; i < size; ++i) x[i] *= inverse;
    return absmax;
  }

  // A number's place is the number of midpoints below it.
  void find_places(int64_t size) {
    const std::array<float, 15> midpoints = search_.midpoints;
    const float* const x = scaled_.data();
    uint8_t* const places = places_.data();
    for (int64_t i = 0; i < size; ++i) {
      int32_t place = 0;
      for (const float midpoint : midpoints) place += x[i] > midpoint ? 1 : 0;
      places[i] = static_cast<uint8_t>(place);
    }
    places[size] = 7;  // The other nibble of an odd count: zero.
  }

  const FourBitSearch& search_;
  int64_t block_size_;
  std::vector<float> scaled_;    // [block_size]
  std::vector<uint8_t> places_;  // [block_size + 1]
};

template <typename T>
void quantise_blocks(const at::Tensor& values, const FourBitFormat& format, uint8_t* codes,
                     float* absmax) {
  const T* const x = values.const_data_ptr<T>();
  const int64_t size = values.numel(), block_size = format.block_size;
  at::parallel_for(
      0, format.num_blocks(size), kElementsPerTask / block_size, [&](int64_t begin, int64_t end) {
        BlockQuantiser quantise_block(format);
        for (int64_t block = begin; block < end; ++block) {
          const int64_t first = block * block_size;
          absmax[block] =
              quantise_block(x + first, std::min(block_size, size - first), codes + first / 2);
        }
      });
}

}  // namespace

void quantise(const at::Tensor& values, const FourBitFormat& format, std::span<uint8_t> codes,
              std::span<float> absmax) {
  format.require_valid();
  const int64_t size = values.numel();
  if (!values.is_cpu() || !values.is_contiguous() ||
      std::ssize(codes) != FourBitFormat::num_bytes(size) ||
      std::ssize(absmax) != format.num_blocks(size)) {
    throw std::invalid_argument("quantise wants contiguous values, and room for exactly them");
  }
  switch (values.scalar_type()) {
    case at::kFloat: return quantise_blocks<float>(values, format, codes.data(), absmax.data());
    case at::kBFloat16:
      return quantise_blocks<at::BFloat16>(values, format, codes.data(), absmax.data());
    case at::kHalf: return quantise_blocks<at::Half>(values, format, codes.data(), absmax.data());
    default: throw std::invalid_argument("quantise wants float32, bfloat16 or float16");
  }
}

}  // namespace temper
