// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/four_bit/dequantised_matrix.h"

#include <ATen/ops/empty.h>

#include <cstring>
#include <vector>

#include "checkpoint/four_bit/stored_matrix.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"
#include "model/quantised/dequantise.h"
#include "model/quantised/quantise.h"

namespace temper {
namespace {

struct Blocks {
  std::vector<uint8_t> codes;
  std::vector<float> absmax;
};

void read_stored(const ModelFolder& base, const TensorSlot& slot,
                 const QuantisationOptions& options, Blocks& blocks) {
  const StoredMatrix stored(base.weights(), slot, options);
  std::vector<uint8_t> scales(blocks.absmax.size() * (options.is_double ? 1 : sizeof(float)));
  stored.read({0, slot.num_elements()}, blocks.codes, scales);
  if (options.is_double) {
    QuantisedAbsmax nested = stored.nested();
    nested.codes = std::move(scales);
    dequantise_absmax(nested, blocks.absmax);
  } else {
    std::memcpy(blocks.absmax.data(), scales.data(), scales.size());
  }
}

void quantise_dense(const ModelFolder& base, const TensorSlot& slot,
                    const QuantisationOptions& options, Blocks& blocks) {
  quantise(read_tensor(*base.weights().find(slot.name)), {options.kind}, blocks.codes,
           blocks.absmax);
  if (!all_finite(blocks.absmax)) {
    throw ModelError(concat("the tensor ", slot.name, " has numbers that are not finite"),
                     "use a model whose weights are whole");
  }
  if (options.is_double) dequantise_absmax(quantise_absmax(blocks.absmax), blocks.absmax);
}

}  // namespace

at::Tensor dequantised_matrix(const ModelFolder& base, const TensorSlot& slot,
                              const QuantisationOptions& options) {
  const FourBitFormat format{options.kind};
  const int64_t size = slot.num_elements();
  Blocks blocks{std::vector<uint8_t>(static_cast<size_t>(FourBitFormat::num_bytes(size))),
                std::vector<float>(static_cast<size_t>(format.num_blocks(size)))};
  if (base.is_four_bit(slot)) {
    read_stored(base, slot, options, blocks);
  } else {
    quantise_dense(base, slot, options, blocks);
  }
  at::Tensor values = at::empty(slot.shape, at::kFloat);
  dequantise({blocks.codes, blocks.absmax}, format, values);
  return values;
}

}  // namespace temper
