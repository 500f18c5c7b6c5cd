// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/range.h"

namespace temper {

/// One tensor's place in the flat buffer of its unit.
struct TensorSlot {
  std::string name;                         ///< As in Hugging Face files.
  std::vector<int64_t> shape;               ///< Row-major, unstrided.
  bool decays = true;                       ///< Weight decay applies: not for norms and biases.
  double rate_ratio = 1.0;                  ///< Its learning rate is so many times the run's.
  std::optional<double> weight_decay = {};  ///< Instead of the run's, whether it decays or not.
  int64_t offset = 0;  ///< First element in the flat buffer; UnitLayout sets it.

  int64_t num_elements() const;
  bool is_router = false;  ///< Which chooses experts: never in four bits.
  /// A matrix, or one of each expert, but not a bias of each.
  bool is_matrix() const { return shape.size() >= 2 && decays && !is_router; }
  Range range() const { return {offset, offset + num_elements()}; }

  friend bool operator==(const TensorSlot&, const TensorSlot&) = default;
};

/// Which experts of a block a unit has: some of those units that it asks for while it computes.
struct ExpertGroup {
  int64_t layer = -1;
  int64_t number = 0;

  bool is_defined() const { return layer >= 0; }
  friend bool operator==(const ExpertGroup&, const ExpertGroup&) = default;
};

/// Which tensor lies where in one unit: the tensors lie end to end in one flat buffer.
///
/// A unit is what is gathered, used and released together: the embedding, each transformer block,
/// the final norm with the output head. The order keeps q, k, v adjacent and gate, up adjacent, so
/// that each group is one matrix through a view.
/// Units: elements.
class UnitLayout {
 public:
  /// Who wants its tensors of a checkpoint.
  enum class Use {
    kPublished,   ///< Those who open what it publishes, and who goes on training.
    kPrivate,     ///< Only who goes on training.
    kExported,    ///< Only those who open it: it is made of what the others have.
    kFrozen,      ///< Only those who open it: they are what they were.
    kBaseChange,  ///< Who goes on training, to change the base by it; it is not trained itself.
    kPassedOn,    ///< Only those who open it. No model here has them: their elements are bytes.
  };

  /// Sets the offsets. A tied head whose norm has no weights is a unit without elements.
  UnitLayout(std::string name, std::vector<TensorSlot> slots, Use use = Use::kPublished,
             ExpertGroup experts = {});

  const std::string& name() const { return name_; }
  Use use() const { return use_; }
  const ExpertGroup& expert_group() const { return experts_; }
  bool is_published() const { return use_ != Use::kPrivate && !changes_base(); }
  bool is_trained() const { return use_ == Use::kPublished || use_ == Use::kPrivate; }
  bool changes_base() const { return use_ == Use::kBaseChange; }
  const std::vector<TensorSlot>& slots() const { return slots_; }
  int64_t num_elements() const { return num_elements_; }

  /// The slot of that name, or null.
  const TensorSlot* find(std::string_view slot_name) const;

  friend bool operator==(const UnitLayout&, const UnitLayout&) = default;

 private:
  std::string name_;
  std::vector<TensorSlot> slots_;
  int64_t num_elements_ = 0;
  Use use_ = Use::kPublished;
  ExpertGroup experts_;
};

/// Of all units together.
int64_t num_elements(const std::vector<UnitLayout>& units);

}  // namespace temper
