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
#include "zero/shard_layout.h"
#include "zero/unit_form.h"

namespace temper {

/// A matrix that is in four bits already, where it lies.
struct QuantisedSource {
  /// Reads the codes of `elements`, which are whole blocks, and the bytes of these blocks' scales:
  /// fp32 numbers, or codes where the scales are quantised.
  std::function<void(Range elements, std::span<uint8_t> codes, std::span<uint8_t> scales)> read;
  QuantisedAbsmax scales;  ///< Without codes; empty unless the scales are quantised.
};

/// How the matrices of a frozen unit are packed into four bits and unpacked. Norms and biases stay
/// as they are, in the dtype that is computed with.
///
/// A rank's slice of the unit is so many bytes: the codes of its elements of the matrices, then the
/// scales of their blocks, then its elements of the vectors. The matrices are cut on borders of
/// blocks, since ShardLayout aligns them. The slice lies on the host until all is filled.
class FourBitUnit {
 public:
  /// Where matrices are unpacked. The bits are the same.
  enum class Unpacking { kOwn, kByLibTorch };

  /// Reads elements `range` of a tensor: values [range.size()].
  using ReadElements = std::function<void(const TensorSlot&, Range range, std::span<float> values)>;
  using OpenMatrix = std::function<QuantisedSource(const TensorSlot&)>;

  /// `form.four_bit` is set. `ranks` must outlive this.
  /// Throws: ModelError for a matrix that does not divide into blocks.
  FourBitUnit(const StoredUnit& unit, Communicator& ranks, at::Device device, Unpacking unpacking);

  int64_t slice_bytes() const;

  /// Which elements of the unit `vectors` has: with padding at its end.
  Range kept_vectors() const;

  /// The vectors' part of a slice, to be filled as it is. Shapes: slice [slice_bytes()].
  at::Tensor vectors(const at::Tensor& slice) const;

  /// Reads this rank's part of the matrices and quantises it: one matrix's part is held in fp32 at
  /// a time. Local. Throws: ModelError if a number is not finite; what `read` throws.
  void read(const ReadElements& read, const at::Tensor& slice);

  /// Reads this rank's part of matrices that are quantised already, as they are. Local.
  /// Throws: what `open` and its sources throw.
  void read_quantised(const OpenMatrix& open, const at::Tensor& slice);

  /// After one of these on all ranks: quantises the scales of whole matrices that are not yet.
  /// Collective. Throws: CommError.
  void finish(const at::Tensor& slice);

  /// The whole unit. Shapes: packed [world_size * slice_bytes()], out [num_elements].
  void unpack(const at::Tensor& packed, const at::Tensor& out) const;

  /// Bytes of what is the same on all ranks, beside the slices.
  int64_t shared_bytes() const;

 private:
  int64_t vector_bytes() const;
  int64_t scale_bytes() const { return quantisation_.is_double ? 1 : sizeof(float); }
  at::Tensor slice_of(const at::Tensor& packed, int rank) const;
  at::Tensor codes_of(const at::Tensor& slice, Range elements) const;
  at::Tensor scales_of(const at::Tensor& slice, Range elements) const;
  void finish_scales(size_t matrix, const at::Tensor& slice);
  at::Tensor absmax_of(const at::Tensor& packed, size_t matrix) const;
  void unpack_by_kernel(const at::Tensor& packed, size_t matrix, const at::Tensor& out) const;
  void unpack_matrix(const at::Tensor& packed, size_t matrix, const at::Tensor& out) const;

  Communicator* ranks_;
  at::Device device_;
  at::ScalarType dtype_;
  QuantisationOptions quantisation_;
  FourBitFormat format_;
  std::vector<TensorSlot> matrices_;          // From the start of the unit, back to back.
  ShardLayout matrix_shards_{1, 1};           // Of the matrices' elements,
  std::optional<ShardLayout> vector_shards_;  // and of those after them, if there are any.
  std::optional<DeviceDequantiser> by_torch_;
  std::vector<QuantisedAbsmax> scales_;   // [matrix], without codes: the same on all ranks.
  std::vector<at::Tensor> absmax_;        // [matrix], of `scales_`, for `by_torch_`.
  std::vector<std::vector<float>> read_;  // [matrix], this rank's scales until `finish`.
};

}  // namespace temper
