// SPDX-License-Identifier: Apache-2.0
#include "zero/four_bit_unit.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"
#include "model/ops/kernel_call.h"
#include "model/quantised/dequantise.h"
#include "model/quantised/quantise.h"
#include "zero/four_bit_kernel.h"

namespace temper {
namespace {

std::span<uint8_t> bytes_of(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<uint8_t>(), tensor.nbytes()};
}
std::span<float> floats_of(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

std::vector<TensorSlot> matrices_of(const UnitLayout& unit, const FourBitFormat& format) {
  std::vector<TensorSlot> matrices;
  for (const TensorSlot& slot : unit.slots()) {
    if (!slot.is_matrix()) continue;
    if (slot.num_elements() % format.block_size != 0) {
      throw ModelError(concat(slot.name, " has ", slot.num_elements(),
                              " elements, which blocks of ", format.block_size, " do not divide"),
                       "use method lora for this model");
    }
    matrices.push_back(slot);
  }
  return matrices;
}

}  // namespace

FourBitUnit::FourBitUnit(const StoredUnit& unit, Communicator& ranks, at::Device device,
                         Unpacking unpacking)
    : ranks_(&ranks),
      device_(device),
      dtype_(unit.form.dtype),
      quantisation_(*unit.form.four_bit),
      format_{quantisation_.kind},
      matrices_(matrices_of(unit.layout, format_)),
      scales_(matrices_.size()) {
  const int64_t num_matrix_elements = matrices_.back().range().end;
  matrix_shards_ = ShardLayout(num_matrix_elements, ranks.world_size());
  const int64_t num_others = unit.layout.num_elements() - num_matrix_elements;
  if (num_others > 0) vector_shards_.emplace(num_others, ranks.world_size());
  if (unpacking == Unpacking::kByLibTorch || !device.is_cpu()) by_torch_.emplace(format_, device);
}

int64_t FourBitUnit::slice_bytes() const {
  const int64_t size = matrix_shards_.shard_size();
  return FourBitFormat::num_bytes(size) + format_.num_blocks(size) * scale_bytes() + vector_bytes();
}

int64_t FourBitUnit::vector_bytes() const {
  if (!vector_shards_) return 0;
  return vector_shards_->shard_size() * static_cast<int64_t>(at::elementSize(dtype_));
}

at::Tensor FourBitUnit::slice_of(const at::Tensor& packed, int rank) const {
  return packed.narrow(0, rank * slice_bytes(), slice_bytes());
}

// Where the codes of some elements of one rank lie in that rank's slice.
at::Tensor FourBitUnit::codes_of(const at::Tensor& slice, Range elements) const {
  return slice.narrow(0, elements.begin % matrix_shards_.shard_size() / 2, elements.size() / 2);
}

at::Tensor FourBitUnit::scales_of(const at::Tensor& slice, Range elements) const {
  const int64_t size = matrix_shards_.shard_size();
  const int64_t first = elements.begin % size / format_.block_size;
  return slice.narrow(0, FourBitFormat::num_bytes(size) + first * scale_bytes(),
                      elements.size() / format_.block_size * scale_bytes());
}

Range FourBitUnit::kept_vectors() const {
  const int64_t first = matrix_shards_.num_elements();
  const Range block = vector_shards_ ? vector_shards_->block(ranks_->rank()) : Range{0, 0};
  return {first + block.begin, first + block.end};
}

at::Tensor FourBitUnit::vectors(const at::Tensor& slice) const {
  return slice.narrow(0, slice_bytes() - vector_bytes(), vector_bytes()).view(dtype_);
}

void FourBitUnit::read(const ReadElements& read, const at::Tensor& slice) {
  read_.assign(matrices_.size(), {});
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const TensorSlot& slot = matrices_[i];
    const Range own = intersection(slot.range(), matrix_shards_.owned(ranks_->rank()));
    if (own.is_empty()) continue;
    const at::Tensor values = at::empty({own.size()}, at::kFloat);
    read(slot, {own.begin - slot.offset, own.end - slot.offset}, floats_of(values));
    std::vector<float>& scales = read_[i];
    scales.resize(static_cast<size_t>(format_.num_blocks(own.size())));
    quantise(values, format_, bytes_of(codes_of(slice, own)), scales);
    if (all_finite(scales)) continue;
    throw ModelError(concat("the tensor ", slot.name, " has numbers that are not finite"),
                     "use a model whose weights are whole");
  }
}

void FourBitUnit::read_quantised(const OpenMatrix& open, const at::Tensor& slice) {
  read_.clear();
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const TensorSlot& slot = matrices_[i];
    QuantisedSource source = open(slot);
    const Range own = intersection(slot.range(), matrix_shards_.owned(ranks_->rank()));
    if (!own.is_empty()) {
      source.read({own.begin - slot.offset, own.end - slot.offset}, bytes_of(codes_of(slice, own)),
                  bytes_of(scales_of(slice, own)));
    }
    scales_[i] = std::move(source.scales);
  }
}

void FourBitUnit::finish(const at::Tensor& slice) {
  for (size_t i = 0; i < read_.size(); ++i) finish_scales(i, slice);
  read_.clear();
  absmax_.clear();
  for (size_t i = 0; by_torch_ && i < scales_.size(); ++i) {
    absmax_.push_back(at::tensor(scales_[i].absmax, at::kFloat).to(device_));
  }
}

// The scales have one mean over the whole matrix. Each rank adds its own to zeros: that is exact.
void FourBitUnit::finish_scales(size_t i, const at::Tensor& slice) {
  const TensorSlot& slot = matrices_[i];
  const Range own = intersection(slot.range(), matrix_shards_.owned(ranks_->rank()));
  at::Tensor all = at::zeros({format_.num_blocks(slot.num_elements())}, at::kFloat);
  const int64_t first = own.is_empty() ? 0 : (own.begin - slot.offset) / format_.block_size;
  std::ranges::copy(read_[i], floats_of(all).begin() + first);
  all = all.to(device_);
  ranks_->all_reduce(all, ReduceOp::kSum).wait();
  all = all.cpu();
  const std::span<float> scales = floats_of(all);
  if (quantisation_.is_double) scales_[i] = quantise_absmax(scales);
  if (!own.is_empty()) {
    const std::span<uint8_t> place = bytes_of(scales_of(slice, own));
    const void* from = quantisation_.is_double
                           ? static_cast<const void*>(scales_[i].codes.data() + first)
                           : static_cast<const void*>(scales.data() + first);
    std::memcpy(place.data(), from, place.size());
  }
  scales_[i].codes.clear();
}

void FourBitUnit::unpack(const at::Tensor& packed, const at::Tensor& out) const {
  for (size_t i = 0; i < matrices_.size(); ++i) unpack_matrix(packed, i, out);
  for (int rank = 0; vector_shards_ && rank < ranks_->world_size(); ++rank) {
    const Range part = vector_shards_->owned(rank);
    if (part.is_empty()) continue;
    out.narrow(0, matrix_shards_.num_elements() + part.begin, part.size())
        .copy_(vectors(slice_of(packed, rank)).narrow(0, 0, part.size()));
  }
}

// The scales of a whole matrix, from the slices of all ranks.
at::Tensor FourBitUnit::absmax_of(const at::Tensor& packed, size_t i) const {
  std::vector<at::Tensor> parts;
  for (int rank = 0; rank < ranks_->world_size(); ++rank) {
    const Range part = intersection(matrices_[i].range(), matrix_shards_.owned(rank));
    if (!part.is_empty()) parts.push_back(scales_of(slice_of(packed, rank), part));
  }
  const at::Tensor all = at::cat(parts);
  if (!quantisation_.is_double) return all.view(at::kFloat);
  if (by_torch_) return by_torch_->dequantise_absmax(all, absmax_[i], scales_[i].offset);
  QuantisedAbsmax whole = scales_[i];
  const std::span<uint8_t> codes = bytes_of(all);
  whole.codes.assign(codes.begin(), codes.end());
  const at::Tensor absmax = at::empty({all.numel()}, at::kFloat);
  dequantise_absmax(whole, floats_of(absmax));
  return absmax;
}

void FourBitUnit::unpack_by_kernel(const at::Tensor& packed, size_t i,
                                   const at::Tensor& out) const {
  const TensorSlot& slot = matrices_[i];
  const QuantisedAbsmax& scales = scales_[i];
  const bool is_double = quantisation_.is_double;
  const PackedMatrix matrix{
      .packed = source_of<uint8_t>(packed),
      .slice_bytes = slice_bytes(),
      .shard_size = matrix_shards_.shard_size(),
      .begin = slot.offset,
      .size = slot.num_elements(),
      .block_size = format_.block_size,
      .scale_values = is_double ? source_of<float>(by_torch_->scale_values()) : nullptr,
      .scale_absmax = is_double ? source_of<float>(absmax_[i]) : nullptr,
      .scale_offset = scales.offset};
  const at::Tensor values = out.narrow(0, slot.offset, slot.num_elements());
  dispatch_kernel(out.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    FourBitKernel<T> kernel{matrix, place_of<T>(values), {}};
    std::ranges::copy(four_bit_values(format_.kind), kernel.values);
    if constexpr (kHasKernels) launch_beside(out, kernel);
  });
}

void FourBitUnit::unpack_matrix(const at::Tensor& packed, size_t i, const at::Tensor& out) const {
  if constexpr (kHasKernels) {
    if (!out.is_cpu()) return unpack_by_kernel(packed, i, out);
  }
  const TensorSlot& slot = matrices_[i];
  const at::Tensor all_absmax = absmax_of(packed, i);
  for (int rank = 0; rank < ranks_->world_size(); ++rank) {
    const Range part = intersection(slot.range(), matrix_shards_.owned(rank));
    if (part.is_empty()) continue;
    const at::Tensor codes = codes_of(slice_of(packed, rank), part);
    const at::Tensor absmax = all_absmax.narrow(0, (part.begin - slot.offset) / format_.block_size,
                                                part.size() / format_.block_size);
    const at::Tensor values = out.narrow(0, part.begin, part.size());
    if (by_torch_) {
      by_torch_->dequantise(codes, absmax, values);
    } else {
      dequantise({bytes_of(codes), floats_of(absmax)}, format_, values);
    }
  }
}

int64_t FourBitUnit::shared_bytes() const {
  int64_t bytes = 0;
  for (const QuantisedAbsmax& scales : scales_) {
    bytes += static_cast<int64_t>(scales.absmax.size() * sizeof(float));
  }
  return bytes;
}

}  // namespace temper
