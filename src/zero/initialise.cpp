// SPDX-License-Identifier: Apache-2.0
#include "zero/initialise.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/adapter/initial_values.h"
#include "model/ops/product.h"
#include "zero/base_tensors.h"
#include "zero/projected_unit.h"

namespace temper {
namespace {

using Distribution = InitialValues::Distribution;

at::Tensor drawn_values(const InitialValues& initial, uint64_t seed, const std::string& name,
                        Range elements) {
  at::Tensor values = at::empty({elements.size()}, at::kFloat);
  fill_initial_values(initial, seed, name, elements,
                      {values.mutable_data_ptr<float>(), static_cast<size_t>(elements.size())});
  return values;
}

// Those of the matrix that A begins with. What is drawn for it has its name: it depends neither on
// the rank that decomposes it nor on the other matrices.
PrincipalParts decomposition(const at::Tensor& matrix, int64_t rank, const InitialValues& initial,
                             uint64_t seed) {
  if (initial.num_iterations == 0) return principal_parts(matrix, rank, initial.scale);
  const int64_t fewer = std::min(matrix.size(0), matrix.size(1));
  const at::Tensor sketch =
      drawn_values({Distribution::kNormal, 1.0}, seed, initial.base, {0, fewer * rank})
          .view({fewer, rank})
          .to(matrix.device());
  return nearly_principal_parts(matrix, sketch, initial.num_iterations, initial.scale);
}

// In operations, but for a factor that all matrices share.
double cost_of_decomposition(const at::Tensor& matrix, int64_t rank, const InitialValues& initial) {
  const int64_t width =
      initial.num_iterations == 0 ? std::min(matrix.size(0), matrix.size(1)) : rank;
  return static_cast<double>(width) * static_cast<double>(matrix.numel());
}

// The principal parts of the matrices, each decomposed by one rank: that takes a while. All are
// gathered first, then all ranks decompose theirs at once: none waits for another to gather on.
class SharedPrincipalParts {
 public:
  SharedPrincipalParts(const Adapter& adapter, uint64_t seed, BaseTensors& base,
                       Communicator& ranks)
      : seed_(seed), ranks_(ranks), work_(static_cast<size_t>(ranks.world_size()), 0.0) {
    for (const AdapterUnit& unit : adapter.units) {
      for (size_t i = 0; i < unit.initial.size(); ++i) {
        const InitialValues& initial = unit.initial[i];
        if (initial.distribution != Distribution::kPrincipalDown) continue;
        if (decompositions_.contains(initial.base)) continue;  // The base is changed by them, too.
        take(initial, unit.layout.slots()[i].shape[0], base.get(initial.base));
      }
    }
    for (auto& [name, one] : decompositions_) {
      if (!one.matrix.defined()) continue;
      one.parts = decomposition(one.matrix, one.rank, one.initial, seed_);
      one.matrix.reset();
    }
    for (auto& [name, one] : decompositions_) {
      for (at::Tensor* part : {&one.parts.up, &one.parts.down}) {
        *part = part->contiguous();
        ranks_.broadcast(*part, one.owner).wait();
      }
    }
  }

  // Of A or B. Returns them flat.
  at::Tensor values(const InitialValues& initial) const {
    const PrincipalParts& parts = decompositions_.at(initial.base).parts;
    switch (initial.distribution) {
      case Distribution::kPrincipalDown: return parts.down.flatten();
      case Distribution::kPrincipalUp: return parts.up.flatten();
      default: return parts.up.neg().flatten();
    }
  }

 private:
  struct Decomposition {
    int owner;
    int64_t rank;
    InitialValues initial;
    at::Tensor matrix;  // On its owner, until it is decomposed.
    PrincipalParts parts;
  };

  // Gives the matrix to the rank that has least to do so far.
  void take(const InitialValues& initial, int64_t rank, const at::Tensor& matrix) {
    const auto owner = std::min_element(work_.begin(), work_.end());
    *owner += cost_of_decomposition(matrix, rank, initial);
    Decomposition one{static_cast<int>(owner - work_.begin()), rank, initial, {}, {}};
    if (ranks_.world_size() == 1) {  // No copy of the model where there is nobody to wait for.
      one.parts = decomposition(matrix, rank, initial, seed_);
    } else if (one.owner == ranks_.rank()) {
      one.matrix = matrix.clone();
    } else {
      const auto fp32 = matrix.options().dtype(at::kFloat);
      one.parts = {at::empty({matrix.size(0), rank}, fp32),
                   at::empty({rank, matrix.size(1)}, fp32)};
    }
    decompositions_[initial.base] = std::move(one);
  }

  uint64_t seed_;
  Communicator& ranks_;
  std::vector<double> work_;  // [rank], operations of its decompositions.
  std::map<std::string, Decomposition> decompositions_;  // By the matrix's name.
};

bool is_principal(const InitialValues& initial) {
  return initial.distribution == Distribution::kPrincipalDown ||
         initial.distribution == Distribution::kPrincipalUp ||
         initial.distribution == Distribution::kLessPrincipalUp;
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

int first_unit_of(const Adapter& adapter, const UnitStore& store) {
  return store.num_units() - static_cast<int>(adapter.units.size());
}

void fill_units(const Adapter& adapter, uint64_t seed, Communicator& ranks, UnitStore& store) {
  int unit = first_unit_of(adapter, store);
  BaseTensors base(store);
  const SharedPrincipalParts principal(adapter, seed, base, ranks);
  const auto whole_values = [&](const InitialValues& one) -> at::Tensor {
    if (one.is_drawn()) return {};
    return is_principal(one) ? principal.values(one) : values_from_base(one, base.get(one.base));
  };
  for (const AdapterUnit& own : adapter.units) {
    fill(own.initial, store.state(unit), seed, whole_values);
    store.publish(unit++);
  }
}

// Adds scale * up down to what this rank has of a matrix of the base. All compute the whole
// product, whose bits depend on its shape.
void add_to_base(const InitialValues& of, const at::Tensor& up, const at::Tensor& down,
                 UnitStore& store) {
  const int unit = find_unit(store, of.base);
  const UnitState& state = store.state(unit);
  if (state.four_bit) throw std::invalid_argument("a matrix in four bits is not changed");
  const bool is_whole = state.weights.numel() == state.shards.padded_size();
  const int64_t first = is_whole ? 0 : state.kept.begin;
  const TensorSlot& slot = *state.unit.find(of.base);
  const Range own = intersection(slot.range(), {first, first + state.weights.numel()});
  if (own.is_empty()) return;
  const at::Tensor change = product(up, down).mul_(of.scale).flatten();
  at::Tensor weights = state.weights.narrow(0, own.begin - first, own.size());
  weights.copy_(weights.to(at::kFloat).add(change.narrow(0, own.begin - slot.offset, own.size())));
}

}  // namespace

void change_base(const Adapter& adapter, UnitStore& store) {
  int unit = first_unit_of(adapter, store);
  for (const AdapterUnit& own : adapter.units) {
    const int changing = unit++;
    if (!own.layout.changes_base()) continue;
    const at::Tensor flat = store.gather(changing);
    const auto tensor = [&](size_t i) {
      const TensorSlot& slot = own.layout.slots()[i];
      return flat.narrow(0, slot.offset, slot.num_elements()).view(slot.shape);
    };
    for (size_t i = 0; i < own.initial.size(); i += 2) {  // A, then B.
      add_to_base(own.initial[i], tensor(i + 1), tensor(i), store);
    }
    store.release(changing);
  }
}

void initialise(const Adapter& adapter, uint64_t seed, Communicator& ranks, UnitStore& store) {
  fill_units(adapter, seed, ranks, store);
  change_base(adapter, store);
  project_unit(adapter, store);
}

}  // namespace temper
