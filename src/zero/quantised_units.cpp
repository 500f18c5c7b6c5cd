// SPDX-License-Identifier: Apache-2.0
#include "zero/quantised_units.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"
#include "model/quantised/dequantise.h"
#include "model/quantised/quantise.h"

namespace temper {
namespace {

// The same units without the matrices of blocks.
std::vector<UnitLayout> unquantised_parts(const std::vector<UnitLayout>& units) {
  std::vector<UnitLayout> rest = units;
  for (size_t unit = 1; unit + 1 < units.size(); ++unit) {
    std::vector<TensorSlot> slots = units[unit].slots();
    std::erase_if(slots, [](const TensorSlot& slot) { return slot.is_matrix(); });
    rest[unit] = UnitLayout(units[unit].name(), std::move(slots));
  }
  return rest;
}

StoreOptions frozen(StoreOptions options) {
  options.purpose = StorePurpose::kFrozen;
  return options;
}

std::span<uint8_t> bytes_of(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<uint8_t>(), tensor.nbytes()};
}
std::span<float> floats_of(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

}  // namespace

QuantisedUnits::QuantisedUnits(const std::vector<UnitLayout>& units, Communicator& ranks,
                               StoreOptions options, QuantisationOptions quantisation,
                               bool by_torch)
    : ranks_(ranks),
      options_(options),
      quantisation_(quantisation),
      format_{quantisation.kind},
      unquantised_(unquantised_parts(units), ranks, frozen(options)),
      packed_buffers_(at::kByte, options.device),
      open_buffers_(options.compute_dtype, options.device) {
  if (by_torch || !options.device.is_cpu()) device_.emplace(format_, options.device);
  for (size_t unit = 0; unit < units.size(); ++unit) {
    const bool is_block = unit > 0 && unit + 1 < units.size();
    units_.push_back(is_block ? make_block(units[unit]) : Unit());
  }
}

QuantisedUnits::Unit QuantisedUnits::make_block(const UnitLayout& layout) const {
  Unit unit;
  unit.num_elements = layout.num_elements();
  for (const TensorSlot& slot : layout.slots()) {
    if (!slot.is_matrix()) continue;
    if (slot.num_elements() % format_.block_size != 0) {
      throw ModelError(concat(slot.name, " has ", slot.num_elements(),
                              " elements, which blocks of ", format_.block_size, " do not divide"),
                       "use method lora for this model");
    }
    unit.matrices.push_back(slot);
  }
  unit.shards = ShardLayout(unit.matrices.back().range().end, ranks_.world_size());
  unit.scales.resize(unit.matrices.size());
  const int64_t slices = is_sharded() ? 1 : ranks_.world_size();
  unit.packed = at::zeros({slices * slice_bytes(unit)}, at::TensorOptions(at::kByte));
  return unit;
}

int64_t QuantisedUnits::slice_bytes(const Unit& unit) const {
  const int64_t size = unit.shards.shard_size();
  return FourBitFormat::num_bytes(size) + format_.num_blocks(size) * scale_bytes();
}

at::Tensor QuantisedUnits::own_slice(const Unit& unit) const {
  const int64_t bytes = slice_bytes(unit);
  return is_sharded() ? unit.packed : unit.packed.narrow(0, ranks_.rank() * bytes, bytes);
}

// Where the codes of some elements of one rank lie in that rank's slice.
at::Tensor QuantisedUnits::codes_of(const Unit& unit, const at::Tensor& slice,
                                    Range elements) const {
  return slice.narrow(0, elements.begin % unit.shards.shard_size() / 2, elements.size() / 2);
}

at::Tensor QuantisedUnits::scales_of(const Unit& unit, const at::Tensor& slice,
                                     Range elements) const {
  const int64_t size = unit.shards.shard_size();
  const int64_t first = elements.begin % size / format_.block_size;
  return slice.narrow(0, FourBitFormat::num_bytes(size) + first * scale_bytes(),
                      elements.size() / format_.block_size * scale_bytes());
}

void QuantisedUnits::read(int index, const ReadElements& read) {
  if (!is_quantised(index)) return;
  Unit& unit = units_[static_cast<size_t>(index)];
  unit.read.assign(unit.matrices.size(), {});
  for (size_t i = 0; i < unit.matrices.size(); ++i) {
    const TensorSlot& slot = unit.matrices[i];
    const Range own = intersection(slot.range(), unit.shards.owned(ranks_.rank()));
    if (own.is_empty()) continue;
    const at::Tensor values = at::empty({own.size()}, at::kFloat);
    read(slot, {own.begin - slot.offset, own.end - slot.offset}, floats_of(values));
    std::vector<float>& scales = unit.read[i];
    scales.resize(static_cast<size_t>(format_.num_blocks(own.size())));
    quantise(values, format_, bytes_of(codes_of(unit, own_slice(unit), own)), scales);
    if (all_finite(scales)) continue;
    throw ModelError(concat("the tensor ", slot.name, " has numbers that are not finite"),
                     "use a model whose weights are whole");
  }
}

void QuantisedUnits::read_quantised(int index,
                                    const std::function<QuantisedSource(const TensorSlot&)>& open) {
  if (!is_quantised(index)) return;
  Unit& unit = units_[static_cast<size_t>(index)];
  unit.read.clear();
  for (size_t i = 0; i < unit.matrices.size(); ++i) {
    const TensorSlot& slot = unit.matrices[i];
    QuantisedSource source = open(slot);
    const Range own = intersection(slot.range(), unit.shards.owned(ranks_.rank()));
    if (!own.is_empty()) {
      source.read({own.begin - slot.offset, own.end - slot.offset},
                  bytes_of(codes_of(unit, own_slice(unit), own)),
                  bytes_of(scales_of(unit, own_slice(unit), own)));
    }
    unit.scales[i] = std::move(source.scales);
  }
}

void QuantisedUnits::finish(int index) {
  if (!is_quantised(index)) return;
  Unit& unit = units_[static_cast<size_t>(index)];
  for (size_t i = 0; i < unit.read.size(); ++i) finish_scales(unit, i);
  unit.read.clear();
  unit.packed = unit.packed.to(options_.device);
  for (size_t i = 0; device_ && i < unit.scales.size(); ++i) {
    unit.absmax.push_back(at::tensor(unit.scales[i].absmax, at::kFloat).to(options_.device));
  }
  if (!is_sharded() && ranks_.world_size() > 1) {
    ranks_.all_gather(own_slice(unit), unit.packed).wait();
  }
}

// The scales have one mean over the whole matrix. Each rank adds its own to zeros: that is exact.
void QuantisedUnits::finish_scales(Unit& unit, size_t i) {
  const TensorSlot& slot = unit.matrices[i];
  const Range own = intersection(slot.range(), unit.shards.owned(ranks_.rank()));
  at::Tensor all = at::zeros({format_.num_blocks(slot.num_elements())}, at::kFloat);
  const int64_t first = own.is_empty() ? 0 : (own.begin - slot.offset) / format_.block_size;
  std::ranges::copy(unit.read[i], floats_of(all).begin() + first);
  all = all.to(options_.device);
  ranks_.all_reduce(all, ReduceOp::kSum).wait();
  all = all.cpu();
  const std::span<float> scales = floats_of(all);
  if (quantisation_.is_double) {
    unit.scales[i] = quantise_absmax(scales);
  }
  if (!own.is_empty()) {
    const std::span<uint8_t> place = bytes_of(scales_of(unit, own_slice(unit), own));
    const void* from = quantisation_.is_double
                           ? static_cast<const void*>(unit.scales[i].codes.data() + first)
                           : static_cast<const void*>(scales.data() + first);
    std::memcpy(place.data(), from, place.size());
  }
  unit.scales[i].codes.clear();
}

void QuantisedUnits::prefetch(int index) {
  unquantised_.prefetch(index);
  if (is_quantised(index) && is_sharded() && options_.zero.prefetches) {
    start_gather(units_[static_cast<size_t>(index)]);
  }
}

void QuantisedUnits::start_gather(Unit& unit) {
  if (unit.gathered.defined()) return;
  unit.gathered = packed_buffers_.take(ranks_.world_size() * slice_bytes(unit));
  unit.pending = ranks_.all_gather(unit.packed, unit.gathered);
}

at::Tensor QuantisedUnits::gather(int index) {
  if (!is_quantised(index)) return unquantised_.gather(index);
  Unit& unit = units_[static_cast<size_t>(index)];
  if (unit.open.defined()) return unit.open;
  if (is_sharded()) {
    unquantised_.prefetch(index);  // In the order of `prefetch`, which other ranks may have called.
    start_gather(unit);
    unit.pending.wait();
  }
  unit.open = open_buffers_.take(unit.num_elements);
  const at::Tensor packed = is_sharded() ? unit.gathered : unit.packed;
  for (size_t i = 0; i < unit.matrices.size(); ++i) dequantise_matrix(unit, packed, i);
  if (is_sharded()) packed_buffers_.put(std::exchange(unit.gathered, {}));

  const int64_t first = unit.shards.num_elements();
  const int64_t count = unit.num_elements - first;
  unit.open.narrow(0, first, count).copy_(unquantised_.gather(index).narrow(0, 0, count));
  unquantised_.release(index);
  return unit.open;
}

// The scales of a whole matrix, from the slices of all ranks.
at::Tensor QuantisedUnits::absmax_of(const Unit& unit, const at::Tensor& packed, size_t i) const {
  std::vector<at::Tensor> parts;
  for (int rank = 0; rank < ranks_.world_size(); ++rank) {
    const Range part = intersection(unit.matrices[i].range(), unit.shards.owned(rank));
    if (part.is_empty()) continue;
    const at::Tensor slice = packed.narrow(0, rank * slice_bytes(unit), slice_bytes(unit));
    parts.push_back(scales_of(unit, slice, part));
  }
  const at::Tensor all = at::cat(parts);
  if (!quantisation_.is_double) return all.view(at::kFloat);
  if (device_) return device_->dequantise_absmax(all, unit.absmax[i], unit.scales[i].offset);
  QuantisedAbsmax whole = unit.scales[i];
  const std::span<uint8_t> codes = bytes_of(all);
  whole.codes.assign(codes.begin(), codes.end());
  const at::Tensor absmax = at::empty({all.numel()}, at::kFloat);
  dequantise_absmax(whole, floats_of(absmax));
  return absmax;
}

void QuantisedUnits::dequantise_matrix(const Unit& unit, const at::Tensor& packed, size_t i) const {
  const TensorSlot& slot = unit.matrices[i];
  const at::Tensor all_absmax = absmax_of(unit, packed, i);
  for (int rank = 0; rank < ranks_.world_size(); ++rank) {
    const Range part = intersection(slot.range(), unit.shards.owned(rank));
    if (part.is_empty()) continue;
    const at::Tensor slice = packed.narrow(0, rank * slice_bytes(unit), slice_bytes(unit));
    const at::Tensor codes = codes_of(unit, slice, part);
    const at::Tensor absmax = all_absmax.narrow(0, (part.begin - slot.offset) / format_.block_size,
                                                part.size() / format_.block_size);
    const at::Tensor out = unit.open.narrow(0, part.begin, part.size());
    if (device_) {
      device_->dequantise(codes, absmax, out);
    } else {
      dequantise({bytes_of(codes), floats_of(absmax)}, format_, out);
    }
  }
}

void QuantisedUnits::release(int index) {
  if (!is_quantised(index)) return unquantised_.release(index);
  Unit& unit = units_[static_cast<size_t>(index)];
  if (unit.open.defined()) open_buffers_.put(std::exchange(unit.open, {}));
}

int64_t QuantisedUnits::state_bytes() const {
  int64_t bytes = unquantised_.state_bytes();
  for (const Unit& unit : units_) {
    if (unit.packed.defined()) bytes += static_cast<int64_t>(unit.packed.nbytes());
    for (const QuantisedAbsmax& scales : unit.scales) {
      bytes += static_cast<int64_t>(scales.absmax.size() * sizeof(float));
    }
  }
  return bytes;
}

}  // namespace temper
