// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "zero/unit_store.h"

namespace temper {

/// The unit that has a tensor. Throws: std::invalid_argument if the model has no such tensor.
int find_unit(const UnitStore& store, const std::string& name);

/// The tensors of a model as it computes with them, one at a time.
///
/// Collective: every rank makes the same calls in the same order.
class BaseTensors {
 public:
  /// `store` must outlive this.
  explicit BaseTensors(UnitStore& store) : store_(store) {}
  BaseTensors(const BaseTensors&) = delete;
  BaseTensors& operator=(const BaseTensors&) = delete;
  ~BaseTensors() { release(); }

  /// A view that holds until the next call. Shapes: as the tensor; compute dtype.
  /// Throws: as find_unit.
  at::Tensor get(const std::string& name);

 private:
  void release();

  UnitStore& store_;
  int gathered_ = -1;  // The unit that is gathered now.
};

}  // namespace temper
