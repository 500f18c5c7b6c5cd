// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "model/quantised/device_dequantiser.h"
#include "model/quantised/four_bit_format.h"
#include "model/quantised/quantised_absmax.h"
#include "model/unit_layout.h"
#include "zero/buffer_pool.h"
#include "zero/quantisation_options.h"
#include "zero/unit_store.h"
#include "zero/unit_weights.h"

namespace temper {

/// A matrix that is in four bits already, where it lies.
struct QuantisedSource {
  /// Reads the codes of `elements`, which are whole blocks, and the bytes of these blocks' scales:
  /// fp32 numbers, or codes where the scales are quantised.
  std::function<void(Range elements, std::span<uint8_t> codes, std::span<uint8_t> scales)> read;
  QuantisedAbsmax scales;  ///< Without codes; empty unless the scales are quantised.
};

/// The frozen units of a model whose blocks' matrices are kept, sharded and gathered in four bits,
/// and dequantised unit by unit. Embedding, head, norms and biases stay as they are.
///
/// A rank's slice of a unit is the codes of its elements, then the scales of its blocks: slices are
/// cut on borders of blocks, since ShardLayout aligns them.
/// Throws: CommError; ModelError for a matrix that does not divide into blocks.
class QuantisedUnits : public UnitWeights {
 public:
  /// Reads elements `range` of a tensor: values [range.size()].
  using ReadElements = std::function<void(const TensorSlot&, Range range, std::span<float> values)>;

  /// `options.purpose` has no meaning. Other devices than CPUs dequantise by operations of
  /// LibTorch, and so does a CPU if `by_torch`: the bits are the same.
  QuantisedUnits(const std::vector<UnitLayout>& units, Communicator& ranks, StoreOptions options,
                 QuantisationOptions quantisation, bool by_torch = false);

  int num_units() const { return static_cast<int>(units_.size()); }

  /// What is not quantised, under the same numbers of units.
  UnitStore& unquantised() { return unquantised_; }

  /// Reads this rank's part of the unit's matrices and quantises it: one matrix's part is held in
  /// fp32 at a time. Local.
  /// Throws: ModelError if a number is not finite; what `read` throws.
  void read(int unit, const ReadElements& read);

  /// Reads this rank's part of matrices that are quantised already, as they are. Local.
  /// Throws: what `open` and its sources throw.
  void read_quantised(int unit, const std::function<QuantisedSource(const TensorSlot&)>& open);

  /// After `read` or `read_quantised` on all ranks: quantises the scales of whole matrices that are
  /// not yet. Collective.
  void finish(int unit);

  void prefetch(int unit) override;
  at::Tensor gather(int unit) override;
  void release(int unit) override;

  /// Bytes that this rank holds between steps.
  int64_t state_bytes() const;

 private:
  struct Unit {
    std::vector<TensorSlot> matrices;  // From the start of the unit, back to back.
    ShardLayout shards{1, 1};          // Of the matrices' elements.
    at::Tensor packed;                 // [slice_bytes], or of all ranks; the host's until `finish`.
    std::vector<QuantisedAbsmax> scales;   // [matrix], without codes: the same on all ranks.
    std::vector<at::Tensor> absmax;        // [matrix], of `scales`, for the device.
    std::vector<std::vector<float>> read;  // [matrix], this rank's scales until `finish`.
    int64_t num_elements = 0;              // With what is not quantised.
    at::Tensor gathered;                   // Packed, of all ranks, on its way.
    Pending pending;
    at::Tensor open;  // Dequantised.
  };

  bool is_quantised(int unit) const { return unit > 0 && unit + 1 < num_units(); }
  bool is_sharded() const { return options_.zero.stage == 3 && ranks_.world_size() > 1; }
  int64_t scale_bytes() const { return quantisation_.is_double ? 1 : sizeof(float); }
  int64_t slice_bytes(const Unit& unit) const;
  Unit make_block(const UnitLayout& layout) const;
  at::Tensor own_slice(const Unit& unit) const;
  at::Tensor codes_of(const Unit& unit, const at::Tensor& slice, Range elements) const;
  at::Tensor scales_of(const Unit& unit, const at::Tensor& slice, Range elements) const;
  void finish_scales(Unit& unit, size_t matrix);
  at::Tensor absmax_of(const Unit& unit, const at::Tensor& packed, size_t matrix) const;
  void start_gather(Unit& unit);
  void dequantise_matrix(const Unit& unit, const at::Tensor& packed, size_t matrix) const;

  Communicator& ranks_;
  StoreOptions options_;
  QuantisationOptions quantisation_;
  FourBitFormat format_;
  std::optional<DeviceDequantiser> device_;  // Where the CPU's own functions do not serve.
  UnitStore unquantised_;
  std::vector<Unit> units_;  // Empty ones where nothing is quantised.
  BufferPool packed_buffers_;
  BufferPool open_buffers_;
};

}  // namespace temper
