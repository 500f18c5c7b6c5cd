// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <utility>
#include <vector>

#include "model/unit_layout.h"

namespace temper {

/// Tells one state of a unit's weights from another.
struct WeightVersion {
  int64_t number = 0;  ///< 0: unknown, and like no other.

  bool is_same(WeightVersion other) const { return number != 0 && number == other.number; }
};

/// The flat buffers of one unit while it computes. The engine sets them before each use: between
/// forward and backward the weights may have been released and gathered again somewhere else.
struct UnitBuffers {
  at::Tensor weights;          ///< [num_elements or more], compute dtype.
  at::Tensor gradients;        ///< The same shape and dtype; undefined where no gradient is wanted.
  WeightVersion version = {};  ///< Of the weights.
};

/// A handle to one matrix or vector in a unit's buffers, resolved at each use.
///
/// An autograd graph keeps the handle, not the tensor, so that it never holds gathered weights
/// alive; gradients are written straight into the unit's flat gradient buffer.
class Weight {
 public:
  Weight() = default;
  Weight(std::shared_ptr<const UnitBuffers> buffers, int64_t offset, std::vector<int64_t> shape);

  bool is_defined() const { return buffers_ != nullptr; }
  int64_t offset() const { return offset_; }  ///< In the unit, in elements.
  const std::vector<int64_t>& shape() const { return shape_; }

  /// A view of the weights now in the unit's buffer.
  at::Tensor value() const;

  /// Of the weights that are there now.
  WeightVersion version() const { return buffers_->version; }

  /// A view of the unit's gradient buffer; undefined where no gradient is wanted.
  at::Tensor gradient() const;

  /// The same place, read in another shape.
  Weight reshaped(std::vector<int64_t> shape) const {
    return {buffers_, offset_, std::move(shape)};
  }

  /// One of the matrices or vectors that lie behind each other in it, along its first dimension.
  Weight part(int64_t index) const;

  /// The transpose of the matrix that lies there.
  Weight transposed() const;
  bool is_transposed() const { return is_transposed_; }

  /// Whether it begins in its unit where `before` ends.
  bool follows(const Weight& before) const;

  /// Whether both are the same place of the same unit.
  friend bool operator==(const Weight&, const Weight&) = default;

 private:
  std::shared_ptr<const UnitBuffers> buffers_;
  int64_t offset_ = 0;
  std::vector<int64_t> shape_;
  bool is_transposed_ = false;
};

}  // namespace temper
