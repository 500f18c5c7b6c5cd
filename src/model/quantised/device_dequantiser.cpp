// SPDX-License-Identifier: Apache-2.0
#include "model/quantised/device_dequantiser.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <stdexcept>

#include "model/quantised/dynamic_map.h"
#include "model/quantised/quantised_absmax.h"

namespace temper {
namespace {

constexpr int64_t kElementsAtOnce = int64_t{1} << 23;  // Of whole blocks.

at::Tensor pairs(FourBitKind kind) {
  const auto& values = four_bit_values(kind);
  at::Tensor pairs = at::empty({256, 2}, at::kFloat);
  auto* const out = pairs.mutable_data_ptr<float>();
  for (size_t byte = 0; byte < 256; ++byte) {
    out[2 * byte] = values[byte >> 4];
    out[2 * byte + 1] = values[byte & 15];
  }
  return pairs;
}

at::Tensor scales() {
  const auto& values = dynamic_map(MapSign::kSigned);
  at::Tensor scales = at::empty({256}, at::kFloat);
  std::ranges::copy(values, scales.mutable_data_ptr<float>());
  return scales;
}

}  // namespace

DeviceDequantiser::DeviceDequantiser(const FourBitFormat& format, at::Device device)
    : format_(format), pairs_(pairs(format.kind).to(device)), scales_(scales().to(device)) {
  format.require_valid();
}

void DeviceDequantiser::dequantise(const at::Tensor& codes, const at::Tensor& absmax,
                                   const at::Tensor& out) const {
  const int64_t size = out.numel(), block_size = format_.block_size;
  if (out.dim() != 1 || size % block_size != 0 || codes.numel() != size / 2 ||
      absmax.numel() != size / block_size) {
    throw std::invalid_argument("dequantise wants room for exactly the blocks there are");
  }
  for (int64_t first = 0; first < size; first += kElementsAtOnce) {
    const int64_t count = std::min(kElementsAtOnce, size - first);
    const at::Tensor indices = codes.narrow(0, first / 2, count / 2).to(at::kInt);
    const at::Tensor values = pairs_.index_select(0, indices).view({-1, block_size});
    values.mul_(absmax.narrow(0, first / block_size, count / block_size).unsqueeze(1));
    out.narrow(0, first, count).copy_(values.view(-1));
  }
}

at::Tensor DeviceDequantiser::dequantise_absmax(const at::Tensor& codes, const at::Tensor& absmax,
                                                float offset) const {
  constexpr int64_t kSize = QuantisedAbsmax::kBlockSize;
  const int64_t size = codes.numel();
  if (absmax.numel() != (size + kSize - 1) / kSize) {
    throw std::invalid_argument("dequantise_absmax wants one number for 256 codes");
  }
  at::Tensor scales = scales_.index_select(0, codes.to(at::kInt));
  scales.mul_(absmax.repeat_interleave(kSize).narrow(0, 0, size));
  return scales.add_(offset);
}

}  // namespace temper
