// SPDX-License-Identifier: Apache-2.0
#include "zero/kept_numbers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "core/floats.h"
#include "core/random.h"
#include "zero/eight_bit.h"

namespace temper {
namespace {

constexpr int64_t kBlock = EightBitCodes::kBlockSize;
constexpr int64_t kPerCounter = 8;  // Elements that one call of the generator rounds, 16 bits each.

uint16_t nearest_bf16(float number) { return c10::BFloat16(number).x; }

void round_by_chance(Range elements, std::span<const float> values, const Rounding& rounding,
                     uint16_t* out) {
  constexpr int64_t kAtOnce = 1024;
  std::array<uint32_t, kAtOnce / 2 + 4> words;
  std::array<uint16_t, 2 * words.size()> halves;
  for (int64_t begin = elements.begin; begin < elements.end;) {
    const int64_t first = begin / kPerCounter;
    const int64_t end = std::min(elements.end, first * kPerCounter + kAtOnce);
    const auto num_counters = static_cast<size_t>((end - 1) / kPerCounter + 1 - first);
    philox_run(rounding.key, static_cast<uint64_t>(first), rounding.counter,
               std::span(words).first(4 * num_counters));
    std::memcpy(halves.data(), words.data(), sizeof words);
    const uint16_t* const bits = halves.data() + (begin - first * kPerCounter);
    const float* const from = values.data() + (begin - elements.begin);
    uint16_t* const to = out + (begin - elements.begin);
    // What is cut off is added to before: it carries as often as it is large.
    for (int64_t i = 0; i < end - begin; ++i) {
      to[i] = static_cast<uint16_t>((std::bit_cast<uint32_t>(from[i]) + bits[i]) >> 16);
    }
    begin = end;
  }
}

}  // namespace

int64_t ScaledPart::num_scales() const {
  if (!has_blocks) return elements.size();
  return (elements.end - 1) / kBlock + 1 - elements.begin / kBlock;
}

std::vector<ScaledPart> scaled_parts(const UnitLayout& unit, Range kept) {
  std::vector<ScaledPart> parts;
  int64_t next = 0;
  for (const TensorSlot& slot : unit.slots()) {
    const Range elements = intersection(slot.range(), kept);
    if (elements.is_empty()) continue;
    parts.push_back({elements, next, slot.num_elements() >= ScaledPart::kFewestElements});
    next += parts.back().num_scales();
  }
  return parts;
}

int64_t num_scales(const std::vector<ScaledPart>& parts) {
  return parts.empty() ? 0 : parts.back().first_scale + parts.back().num_scales();
}

KeptNumbers KeptNumbers::narrow(Range elements) const {
  KeptNumbers part = *this;
  part.numbers = numbers.narrow(0, elements.begin - kept.begin, elements.size());
  part.kept = elements;
  return part;
}

void KeptNumbers::read(Range elements, std::span<float> out) const {
  const int64_t first = elements.begin - kept.begin;
  if (numbers.scalar_type() == at::kByte) {
    decode(elements, out);
  } else if (numbers.scalar_type() == at::kBFloat16) {
    const c10::BFloat16* const from = numbers.const_data_ptr<c10::BFloat16>() + first;
    for (size_t i = 0; i < out.size(); ++i) out[i] = from_bf16(from[i].x);
  } else {
    std::copy_n(numbers.const_data_ptr<float>() + first, out.size(), out.data());
  }
}

void KeptNumbers::write(Range elements, std::span<const float> values,
                        const Rounding* rounding) const {
  const int64_t first = elements.begin - kept.begin;
  if (numbers.scalar_type() == at::kByte) {
    encode(elements, values);
  } else if (numbers.scalar_type() == at::kBFloat16) {
    auto* const to = reinterpret_cast<uint16_t*>(numbers.mutable_data_ptr<c10::BFloat16>()) + first;
    if (rounding != nullptr) return round_by_chance(elements, values, *rounding, to);
    std::ranges::transform(values, to, nearest_bf16);
  } else {
    std::copy_n(values.data(), values.size(), numbers.mutable_data_ptr<float>() + first);
  }
}

void KeptNumbers::release(Range elements) const {
  if (file == nullptr || elements.is_empty()) return;
  file->release(numbers.narrow(0, elements.begin - kept.begin, elements.size()));
}

// Calls `visit(elements, scale, has_blocks)` for each block that elements share with a tensor, or
// for all at once of a small tensor.
template <typename Visit>
void KeptNumbers::for_each_block(Range elements, Visit visit) const {
  for (const ScaledPart& part : *parts) {
    const Range own = intersection(part.elements, elements);
    for (int64_t begin = own.begin; begin < own.end;) {
      const int64_t end =
          part.has_blocks ? std::min(own.end, (begin / kBlock + 1) * kBlock) : own.end;
      const int64_t place = part.has_blocks ? begin / kBlock - part.elements.begin / kBlock
                                            : begin - part.elements.begin;
      visit(Range{begin, end}, part.first_scale + place, part.has_blocks);
      begin = end;
    }
  }
}

void KeptNumbers::decode(Range elements, std::span<float> out) const {
  const EightBitCodes& map = eight_bit_codes(sign);
  const uint8_t* const codes = numbers.const_data_ptr<uint8_t>() - kept.begin;
  const float* const all_scales = scales.const_data_ptr<float>();
  for_each_block(elements, [&](Range block, int64_t scale, bool has_blocks) {
    const auto size = static_cast<size_t>(block.size());
    const auto to = out.subspan(static_cast<size_t>(block.begin - elements.begin), size);
    if (has_blocks) return map.decode({codes + block.begin, size}, all_scales[scale], to);
    std::copy_n(all_scales + scale, size, to.data());
  });
}

void KeptNumbers::encode(Range elements, std::span<const float> values) const {
  const EightBitCodes& map = eight_bit_codes(sign);
  uint8_t* const codes = numbers.mutable_data_ptr<uint8_t>() - kept.begin;
  float* const all_scales = scales.mutable_data_ptr<float>();
  for_each_block(elements, [&](Range block, int64_t scale, bool has_blocks) {
    const auto size = static_cast<size_t>(block.size());
    const auto from = values.subspan(static_cast<size_t>(block.begin - elements.begin), size);
    if (has_blocks) {
      all_scales[scale] = map.encode(from, {codes + block.begin, size});
    } else {
      std::ranges::copy(from, all_scales + scale);
    }
  });
}

}  // namespace temper
