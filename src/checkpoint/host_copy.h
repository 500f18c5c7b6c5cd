// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <vector>

#include "checkpoint/file_part.h"
#include "checkpoint/unit_files.h"
#include "comm/communicator.h"
#include "zero/unit_store.h"

namespace temper {

/// What this rank writes into a checkpoint, on the host. The copy is used again from save to save.
///
/// A set of files has a list of units of its own, "saved" here. Such a one is a unit of the store,
/// or has the tensors of several: then the ranks' slices of it are others than the store's, and
/// `take` and `borrow` gather the store's units one at a time. A tensor of it that is larger than
/// the store's has what changes the base behind that, in the one dimension in which it is larger.
class HostCopy {
 public:
  /// `saved` have all tensors of the store that are trained or change the base. If there are none,
  /// they are the units of the store that are trained. Of frozen ones there is no copy. Both
  /// references must outlive this.
  HostCopy(const UnitStore& store, Communicator& ranks, std::vector<UnitLayout> saved);

  const std::vector<UnitLayout>& saved() const { return saved_; }

  /// How a saved unit is cut.
  const ShardLayout& shards(int saved) const { return shards_[static_cast<size_t>(saved)]; }

  /// What of it this rank writes.
  Range owned(int saved) const { return shards(saved).owned(ranks_.rank()); }

  /// Copies this rank's own slices, master weights, moments and means, as they are kept. Not from a
  /// file: a store that is offloaded must rest. Collective. Throws: CommError.
  void take();

  /// The same for a store that rests until all is written: what lies on the host as it is to be
  /// written is not copied. Collective. Throws: CommError.
  void borrow();

  /// What this rank writes of a unit file, which has some of a saved unit.
  FilePart part(const UnitFile& file) const;

 private:
  // A tensor of a unit of the store.
  struct Source {
    int unit;
    TensorSlot slot;
  };
  using Sources = std::vector<Source>;  // What one saved tensor is joined of.

  template <typename Hold>
  void hold_each(Hold hold);
  bool is_unit(int saved) const;
  bool is_saved(int saved, StateKind kind) const;
  KeptNumbers own_part(int saved, StateKind kind) const;
  at::Tensor gather(int unit, StateKind kind) const;
  at::Tensor cut_anew(int saved, StateKind kind) const;

  const UnitStore& store_;
  Communicator& ranks_;
  std::vector<UnitLayout> saved_;
  std::vector<ShardLayout> shards_;                 // [saved]
  std::vector<std::vector<Sources>> sources_;       // [saved][slot]
  std::array<std::vector<KeptNumbers>, 4> copies_;  // [master, moments, mean][saved]
};

}  // namespace temper
