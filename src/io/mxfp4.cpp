// SPDX-License-Identifier: Apache-2.0
#include "io/mxfp4.h"

#include <array>
#include <cmath>
#include <limits>

#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"

namespace temper {
namespace {

constexpr int64_t kCodeBytes = Mxfp4Matrices::kBlock / 2;  // Of a block.

// What four bits stand for: a sign, two bits of exponent, one of mantissa.
constexpr std::array kValues = {0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,  4.0F,  6.0F,
                                -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F};

// 2 to the power of what a scale says.
float factor_of(std::byte scale) {
  constexpr int kNoNumber = 255, kBias = 127;
  const auto exponent = std::to_integer<int>(scale);
  return exponent == kNoNumber ? std::numeric_limits<float>::quiet_NaN()
                               : std::ldexp(1.0F, exponent - kBias);
}

using Block = std::array<float, Mxfp4Matrices::kBlock>;

Block decode(std::span<const std::byte> codes, std::byte scale) {
  const float factor = factor_of(scale);
  Block numbers{};
  for (size_t i = 0; i < codes.size(); ++i) {
    const auto both = std::to_integer<unsigned>(codes[i]);
    numbers[2 * i] = kValues[both & 15U] * factor;
    numbers[2 * i + 1] = kValues[both >> 4U] * factor;
  }
  return numbers;
}

}  // namespace

Mxfp4Matrices::Mxfp4Matrices(Part codes, Part scales) : codes_(codes), scales_(scales) {
  const std::vector<int64_t>& shape = codes.tensor->shape;
  const std::vector<int64_t> of_scales(shape.begin(), shape.end() - (shape.empty() ? 0 : 1));
  const bool is_good = codes.tensor->dtype == DType::kU8 && scales.tensor->dtype == DType::kU8 &&
                       shape.size() == 4 && shape[3] == kCodeBytes &&
                       scales.tensor->shape == of_scales;
  if (!is_good) {
    throw ModelError(
        concat(codes.file->path().string(), ": ", codes.tensor->name, " is ",
               to_string(codes.tensor->dtype), ' ', to_text(shape), " and ", scales.tensor->name,
               " is ", to_string(scales.tensor->dtype), ' ', to_text(scales.tensor->shape),
               ", wanted U8 [experts, out, in / 32, 16] and U8 [experts, out, in / 32]"),
        "restore the file, or use the model in bfloat16");
  }
  count_ = shape[0];
  out_ = shape[1];
  in_ = shape[2] * kBlock;
}

void Mxfp4Matrices::read_floats(Range elements, std::span<float> floats) const {
  const int64_t size = in_ * out_;
  for (int64_t begin = elements.begin; begin < elements.end;) {
    const int64_t number = begin / size;
    const int64_t end = std::min(elements.end, (number + 1) * size);
    read_matrix(number, {begin - number * size, end - number * size},
                floats.subspan(static_cast<size_t>(begin - elements.begin),
                               static_cast<size_t>(end - begin)));
    begin = end;
  }
}

// Elements of one matrix [in, out], whose codes lie as [out, in].
void Mxfp4Matrices::read_matrix(int64_t number, Range elements, std::span<float> floats) const {
  const int64_t num_blocks = in_ / kBlock;  // Of a row.
  std::vector<std::byte> scales(static_cast<size_t>(out_ * num_blocks));
  std::vector<std::byte> codes(scales.size() * kCodeBytes);
  codes_.file->read(codes_.tensor->bytes.begin + number * std::ssize(codes), codes);
  scales_.file->read(scales_.tensor->bytes.begin + number * std::ssize(scales), scales);
  const Range blocks{elements.begin / out_ / kBlock, (elements.end - 1) / out_ / kBlock + 1};
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    for (int64_t row = 0; row < out_; ++row) {
      const auto place = static_cast<size_t>(row * num_blocks + block);
      const Block decoded =
          decode(std::span(codes).subspan(place * kCodeBytes, kCodeBytes), scales[place]);
      for (int64_t i = 0; i < kBlock; ++i) {
        const int64_t element = (block * kBlock + i) * out_ + row;
        if (element < elements.begin || element >= elements.end) continue;
        floats[static_cast<size_t>(element - elements.begin)] = decoded[static_cast<size_t>(i)];
      }
    }
  }
}

}  // namespace temper
