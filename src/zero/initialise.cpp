// SPDX-License-Identifier: Apache-2.0
#include "zero/initialise.h"

#include <ATen/ATen.h>

#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/adapter/values_from_base.h"
#include "zero/projected_unit.h"

namespace temper {
namespace {

using Distribution = InitialValues::Distribution;

// The principal parts of the matrices, each decomposed by one rank: that takes a while.
class SharedPrincipalParts {
 public:
  SharedPrincipalParts(const Adapter& adapter, BaseTensors& base, Communicator& ranks)
      : ranks_(ranks) {
    for (size_t i = 0; i < adapter.initial.size(); ++i) {
      const InitialValues& initial = adapter.initial[i];
      if (initial.distribution != Distribution::kPrincipalDown) continue;
      const at::Tensor matrix = base.get(initial.base);
      const int owner = static_cast<int>(owners_.size()) % ranks.world_size();
      const int64_t rank = adapter.unit.slots()[i].shape[0] / 2;
      owners_[initial.base] = owner;
      parts_[initial.base] =
          owner == ranks.rank()
              ? principal_parts(matrix, rank, initial.scale)
              : PrincipalParts{
                    at::empty({matrix.size(0), rank}, matrix.options().dtype(at::kFloat)),
                    at::empty({rank, matrix.size(1)}, matrix.options().dtype(at::kFloat))};
    }
    for (auto& [name, parts] : parts_) {
      for (at::Tensor* part : {&parts.up, &parts.down}) {
        *part = part->contiguous();
        ranks_.broadcast(*part, owners_[name]).wait();
      }
    }
  }

  // Of A or B: what is trained, then the same to be taken off the base. Returns them flat.
  at::Tensor values(const InitialValues& initial) const {
    const PrincipalParts& parts = parts_.at(initial.base);
    return initial.distribution == Distribution::kPrincipalDown
               ? at::cat({parts.down, parts.down}, 0).flatten()
               : at::cat({parts.up, parts.up.neg()}, 1).flatten();
  }

 private:
  Communicator& ranks_;
  std::map<std::string, int> owners_;
  std::map<std::string, PrincipalParts> parts_;
};

at::Tensor drawn_values(const InitialValues& initial, uint64_t seed, const std::string& name,
                        Range elements) {
  at::Tensor values = at::empty({elements.size()}, at::kFloat);
  fill_initial_values(initial, seed, name, elements,
                      {values.mutable_data_ptr<float>(), static_cast<size_t>(elements.size())});
  return values;
}

bool is_principal(const InitialValues& initial) {
  return initial.distribution == Distribution::kPrincipalDown ||
         initial.distribution == Distribution::kPrincipalUp;
}

// Fills what this rank keeps of one unit. `whole_values` has all of a tensor that begins with one
// of the base, and is called on all ranks: it may gather.
template <typename WholeValues>
void fill(const std::vector<InitialValues>& initial, const UnitState& state, uint64_t seed,
          WholeValues whole_values) {
  for (size_t i = 0; i < initial.size(); ++i) {
    const TensorSlot& slot = state.unit.slots()[i];
    const at::Tensor whole = whole_values(initial[i]);
    const Range kept = intersection(slot.range(), state.kept);
    if (kept.is_empty()) continue;
    const Range elements{kept.begin - slot.offset, kept.end - slot.offset};
    const at::Tensor values = whole.defined() ? whole.narrow(0, elements.begin, elements.size())
                                              : drawn_values(initial[i], seed, slot.name, elements);
    state.loaded_weights().narrow(0, kept.begin - state.kept.begin, kept.size()).copy_(values);
  }
}

}  // namespace

void initialise(const Adapter& adapter, uint64_t seed, BaseTensors& base, Communicator& ranks,
                UnitStore& store) {
  const SharedPrincipalParts principal(adapter, base, ranks);
  const auto whole_values = [&](const InitialValues& one) -> at::Tensor {
    if (one.is_drawn()) return {};
    return is_principal(one) ? principal.values(one) : values_from_base(one, base.get(one.base));
  };
  fill(adapter.initial, store.state(0), seed, whole_values);
  if (adapter.projection) {
    fill(adapter.projection->initial(), store.state(1), seed, whole_values);
  }
  store.publish_weights();
  project_unit(adapter, store);
}

}  // namespace temper
