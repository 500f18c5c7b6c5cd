// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "optim/adamw.h"
#include "zero/state_file.h"
#include "zero/unit_bytes.h"
#include "zero/unit_form.h"
#include "zero/unit_state.h"
#include "zero/zero_options.h"

namespace temper {

struct StoreOptions {
  ZeroOptions zero;
  at::Device device = at::kCPU;
  FourBitUnit::Unpacking unpacking = FourBitUnit::Unpacking::kOwn;  ///< On a CPU.
  MomentDtype moment_dtype = MomentDtype::kFloat32;                 ///< Another one: on a CPU.
  uint64_t rounding_seed = 0;  ///< By which bf16 is rounded by chance.
  /// The folder of a file for master weights, moments and copies, or none; on a CPU.
  std::filesystem::path offload = {};
  double l2_sp = 0.0;      ///< By this times its rate a step pulls a weight to its start; 0: not.
  double ema_decay = 0.0;  ///< What a step leaves of a weight's moving mean; 0: there is none.

  bool has_means() const { return ema_decay > 0.0; }
  UpdateForm update_form() const {
    return {moment_dtype, (l2_sp > 0.0 ? 1 : 0) + (has_means() ? 1 : 0)};
  }
};

/// How far an update moved a unit's weights.
struct UpdateSize {
  std::string unit;
  double update_norm = 0.0;  ///< Of the difference.
  double weight_norm = 0.0;  ///< Of the weights before it.
};

/// Whether an update's size is asked for.
enum class Measured { kNo, kYes };

/// The units of a model and its adapter, sharded over the ranks: weights to compute with, gradients
/// to fold, state to update. The ZeRO stage decides what `release` and `reduce` do; what is frozen
/// is only computed with.
///
/// Collective: every rank makes the same calls in the same order.
/// Throws: CommError; ModelError for a matrix that does not divide into blocks of four bits;
///   LaunchError, perhaps on one rank alone, if the folder for what is offloaded cannot hold it.
/// Source: Rajbhandari et al., "ZeRO", arXiv:1910.02054.
class UnitStore {
 public:
  UnitStore(const std::vector<StoredUnit>& units, Communicator& ranks, StoreOptions options);

  int num_units() const { return static_cast<int>(states_.size()); }
  const StoreOptions& options() const { return options_; }
  UnitState& state(int unit) { return states_[static_cast<size_t>(unit)]; }
  const UnitState& state(int unit) const { return states_[static_cast<size_t>(unit)]; }

  bool is_trained(int unit) const { return state(unit).form.is_trained; }

  /// Whether master weights and moments lie in a file.
  bool is_offloaded() const { return !options_.offload.empty(); }

  /// Those that are trained, in their order.
  std::vector<int> trained() const;

  /// After a unit has been loaded: fills what is computed with.
  void publish(int unit);

  /// Begins to gather a unit, if prefetching is on and it is not here already.
  void prefetch(int unit);

  /// The unit's flat weights, whole. Shapes: [num_elements or more], compute dtype.
  at::Tensor gather(int unit);

  /// The gathered weights may be dropped; at stages 0 to 2 they stay.
  void release(int unit);

  /// Whether a unit's weights are needed on this rank can depend on its data, and gathering them on
  /// all ranks: makes of each flag whether any rank has set it, if units are gathered for each use.
  /// Collective, then.
  void agree_on_any(std::vector<uint8_t>& flags) const;

  /// Whether `agree_on_any` tells of all ranks: what none of them uses has no gradient.
  bool knows_use_of_all() const { return is_sharded_in_compute() || ranks_.world_size() == 1; }

  /// From here on gradients are those of one micro-batch a rank, but only of the first ranks if
  /// there are no more than `num_micro_batches`: what the others hand over is not added.
  void begin_round(int64_t num_micro_batches);

  /// The buffer that one micro-batch's gradient of this unit is written to. Kept until `reduce`.
  /// Shapes: [padded_size], compute dtype; not zeroed.
  at::Tensor gradient_buffer(int unit);

  /// Hands the unit's gradient buffer over: it is added to the step's gradient, which it starts
  /// if it is the first of the step.
  void reduce(int unit);

  /// Waits until every `reduce` of this step is folded in, on all ranks.
  void finish_gradients();

  /// The global norm of the step's gradients, times `scale`. The same bits however the units are
  /// sharded; NaN if any element is not finite.
  double gradient_norm(double scale);

  /// The same of each unit that is trained, with its name, in their order.
  std::vector<std::pair<std::string, double>> unit_gradient_norms(double scale);

  /// One AdamW step on what this rank keeps, then the weights for the next forward pass. The
  /// weight decay in `step` is applied to the tensors that decay and have none of their own. If it
  /// is measured, it returns how large it was of each unit, in their order: the same bits however
  /// they are sharded. That takes a copy of 16 MiB of weights at a time.
  std::vector<UpdateSize> update(const AdamWOptions& options, AdamWStep step,
                                 Measured measured = Measured::kNo);

  /// The part of the step's gradient that this rank updates with. Shapes: [state(unit).kept] fp32.
  at::Tensor kept_gradient(int unit) { return gradient_of(state(unit), state(unit).kept); }

  /// The weights of what is trained are those that the run begins with: each that is kept of starts
  /// and means becomes them. Local.
  void remember_start();

  /// Computes with the means of what is trained from now on, or with its weights again: exchanges
  /// the two, and publishes. Nothing where there are no means. No step may come in between.
  void swap_means();

  /// Forgets the step's gradients without an update.
  void discard_gradients();

  /// Bytes of weights and state that this rank holds in memory between steps.
  int64_t state_bytes() const;

 private:
  struct Gathered {
    at::Tensor full;  // At stage 3.
    Pending pending;
    at::Tensor unpacked;  // Of four bits.
  };
  struct Exchange {
    int unit = 0;
    at::Tensor sent, received;
    int num_blocks = 0;  // Of what is received, those that are added.
    Pending pending;
  };

  bool is_sharded_in_compute() const;
  bool keeps_whole_gradients() const;
  bool is_fast() const { return options_.zero.reduction == Reduction::kFast; }
  bool is_whole_in_compute() const { return options_.zero.stage < 3; }
  UnitState make_state(const StoredUnit& unit) const;
  UnitState make_four_bit_state(const StoredUnit& unit) const;
  void make_moments(UnitState& state) const;
  int64_t offloaded_bytes(const std::vector<StoredUnit>& units) const;
  at::Tensor make_buffer(int64_t num_elements, at::ScalarType dtype) const;
  at::Tensor make_numbers(int64_t num_elements, at::ScalarType dtype) const;
  std::vector<Range> pieces_of(const UnitState& at_unit, Measured measured = Measured::kNo) const;
  void update_all_of(UnitState& at_unit, Range piece, const AdamWOptions& options, AdamWStep step);
  void update_piece(UnitState& at_unit, Range piece, const AdamWOptions& options, AdamWStep step);
  void pull_to_start(UnitState& at_unit, Range piece, double learning_rate) const;
  void follow_mean(UnitState& at_unit, Range piece) const;
  bool rounds_as_it_updates(const UnitState& at_unit) const;
  void round_weights(UnitState& at_unit, Range piece);
  void start_publishing(int unit);
  void finish_publishing();
  void start_gather(int unit);
  void exchange(int unit, at::Tensor buffer);
  void fold(int unit, const at::Tensor& blocks, int num_blocks);
  void finish_exchange();
  void exchange_local_sums();
  int64_t gradient_size(const UnitState& at_unit) const;
  at::Tensor step_gradient(UnitState& at_unit) const;
  at::Tensor gradient_of(UnitState& at_unit, Range elements) const;
  double norm_of(std::span<const int> units, double scale);

  Communicator& ranks_;
  StoreOptions options_;
  std::unique_ptr<StateFile> file_;    // Of what is offloaded, else null.
  std::vector<UnitState> states_;      // [unit]
  std::vector<Gathered> gathered_;     // [unit]
  std::vector<at::Tensor> gradients_;  // [unit], lent out by gradient_buffer
  std::vector<Pending> published_;     // Gathers of updated weights under way.
  int num_contributors_;               // The first ranks, whose gradients are added.
  std::optional<Exchange> exchange_;   // At most one under way: two buffers suffice.
};

}  // namespace temper
