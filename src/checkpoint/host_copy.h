// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <span>
#include <vector>

#include "checkpoint/unit_files.h"
#include "comm/communicator.h"
#include "zero/unit_store.h"

namespace temper {

/// What this rank writes into a checkpoint, on the host. The copy is used again from save to save.
///
/// A set of files has a list of units of its own, "saved" here. Such a one is a unit of the store,
/// or has the tensors of several: then the ranks' slices of it are others than the store's, and
/// `take` and `borrow` gather the store's units one at a time.
class HostCopy {
 public:
  /// `saved` have all tensors of the store that are trained, each once. If there are none, they are
  /// those of the store that are trained. Of frozen ones there is no copy. Both references must
  /// outlive this.
  HostCopy(const UnitStore& store, Communicator& ranks, std::vector<UnitLayout> saved);

  const std::vector<UnitLayout>& saved() const { return saved_; }

  /// How a saved unit is cut.
  const ShardLayout& shards(int saved) const { return shards_[static_cast<size_t>(saved)]; }

  /// What of it this rank writes.
  Range owned(int saved) const { return shards(saved).owned(ranks_.rank()); }

  /// Copies this rank's own slices: master weights and moments. Collective. Throws: CommError.
  void take();

  /// The same for a store that rests until all is written: what lies on the host as it is to be
  /// written is not copied. Collective. Throws: CommError.
  void borrow();

  /// What a unit file holds of this rank, in fp32. Shapes: [owned(file.unit).size()].
  std::span<const float> slice(const UnitFile& file) const;

 private:
  // Elements of a unit of the store, and where they begin in a saved unit.
  struct Piece {
    int unit;
    Range elements;
    int64_t place;
  };

  template <typename Hold>
  void hold_each(Hold hold);
  bool is_unit(int saved) const;
  at::Tensor own_part(int saved, StateKind kind) const;
  at::Tensor cut_anew(int saved, StateKind kind) const;

  const UnitStore& store_;
  Communicator& ranks_;
  std::vector<UnitLayout> saved_;
  std::vector<ShardLayout> shards_;                // [saved]
  std::vector<std::vector<Piece>> pieces_;         // [saved], in the order of the store.
  std::array<std::vector<at::Tensor>, 3> copies_;  // [master, moments][saved]
};

}  // namespace temper
