// SPDX-License-Identifier: Apache-2.0
#include "app/memory_estimate.h"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <utility>

#include "model/decoder_units.h"
#include "model/head.h"
#include "model/ops/attention.h"
#include "model/ops/product.h"
#include "model/quantised/four_bit_format.h"
#include "model/quantised/quantised_absmax.h"
#include "zero/shard_layout.h"
#include "zero/unit_store.h"

namespace temper {
namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kProgramBytes = 200'000'000;  // Measured: 160 to 190 MB with OpenMPI.

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
         (is_double ? scales : 0) + kept_weights(rest, zero, num_ranks) * element_bytes(unit.form);
}

// The most that a rank has of it, with scales: shards are equal, but for what lies in them.
UpdateBytes most_update_bytes(const StoredUnit& unit, const RunConfig& config, int num_ranks) {
  const MomentDtype dtype = config.optimizer.state_dtype;
  const ShardLayout shards(unit.layout.num_elements(), num_ranks);
  if (config.parallel.stage == 0) return update_bytes(unit, {0, shards.padded_size()}, dtype);
  UpdateBytes most = update_bytes(unit, shards.block(0), dtype);
  for (int rank = 1; rank < num_ranks && most.scales > 0; ++rank) {
    most.scales = std::max(most.scales, update_bytes(unit, shards.block(rank), dtype).scales);
  }
  return most;
}

int64_t state_bytes(const StoredUnit& unit, const RunConfig& config, int num_ranks) {
  const ZeroOptions& zero = config.parallel;
  if (unit.form.four_bit) return four_bit_bytes(unit, zero, num_ranks);
  const int64_t num_elements = unit.layout.num_elements();
  const int64_t weights = kept_weights(num_elements, zero, num_ranks) * element_bytes(unit.form);
  if (!unit.form.is_trained) return weights;
  const ShardLayout shards(num_elements, num_ranks);
  const int64_t whole = shards.padded_size();
  const int64_t kept = zero.stage == 0 ? whole : shards.shard_size();
  const UpdateBytes update = most_update_bytes(unit, config, num_ranks);
  const int64_t in_memory = config.optimizer.offload.empty() ? update.numbers : 0;
  const int64_t gradient = (keeps_whole_gradients(zero) ? whole : kept) * kFloatBytes;
  return weights + in_memory + update.scales + gradient;
}

// What a save copies: its own slice of master weights and moments, with all scales.
int64_t copy_bytes(const StoredUnit& unit, const RunConfig& config, int num_ranks) {
  const int64_t own = ShardLayout(unit.layout.num_elements(), num_ranks).shard_size();
  const UpdateBytes bytes =
      update_bytes({unit.layout, {.dtype = at::kBFloat16}}, {0, own}, config.optimizer.state_dtype);
  return bytes.numbers + most_update_bytes(unit, config, num_ranks).scales;
}

// Of a gathered unit.
int64_t whole_bytes(const StoredUnit& unit, const MemoryFacts& facts) {
  return ShardLayout(unit.layout.num_elements(), facts.num_ranks).padded_size() *
         element_bytes(unit.form);
}

// Whole units that one user computes with, and those of them that are trained.
struct UserBytes {
  int64_t all = 0;
  int64_t trained = 0;

  void raise_to(const UserBytes& other) {
    all = std::max(all, other.all);
    trained = std::max(trained, other.trained);
  }
};

// Those of the embedding, of the fullest block and of the head.
struct DecoderBytes {
  UserBytes front, block, back;
};

DecoderBytes decoder_bytes(const MemoryFacts& facts) {
  std::vector<UserBytes> users(static_cast<size_t>(num_users(facts)));
  for (size_t unit = 0; unit < static_cast<size_t>(num_decoder_units(facts)); ++unit) {
    const int64_t bytes = whole_bytes(facts.units[unit], facts);
    UserBytes& user = users[user_of(unit, facts)];
    user.all += bytes;
    if (facts.units[unit].form.is_trained) user.trained += bytes;
  }
  DecoderBytes result{users.front(), {}, users.back()};
  for (size_t user = 1; user + 1 < users.size(); ++user) result.block.raise_to(users[user]);
  return result;
}

// At the fullest a block's gathered weights and the next one's, its gradient, the one that is being
// exchanged and what is received for it; at the head the weights of head and embedding, whose
// buffers then receive their gradients' exchange. A tied embedding's gradient is kept from the head
// to the end; another one takes the buffer that the head's has left.
int64_t decoder_exchange_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const auto [front, block, back] = decoder_bytes(facts);
  const int64_t lent = facts.model.has_tied_head ? front.trained + back.trained
                                                 : std::max(front.trained, back.trained);
  const bool is_alone = facts.num_ranks == 1;
  const bool is_sharded = !is_alone && config.parallel.stage == 3;
  const bool is_packed = facts.units[1].form.four_bit.has_value();
  const int64_t sharded = is_sharded ? front.all + back.all + 2 * block.all : 0;
  const int64_t gathered = is_packed ? std::max(sharded, block.all) : sharded;
  const int64_t received = gathered > 0 ? block.trained : std::max(front.trained, block.trained);
  return gathered + lent + 2 * block.trained + (is_alone ? 0 : received);
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

// Of an adapter: its largest unit, which may be used all the time, and two others on their way.
int64_t adapter_exchange_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const auto [largest, second] = largest_adapter_bytes(facts);
  if (facts.num_ranks == 1) return largest + second;
  const int64_t gathered = config.parallel.stage == 3 ? largest + 2 * second : 0;
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
// keys and values, the context, gate and up. Beside them a number for each head and two norms.
int64_t elements_per_token(const ModelConfig& model) {
  const int64_t queries = model.num_heads * model.head_dim;
  const int64_t keys_and_values = 2 * model.num_key_value_heads * model.head_dim;
  return 2 * model.hidden_size + 2 * queries + keys_and_values + 2 * model.intermediate_size;
}

// What bottlenecks keep of one token in each block: what they read, and what they made of it.
int64_t bottleneck_bytes_per_token(const RunConfig& config, const MemoryFacts& facts) {
  if (config.method.kind != MethodOptions::Kind::kBottleneck) return 0;
  const BottleneckOptions& options = config.method.bottleneck;
  const int64_t one = facts.model.hidden_size * element_bytes(decoder_form(facts)) +
                      options.size(facts.model) * kFloatBytes;
  return options.is_houlsby() ? 2 * one : one;
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
  const char* name = facts.model.has_tied_head ? kEmbeddingWeight : kHeadWeight;
  return std::ranges::any_of(facts.units, [&](const StoredUnit& unit) {
    return unit.form.is_trained && unit.layout.find(name) != nullptr;
  });
}

int64_t activation_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const ModelConfig& model = facts.model;
  const int64_t element = element_bytes(decoder_form(facts));
  const int64_t tokens = config.data.micro_batch_rows * config.data.sequence_length;
  const int64_t block =
      tokens * (elements_per_token(model) * element + (model.num_heads + 2) * kFloatBytes +
                bottleneck_bytes_per_token(config, facts));
  const int64_t input = tokens * model.hidden_size * element;
  const int64_t kept = num_blocks_kept(facts) * (config.train.recomputes ? input : block);
  const bool trains_head = trains_head_matrix(facts);
  const int64_t head = head_bytes(
      {tokens, model.hidden_size, model.vocab_size, element, trains_head}, facts.num_threads);
  const bool has_windows = std::ranges::find(model.windows, 0) == model.windows.end();
  const AttentionBytes attention = attention_bytes(
      {model.num_heads, model.num_key_value_heads, model.head_dim},
      {tokens, config.data.sequence_length, has_windows ? std::ranges::max(model.windows) : 0},
      facts.num_threads);
  const int64_t queries = model.num_heads * model.head_dim;
  const int64_t keys_and_values = 2 * model.num_key_value_heads * model.head_dim;
  const LinearShape layers[] = {{tokens, queries + keys_and_values, model.hidden_size},
                                {tokens, model.hidden_size, queries},
                                {tokens, 2 * model.intermediate_size, model.hidden_size},
                                {tokens, model.hidden_size, model.intermediate_size},
                                {tokens, model.vocab_size, model.hidden_size, trains_head}};
  const int64_t products = product_bytes(layers, decoder_form(facts).dtype, facts.num_threads);
  // Two blocks' worth for the gradients within the block that is going backward.
  return kept + attention.threads + products + std::max(head, 2 * block + attention.backward);
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
  estimate.saving += gathered_to_save_bytes(config, facts);
  estimate.exchange = decoder_exchange_bytes(config, facts) + adapter_exchange_bytes(config, facts);
  estimate.activations = activation_bytes(config, facts);
  estimate.program = kProgramBytes;
  return estimate;
}

}  // namespace temper
