// SPDX-License-Identifier: Apache-2.0
#include "zero/unit_store.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "comm/agree.h"
#include "core/concat.h"
#include "core/exact_sum.h"
#include "optim/gradient_norm.h"
#include "zero/fold.h"

namespace temper {

UnitStore::UnitStore(const std::vector<StoredUnit>& units, Communicator& ranks,
                     StoreOptions options)
    : ranks_(ranks),
      options_(options),
      gathered_(units.size()),
      gradients_(units.size()),
      num_contributors_(ranks.world_size()) {
  if (options_.zero.stage < 0 || options_.zero.stage > 3) {
    throw std::invalid_argument(concat("there is no ZeRO stage ", options_.zero.stage));
  }
  if (is_fast() && options_.zero.stage > 1) {
    throw std::invalid_argument("the fast reduction needs whole gradients: stage 0 or 1");
  }
  if (is_offloaded()) {
    file_ = std::make_unique<StateFile>(options_.offload, offloaded_bytes(units));
  }
  for (const StoredUnit& unit : units) {
    states_.push_back(unit.form.four_bit ? make_four_bit_state(unit) : make_state(unit));
  }
}

bool UnitStore::is_sharded_in_compute() const {
  return options_.zero.stage == 3 && ranks_.world_size() > 1;
}

std::vector<int> UnitStore::trained() const {
  std::vector<int> units;
  for (int unit = 0; unit < num_units(); ++unit) {
    if (is_trained(unit)) units.push_back(unit);
  }
  return units;
}

// What may share memory does: where the compute dtype is fp32, the weights *are* the master, or at
// stages 1 and 2 the master is this rank's block of them, and gathering happens in place. Where
// others of them are gathered for each use, this rank's are rounded for each use, too.
UnitState UnitStore::make_state(const StoredUnit& unit) const {
  const ShardLayout shards(unit.layout.num_elements(), ranks_.world_size());
  const bool is_replicated = options_.zero.stage == 0;
  const Range whole{0, shards.padded_size()};
  const Range kept = is_replicated ? whole : shards.block(ranks_.rank());
  const auto fp32 = at::TensorOptions().dtype(at::kFloat).device(options_.device);

  UnitState state{.unit = unit.layout,
                  .form = unit.form,
                  .shards = shards,
                  .kept = kept,
                  .owned = shards.owned(ranks_.rank()),
                  .part = kept};
  if (!rounds_for_use(unit, options_.zero.stage, is_offloaded(), ranks_.world_size())) {
    const int64_t num_computed = is_whole_in_compute() ? whole.size() : kept.size();
    state.weights = at::zeros({num_computed}, fp32.dtype(unit.form.dtype));
  }
  if (unit.form.is_trained) {
    state.master = unit.form.dtype == at::kFloat ? state.kept_weights()
                                                 : make_numbers(kept.size(), at::kFloat);
    make_moments(state);
  }
  return state;
}

void UnitStore::make_moments(UnitState& state) const {
  const at::ScalarType dtype = scalar_type_of(options_.moment_dtype);
  state.file = file_.get();
  state.first_moment = make_numbers(state.kept.size(), dtype);
  state.second_moment = make_numbers(state.kept.size(), dtype);
  if (options_.l2_sp > 0.0) state.start = make_numbers(state.kept.size(), at::kFloat);
  if (options_.has_means()) state.mean = make_numbers(state.kept.size(), at::kFloat);
  if (options_.moment_dtype != MomentDtype::kInt8) return;
  const auto parts =
      std::make_shared<const std::vector<ScaledPart>>(scaled_parts(state.unit, state.kept));
  state.scaled = parts;
  state.first_scales = at::zeros({num_scales(*parts)}, at::kFloat);
  state.second_scales = at::zeros({num_scales(*parts)}, at::kFloat);
}

at::Tensor UnitStore::make_buffer(int64_t num_elements, at::ScalarType dtype) const {
  return at::empty({num_elements}, at::TensorOptions().dtype(dtype).device(options_.device));
}

at::Tensor UnitStore::make_numbers(int64_t num_elements, at::ScalarType dtype) const {
  if (file_) return file_->take(num_elements, dtype);
  return at::zeros({num_elements}, at::TensorOptions().dtype(dtype).device(options_.device));
}

int64_t UnitStore::offloaded_bytes(const std::vector<StoredUnit>& units) const {
  int64_t sum = 0;
  for (const StoredUnit& unit : units) {
    if (!unit.form.is_trained) continue;
    const ShardLayout shards(unit.layout.num_elements(), ranks_.world_size());
    const int64_t size = options_.zero.stage == 0 ? shards.padded_size() : shards.shard_size();
    sum += update_bytes(unit, {0, size}, options_.update_form()).numbers;
  }
  return sum;
}

UnitState UnitStore::make_four_bit_state(const StoredUnit& unit) const {
  FourBitUnit packing(unit, ranks_, options_.device, options_.unpacking);
  const int64_t bytes = packing.slice_bytes();
  const int64_t num_slices = is_sharded_in_compute() ? 1 : ranks_.world_size();
  const ShardLayout shards(unit.layout.num_elements(), ranks_.world_size());
  return {.unit = unit.layout,
          .form = unit.form,
          .shards = shards,
          .kept = packing.kept_vectors(),
          .owned = shards.owned(ranks_.rank()),
          .weights = at::zeros({num_slices * bytes}, at::kByte),
          .part = {ranks_.rank() * bytes, (ranks_.rank() + 1) * bytes},
          .four_bit = std::move(packing)};
}

// Only the fast mode can add up whole gradients on each rank before it exchanges them.
bool UnitStore::keeps_whole_gradients() const { return options_.zero.stage == 0 || is_fast(); }

void UnitStore::publish(int unit) {
  UnitState& at_unit = state(unit);
  if (at_unit.master.defined()) {
    for (const Range piece : pieces_of(at_unit)) round_weights(at_unit, piece);
  }
  start_publishing(unit);
  finish_publishing();
}

void UnitStore::finish_publishing() {
  for (Pending& pending : published_) pending.wait();
  published_.clear();
}

void UnitStore::start_publishing(int unit) {
  UnitState& at_unit = state(unit);
  ++at_unit.version;
  if (!at_unit.weights.defined()) return;
  at_unit.weights = at_unit.weights.to(options_.device);  // Four bits are read on the host.
  const at::Tensor own = at_unit.kept_weights();
  if (own.numel() < at_unit.weights.numel()) {
    published_.push_back(ranks_.all_gather(own, at_unit.weights));
  }
}

void UnitStore::prefetch(int unit) {
  if (!is_sharded_in_compute()) return;
  if (options_.zero.prefetches) start_gather(unit);
}

void UnitStore::start_gather(int unit) {
  Gathered& gathered = gathered_[static_cast<size_t>(unit)];
  if (gathered.full.defined()) return;
  const UnitState& at_unit = state(unit);
  at::Tensor own = at_unit.weights;
  const bool is_rounded = !own.defined();
  const int64_t size = is_rounded ? at_unit.master.numel() : own.numel();
  const auto dtype = is_rounded ? at_unit.form.dtype : own.scalar_type();
  gathered.full = make_buffer(size * ranks_.world_size(), dtype);
  if (is_rounded) own = gathered.full.narrow(0, ranks_.rank() * size, size).copy_(at_unit.master);
  gathered.pending = ranks_.all_gather(own, gathered.full);
}

at::Tensor UnitStore::gather(int unit) {
  const UnitState& at_unit = state(unit);
  Gathered& gathered = gathered_[static_cast<size_t>(unit)];
  if (gathered.unpacked.defined()) return gathered.unpacked;
  at::Tensor full = at_unit.weights;
  if (is_sharded_in_compute()) {
    start_gather(unit);
    gathered.pending.wait();
    full = gathered.full;
  }
  if (!at_unit.four_bit) return full;
  gathered.unpacked = make_buffer(at_unit.unit.num_elements(), at_unit.form.dtype);
  at_unit.four_bit->unpack(full, gathered.unpacked);
  gathered.full.reset();
  return gathered.unpacked;
}

void UnitStore::release(int unit) {
  Gathered& gathered = gathered_[static_cast<size_t>(unit)];
  gathered.unpacked.reset();
  gathered.pending.wait();
  gathered.full.reset();
}

void UnitStore::agree_on_any(std::vector<uint8_t>& flags) const {
  if (!is_sharded_in_compute() || flags.empty()) return;
  std::vector<int64_t> words(flags.begin(), flags.end());
  reduce_words(ranks_, words, ReduceOp::kMax);
  std::ranges::transform(words, flags.begin(), [](int64_t word) { return word != 0; });
}

void UnitStore::begin_round(int64_t num_micro_batches) {
  num_contributors_ = static_cast<int>(std::min<int64_t>(num_micro_batches, ranks_.world_size()));
}

at::Tensor UnitStore::gradient_buffer(int unit) {
  at::Tensor& buffer = gradients_[static_cast<size_t>(unit)];
  if (!buffer.defined()) {
    buffer = make_buffer(state(unit).shards.padded_size(), state(unit).form.dtype);
  }
  return buffer;
}

void UnitStore::reduce(int unit) {
  at::Tensor buffer = std::exchange(gradients_[static_cast<size_t>(unit)], {});
  if (!buffer.defined()) throw std::logic_error("reduce without a gradient buffer");
  if (ranks_.world_size() == 1 || is_fast()) {
    if (ranks_.rank() < num_contributors_) fold(unit, buffer, 1);
    return;
  }
  exchange(unit, std::move(buffer));
}

void UnitStore::exchange(int unit, at::Tensor buffer) {
  finish_exchange();
  Exchange exchange;
  exchange.unit = unit;
  exchange.num_blocks = num_contributors_;
  exchange.received = make_buffer(buffer.numel(), buffer.scalar_type());
  exchange.pending = ranks_.all_to_all(buffer, exchange.received);
  exchange.sent = std::move(buffer);
  exchange_ = std::move(exchange);
}

// The blocks of one round come from consecutive micro-batches, rank by rank: added in this order,
// round after round, they are added in the order of the global micro-batch.
void UnitStore::finish_exchange() {
  if (!exchange_) return;
  Exchange exchange = std::move(*exchange_);
  exchange_.reset();
  exchange.pending.wait();
  const int64_t block = exchange.received.numel() / ranks_.world_size();
  fold(exchange.unit, exchange.received.narrow(0, 0, exchange.num_blocks * block),
       exchange.num_blocks);
}

void UnitStore::fold(int unit, const at::Tensor& blocks, int num_blocks) {
  UnitState& at_unit = state(unit);
  const FoldStart start = at_unit.gradient.defined() ? FoldStart::kAdd : FoldStart::kFresh;
  if (start == FoldStart::kFresh) {
    at_unit.gradient = make_buffer(gradient_size(at_unit), at::kFloat);
  }
  at::Tensor sum = at_unit.gradient;
  if (sum.numel() * num_blocks != blocks.numel()) {  // Stage 0 keeps more than it folds.
    const Range own = at_unit.shards.block(ranks_.rank());
    sum = sum.narrow(0, own.begin, own.size());
  }
  fold_blocks(blocks, num_blocks, sum, start);
}

void UnitStore::finish_gradients() {
  finish_exchange();
  if (ranks_.world_size() == 1 || !keeps_whole_gradients()) return;
  if (is_fast()) exchange_local_sums();
  if (options_.zero.stage > 0) return;
  for (const int unit : trained()) {
    UnitState& at_unit = state(unit);
    const Range own = at_unit.shards.block(ranks_.rank());
    const at::Tensor whole = step_gradient(at_unit);
    ranks_.all_gather(whole.narrow(0, own.begin, own.size()), whole).wait();
  }
}

// The sums of all ranks replace the block of this rank's own sum that it updates with.
void UnitStore::exchange_local_sums() {
  num_contributors_ = ranks_.world_size();
  for (const int unit : trained()) {
    at::Tensor rounded = make_buffer(state(unit).shards.padded_size(), state(unit).form.dtype);
    rounded.copy_(step_gradient(state(unit)));
    state(unit).gradient.reset();
    exchange(unit, std::move(rounded));
  }
  finish_exchange();
}

int64_t UnitStore::gradient_size(const UnitState& at_unit) const {
  return keeps_whole_gradients() ? at_unit.shards.padded_size() : at_unit.kept.size();
}

// Of a unit that no micro-batch of this rank has added to it is 0.
at::Tensor UnitStore::step_gradient(UnitState& at_unit) const {
  if (!at_unit.gradient.defined()) {
    at_unit.gradient = make_buffer(gradient_size(at_unit), at::kFloat).zero_();
  }
  return at_unit.gradient;
}

at::Tensor UnitStore::gradient_of(UnitState& at_unit, Range elements) const {
  const int64_t begin = elements.begin - (keeps_whole_gradients() ? 0 : at_unit.kept.begin);
  return step_gradient(at_unit).narrow(0, begin, elements.size());
}

double UnitStore::norm_of(std::span<const int> units, double scale) {
  std::vector<at::Tensor> owned;
  for (const int unit : units) {
    UnitState& at_unit = state(unit);
    if (!at_unit.owned.is_empty()) owned.push_back(gradient_of(at_unit, at_unit.owned));
  }
  ExactSum squares;
  add_squares(owned, squares);
  reduce_words(ranks_, squares.words(), ReduceOp::kSum);
  return std::sqrt(squares.value()) * scale;
}

double UnitStore::gradient_norm(double scale) { return norm_of(trained(), scale); }

std::vector<std::pair<std::string, double>> UnitStore::unit_gradient_norms(double scale) {
  std::vector<std::pair<std::string, double>> norms;
  for (const int unit : trained()) {
    norms.emplace_back(state(unit).unit.name(), norm_of({&unit, 1}, scale));
  }
  return norms;
}

void UnitStore::discard_gradients() {
  for (UnitState& at_unit : states_) at_unit.gradient.reset();
}

int64_t UnitStore::state_bytes() const {
  int64_t bytes = 0;
  for (const UnitState& at_unit : states_) {
    for (const at::Tensor* tensor :
         {&at_unit.weights, &at_unit.master, &at_unit.first_moment, &at_unit.second_moment,
          &at_unit.first_scales, &at_unit.second_scales, &at_unit.start, &at_unit.mean}) {
      if (!tensor->defined() || (file_ && file_->has(*tensor))) continue;
      const bool is_weights = tensor == &at_unit.weights || !at_unit.weights.defined();
      if (!is_weights && tensor->is_alias_of(at_unit.weights)) continue;
      bytes += static_cast<int64_t>(tensor->nbytes());
    }
    if (at_unit.four_bit) bytes += at_unit.four_bit->shared_bytes();
  }
  return bytes;
}

}  // namespace temper
