// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "model/decoder.h"
#include "zero/unit_store.h"

namespace temper {

/// Lends a decoder its experts: units of a few experts each, which a block asks for one after the
/// other while it computes, so that no rank ever has all experts of a block at once.
///
/// Only a block knows which experts its tokens have chosen. Where weights are gathered for each
/// use, all ranks agree on the units that any of them needs, by one small sum a block: the others
/// are not gathered, and have no gradient. The units of a block come in their order, each gathered
/// while the one before it computes.
///
/// Collective: every rank makes the same calls in the same order, and its decoder computes as many
/// blocks, or it calls `join`.
class ExpertUnits {
 public:
  /// Both must outlive this, which must outlive the decoder's last pass.
  ExpertUnits(Decoder& decoder, UnitStore& store);
  ExpertUnits(const ExpertUnits&) = delete;
  ExpertUnits& operator=(const ExpertUnits&) = delete;

  /// Whether a unit of the decoder is one of these.
  static bool has(const UnitLayout& unit) { return unit.expert_group().is_defined(); }

  /// A block that is computed from now on goes forward, or is computed again on its way back.
  enum class Direction { kForward, kBackward };
  void set_direction(Direction direction) { direction_ = direction; }

  /// Takes part in the collectives of a block's pass on a rank that has no micro-batch.
  void join_forward(int64_t layer);
  void join_backward(int64_t layer);

 private:
  using Units = std::vector<int>;  // One, or what is frozen of it and what is trained.

  const Units& units_of(int64_t layer, size_t group) const {
    return groups_[static_cast<size_t>(layer)][group];
  }
  void agree(int64_t layer, std::vector<uint8_t>& used);
  void prefetch_after(int64_t layer, size_t group);
  void begin(int64_t layer, size_t group);
  void end(int64_t layer, size_t group);
  bool begin_backward(int64_t layer, size_t group);
  void end_backward(int64_t layer, size_t group);

  Decoder& decoder_;
  UnitStore& store_;
  Direction direction_ = Direction::kForward;
  std::vector<std::vector<Units>> groups_;  // [layer][group]
  std::vector<std::vector<uint8_t>> used_;  // [layer][group], by any rank, if they have agreed.
};

}  // namespace temper
