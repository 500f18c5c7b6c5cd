// SPDX-License-Identifier: Apache-2.0
#include "app/memory_estimate.h"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "app/user_bytes.h"
#include "model/adapter/lora.h"
#include "model/head.h"
#include "model/linear_modules.h"
#include "model/ops/attention.h"
#include "model/ops/product.h"
#include "model/quantised/four_bit_format.h"
#include "model/quantised/quantised_absmax.h"
#include "model/tensor_names.h"
#include "train/start_model.h"
#include "zero/host_cache.h"
#include "zero/shard_layout.h"
#include "zero/unit_bytes.h"

namespace temper {
namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kProgramBytes = 185'000'000;  // Measured: 160 to 190 MB with OpenMPI.

int64_t element_bytes(const UnitForm& form) {
  return static_cast<int64_t>(c10::elementSize(form.dtype));
}

int64_t num_users(const MemoryFacts& facts) { return facts.model.num_layers + 2; }

int64_t num_decoder_units(const MemoryFacts& facts) {
  return facts.users.empty() ? num_users(facts) : std::ssize(facts.users);
}

bool has_adapter(const MemoryFacts& facts) {
  return std::ssize(facts.units) > num_decoder_units(facts);
}

// Of the decoder: who computes with a unit.
size_t user_of(size_t unit, const MemoryFacts& facts) {
  return facts.users.empty() ? unit : static_cast<size_t>(facts.users[unit]);
}

// What is computed with, but for an adapter.
const UnitForm& decoder_form(const MemoryFacts& facts) { return facts.units.front().form; }

// Only the fast reduction below stage 2, and stage 0, add up whole gradients.
bool keeps_whole_gradients(const ZeroOptions& zero) {
  return zero.stage == 0 || (zero.stage == 1 && zero.reduction == Reduction::kFast);
}

int64_t kept_weights(int64_t num_elements, const ZeroOptions& zero, int num_ranks) {
  const ShardLayout shards(num_elements, num_ranks);
  return zero.stage == 3 ? shards.shard_size() : shards.padded_size();
}

// Matrices: half a byte an element, and a scale of one or four bytes for 64 of them, of which 256
// have one on every rank. The rest as it is.
int64_t four_bit_bytes(const StoredUnit& unit, const ZeroOptions& zero, int num_ranks) {
  const FourBitFormat format;
  int64_t matrices = 0, rest = 0, scales = 0;
  for (const TensorSlot& slot : unit.layout.slots()) {
    (slot.is_matrix() ? matrices : rest) += slot.num_elements();
    if (!slot.is_matrix()) continue;
    const int64_t num_blocks = format.num_blocks(slot.num_elements());
    constexpr int64_t kNested = QuantisedAbsmax::kBlockSize;
    scales += (num_blocks + kNested - 1) / kNested * kFloatBytes;
  }
  const bool is_double = unit.form.four_bit->is_double;
  const int64_t kept = kept_weights(matrices, zero, num_ranks);
  return format.num_bytes(kept) + format.num_blocks(kept) * (is_double ? 1 : kFloatBytes) +
         (is_double ? scales : 0) +
         (rest > 0 ? kept_weights(rest, zero, num_ranks) * element_bytes(unit.form) : 0);
}

// The most that a rank has of it, with scales: shards are equal, but for what lies in them.
UpdateBytes most_update_bytes(const StoredUnit& unit, const RunConfig& config, int num_ranks) {
  const StoreOptions options{.zero = {},
                             .moment_dtype = config.optimizer.state_dtype,
                             .l2_sp = config.train.l2_sp,
                             .ema_decay = config.train.ema_decay};
  const UpdateForm form = options.update_form();
  const ShardLayout shards(unit.layout.num_elements(), num_ranks);
  if (config.parallel.stage == 0) return update_bytes(unit, {0, shards.padded_size()}, form);
  UpdateBytes most = update_bytes(unit, shards.block(0), form);
  for (int rank = 1; rank < num_ranks && most.scales > 0; ++rank) {
    most.scales = std::max(most.scales, update_bytes(unit, shards.block(rank), form).scales);
  }
  return most;
}

int64_t state_bytes(const StoredUnit& unit, const RunConfig& config, int num_ranks) {
  const ZeroOptions& zero = config.parallel;
  if (unit.form.four_bit) return four_bit_bytes(unit, zero, num_ranks);
  const bool is_offloaded = !config.optimizer.offload.empty();
  const int64_t weights =
      rounds_for_use(unit, zero.stage, is_offloaded, num_ranks)
          ? 0
          : kept_weights(unit.layout.num_elements(), zero, num_ranks) * element_bytes(unit.form);
  if (!unit.form.is_trained) return weights;
  const UpdateBytes update = most_update_bytes(unit, config, num_ranks);
  return weights + (is_offloaded ? 0 : update.numbers) + update.scales;
}

// What a step adds up before the update.
int64_t gradient_bytes(const StoredUnit& unit, const ZeroOptions& zero, int num_ranks) {
  if (!unit.form.is_trained) return 0;
  const ShardLayout shards(unit.layout.num_elements(), num_ranks);
  return (keeps_whole_gradients(zero) ? shards.padded_size() : shards.shard_size()) * kFloatBytes;
}

// What a save copies: its own slice of master weights, moments and means, with all scales.
int64_t copy_bytes(const StoredUnit& unit, const RunConfig& config, int num_ranks) {
  const int64_t own = ShardLayout(unit.layout.num_elements(), num_ranks).shard_size();
  const UpdateForm form{config.optimizer.state_dtype, config.train.ema_decay > 0.0 ? 1 : 0};
  const UpdateBytes bytes = update_bytes({unit.layout, {.dtype = at::kBFloat16}}, {0, own}, form);
  return bytes.numbers + most_update_bytes(unit, config, num_ranks).scales;
}

// Of a gathered unit.
int64_t whole_bytes(const StoredUnit& unit, const MemoryFacts& facts) {
  return ShardLayout(unit.layout.num_elements(), facts.num_ranks).padded_size() *
         element_bytes(unit.form);
}

// The model that the trained one is kept near, where it is another than the base of an adapter.
std::vector<StoredUnit> units_of_start(const RunConfig& config, const MemoryFacts& facts) {
  if (!config.train.kl.is_on()) return {};
  return start_units(facts.model, has_adapter(facts), decoder_form(facts).dtype);
}

// What of it is gathered while the head computes.
int64_t start_head_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const std::vector<StoredUnit> units = units_of_start(config, facts);
  if (units.empty()) return 0;
  return whole_bytes(units[static_cast<size_t>(num_users(facts) - 1)], facts) +
         (facts.model.has_tied_head ? whole_bytes(units.front(), facts) : 0);
}

// Those of the embedding, of the fullest block and of the head. The gradients are of all blocks,
// with an adapter's.
struct DecoderBytes {
  UserBytes front, block, back;

  int64_t gradients() const { return front.gradients + block.gradients + back.gradients; }
};

DecoderBytes decoder_bytes(const RunConfig& config, const MemoryFacts& facts) {
  std::vector<UserBytes> users(static_cast<size_t>(num_users(facts))), experts(users.size());
  UserBytes adapter;
  for (size_t i = 0; i < facts.units.size(); ++i) {
    const StoredUnit& unit = facts.units[i];
    const bool is_own = i < static_cast<size_t>(num_decoder_units(facts));
    const int64_t bytes = whole_bytes(unit, facts);
    const UserBytes one{
        unit.form.four_bit ? four_bit_bytes(unit, {.stage = 0}, facts.num_ranks) : bytes, bytes,
        unit.form.is_trained ? bytes : 0, gradient_bytes(unit, config.parallel, facts.num_ranks)};
    if (unit.layout.expert_group().is_defined()) {
      experts[user_of(i, facts)].raise_to(one);
    } else {
      (is_own ? users[user_of(i, facts)] : adapter).add(one);
    }
  }
  for (size_t user = 0; user < users.size(); ++user) users[user].add_largest(experts[user]);
  DecoderBytes result{users.front(), {.gradients = adapter.gradients}, users.back()};
  for (size_t user = 1; user + 1 < users.size(); ++user) result.block.raise_to(users[user]);
  return result;
}

// The largest two units of an adapter, gathered: 0 where it has none.
std::pair<int64_t, int64_t> largest_adapter_bytes(const MemoryFacts& facts) {
  int64_t largest = 0, second = 0;
  for (auto unit = static_cast<size_t>(num_decoder_units(facts)); unit < facts.units.size();
       ++unit) {
    const int64_t bytes = whole_bytes(facts.units[unit], facts);
    second = std::max(second, std::min(bytes, largest));
    largest = std::max(largest, bytes);
  }
  return {largest, second};
}

// Of an adapter: its largest unit, whose gradient may be kept for the embedding, and another; what
// is exchanged meanwhile is one of them.
int64_t adapter_exchange_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const auto [largest, second] = largest_adapter_bytes(facts);
  if (facts.num_ranks == 1) return largest + second;
  const int64_t gathered = config.parallel.stage == 3 ? largest + second : 0;
  const int64_t gradients = largest + 2 * second, received = largest;
  return gathered + gradients + received;
}

// Whoever saves an adapter gathers its units one at a time, to cut them as its files are cut; what
// changes the base, with the unit that is trained beside it.
int64_t gathered_to_save_bytes(const RunConfig& config, const MemoryFacts& facts) {
  if (facts.num_ranks == 1 || config.parallel.stage == 0) return 0;
  const auto [largest, second] = largest_adapter_bytes(facts);
  const auto changes_base = [](const StoredUnit& unit) { return unit.layout.changes_base(); };
  return std::ranges::any_of(facts.units, changes_base) ? largest + second : largest;
}

// What a block keeps of one token for its backward pass: its input, the sum in the middle, queries,
// keys and values (bounded ones twice), the context, gate and up; a number a head and two norms.
int64_t elements_per_token(const ModelConfig& model) {
  const int64_t queries = model.num_heads * model.head_dim;
  const int64_t keys_and_values = 2 * model.num_key_value_heads * model.head_dim;
  const BlockNames names = block_names(model);
  const int64_t num_behind = !names.after_attention_norm.empty() + !names.after_mlp_norm.empty();
  const int64_t inner = product_sizes(model)[static_cast<size_t>(Product::kGateUp)].out;
  const int64_t columns = (model.qkv_bound > 0.0 ? 2 : 1) * (queries + keys_and_values);
  return (2 + num_behind) * model.hidden_size + queries + columns + inner;
}

// What a router keeps of one token: of each expert its logit and probability, of each choice its
// expert, three places and three times its weight.
int64_t routing_bytes_per_token(const ModelConfig& model, int64_t element) {
  constexpr int64_t kChoiceBytes = 4 * sizeof(int64_t) + 3 * kFloatBytes;
  return model.experts.count * (kFloatBytes + element) + model.experts.num_chosen * kChoiceBytes;
}

// What bottlenecks keep of one token in each block: what they read, and what they made of it.
int64_t bottleneck_bytes_per_token(const RunConfig& config, const MemoryFacts& facts) {
  if (config.method.kind != MethodOptions::Kind::kBottleneck) return 0;
  const BottleneckOptions& options = config.method.bottleneck;
  const int64_t one = facts.model.hidden_size * element_bytes(decoder_form(facts)) +
                      options.size(facts.model) * kFloatBytes;
  return options.is_houlsby() ? 2 * one : one;
}

// What LoRA keeps of one token in each block: the products with A.
int64_t low_rank_bytes_per_token(const MemoryFacts& facts) {
  int64_t most = 0;
  for (auto i = static_cast<size_t>(num_decoder_units(facts)); i < facts.units.size(); ++i) {
    int64_t ranks = 0;
    for (const TensorSlot& slot : facts.units[i].layout.slots()) {
      if (slot.name.ends_with(kLoraDown)) ranks += slot.shape[0];
    }
    most = std::max(most, ranks);
  }
  return most * element_bytes(decoder_form(facts));
}

// From the lowest block on that computes with something trained; of adapters none is told apart.
int64_t num_blocks_kept(const MemoryFacts& facts) {
  const int64_t num_layers = facts.model.num_layers;
  if (has_adapter(facts)) return num_layers;
  int64_t lowest = num_users(facts);
  for (size_t unit = 0; unit < facts.units.size(); ++unit) {
    if (!facts.units[unit].form.is_trained) continue;
    lowest = std::min(lowest, static_cast<int64_t>(user_of(unit, facts)));
  }
  return std::clamp<int64_t>(num_layers + 1 - lowest, 0, num_layers);
}

bool trains_head_matrix(const MemoryFacts& facts) {
  const std::string name =
      facts.model.has_tied_head ? embedding_weight(facts.model) : head_weight(facts.model);
  return std::ranges::any_of(facts.units, [&](const StoredUnit& unit) {
    return unit.form.is_trained && unit.layout.find(name) != nullptr;
  });
}

// What a micro-batch holds on its way.
struct ActivationBytes {
  int64_t blocks;  // Of all blocks, for their backward passes.
  int64_t block;   // Of one of them: kept or computed again.
  int64_t input;   // Of a block.
  int64_t head;    // While the head computes,
  int64_t work;    // or a block goes backward.
  int64_t threads;
};

ActivationBytes activation_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const ModelConfig& model = facts.model;
  const int64_t element = element_bytes(decoder_form(facts));
  const int64_t tokens = config.data.micro_batch_rows * config.data.sequence_length;
  const int64_t queries = model.num_heads * model.head_dim;
  const int64_t keys_and_values = 2 * model.num_key_value_heads * model.head_dim;
  const int64_t block =
      tokens * (elements_per_token(model) * element + (model.num_heads + 2) * kFloatBytes +
                bottleneck_bytes_per_token(config, facts) + low_rank_bytes_per_token(facts) +
                routing_bytes_per_token(model, element));
  const int64_t input = tokens * model.hidden_size * element;
  const bool trains_head = trains_head_matrix(facts);
  const bool has_windows = std::ranges::find(model.windows, 0) == model.windows.end();
  const AttentionBytes attention = attention_bytes(
      {model.num_heads, model.num_key_value_heads, model.head_dim, model.attention_scale,
       model.attention_softcap},
      {tokens, config.data.sequence_length, has_windows ? std::ranges::max(model.windows) : 0},
      facts.num_threads);
  std::vector<LinearShape> layers{{tokens, model.vocab_size, model.hidden_size, trains_head}};
  for (const ProductSize& size : product_sizes(model))
    layers.push_back({tokens, size.out, size.in});
  const int64_t products = product_bytes(layers, decoder_form(facts).dtype, facts.num_threads);
  // Gradients of a sublayer's output, of what its last product reads and of what that was made of.
  const int64_t inner = product_sizes(model)[static_cast<size_t>(Product::kGateUp)].out;
  const int64_t of_experts = model.experts.num_chosen * model.hidden_size;  // By their tokens.
  const int64_t mlp = model.hidden_size + model.intermediate_size + inner + of_experts;
  const int64_t sublayer = 3 * model.hidden_size + 2 * queries + 2 * keys_and_values;
  return {
      .blocks = num_blocks_kept(facts) * (config.train.recomputes ? input : block),
      .block = block,
      .input = input,
      .head = head_bytes({tokens, model.hidden_size, model.vocab_size, element, trains_head,
                          model.logit_softcap > 0.0, config.train.kl.is_on()},
                         facts.num_threads),
      .work = std::max(tokens * mlp * element, tokens * sublayer * element + attention.backward),
      .threads = attention.threads + products};
}

// What a rank holds at one moment of a step beside its state.
struct Moment {
  int64_t exchange, gradients, activations;

  int64_t total() const { return exchange + gradients + activations; }
};

// When the head has computed, while each block goes backward, and when the embedding's gradient is
// exchanged: activations become fewer, gradients more. What is under way is not added up yet.
std::vector<Moment> moments(const RunConfig& config, const MemoryFacts& facts,
                            const DecoderBytes& bytes, const ActivationBytes& activations) {
  const auto& [front, block, back] = bytes;
  const bool is_tied = facts.model.has_tied_head, is_alone = facts.num_ranks == 1;
  const bool is_sharded = !is_alone && config.parallel.stage == 3;
  const bool is_fast = config.parallel.reduction == Reduction::kFast;
  const bool exchanges = !is_alone && !is_fast;
  const bool is_packed = block.packed != block.all;
  const int64_t kept_for_front = is_tied ? front.trained : 0;  // The head has begun it.
  const int64_t prefetched = is_sharded ? block.packed : 0;
  const int64_t at_head =
      is_sharded ? back.packed + (is_tied ? front.packed : 0) + start_head_bytes(config, facts) : 0;
  const int64_t in_block = (is_sharded || is_packed ? block.all : 0) + block.trained;
  const int64_t recomputed = config.train.recomputes ? activations.block : 0;
  std::vector<Moment> all{{prefetched + at_head + back.trained + kept_for_front, 0,
                           activations.blocks + activations.head}};
  const int64_t count = num_blocks_kept(facts);
  for (int64_t num_gone = 0; num_gone < count; ++num_gone) {
    const int64_t num_added = std::max<int64_t>(0, num_gone - (exchanges ? 1 : 0));
    const int64_t under_way = exchanges ? 2 * (num_gone == 0 ? back.trained : block.trained) : 0;
    all.push_back(
        {in_block + prefetched + kept_for_front + under_way,
         (exchanges && num_gone == 0 ? 0 : back.gradients) + block.gradients * num_added / count,
         activations.blocks * (count - num_gone) / count + recomputed + activations.work});
  }
  const int64_t largest = std::max({front.trained, block.trained, back.trained});
  const int64_t last = exchanges ? 2 * std::max(front.trained, block.trained) : front.trained;
  all.push_back(
      {is_fast && !is_alone ? 3 * largest : last, bytes.gradients(), 2 * activations.input});
  return all;
}

// The fullest of them; from a step's second micro-batch on all gradients are there all the time.
Moment fullest_moment(const RunConfig& config, const MemoryFacts& facts,
                      const ActivationBytes& activations) {
  const DecoderBytes bytes = decoder_bytes(config, facts);
  std::vector<Moment> all = moments(config, facts, bytes, activations);
  if (config.data.num_micro_batches() > facts.num_ranks) {
    for (Moment& moment : all) moment.gradients = bytes.gradients();
  }
  return *std::ranges::max_element(all, {}, &Moment::total);
}

}  // namespace

MemoryEstimate estimate_memory(const RunConfig& config, const MemoryFacts& facts) {
  MemoryEstimate estimate;
  const bool is_offloaded = !config.optimizer.offload.empty();
  for (const StoredUnit& unit : facts.units) {
    estimate.state += state_bytes(unit, config, facts.num_ranks);
    const bool is_copied = config.checkpoint.every_steps > 0;  // The last save takes no copy.
    if (unit.layout.changes_base() && is_copied) {
      // Alone, and with as much in what is published.
      const ShardLayout shards(unit.layout.num_elements(), facts.num_ranks);
      estimate.saving += 3 * kFloatBytes * shards.shard_size();
    }
    if (!unit.form.is_trained) continue;
    const UpdateBytes update = most_update_bytes(unit, config, facts.num_ranks);
    if (is_offloaded) estimate.offloaded += update.numbers;
    if (is_copied && !is_offloaded) estimate.saving += copy_bytes(unit, config, facts.num_ranks);
  }
  for (const StoredUnit& unit : units_of_start(config, facts)) {
    estimate.state += state_bytes(unit, config, facts.num_ranks);
  }
  estimate.saving += gathered_to_save_bytes(config, facts);
  const ActivationBytes activations = activation_bytes(config, facts);
  const Moment fullest = fullest_moment(config, facts, activations);
  estimate.exchange = fullest.exchange + adapter_exchange_bytes(config, facts);
  estimate.gradients = fullest.gradients;
  estimate.activations = fullest.activations + activations.threads;
  constexpr auto kSpareShare = static_cast<int64_t>(HostCache::kSpareShare);
  estimate.program = kProgramBytes + estimate.total() / kSpareShare;
  return estimate;
}

}  // namespace temper
