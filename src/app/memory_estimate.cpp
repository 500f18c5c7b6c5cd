// SPDX-License-Identifier: Apache-2.0
#include "app/memory_estimate.h"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <span>
#include <utility>

#include "model/head.h"
#include "model/ops/attention.h"
#include "model/ops/product.h"
#include "model/quantised/four_bit_format.h"
#include "model/quantised/quantised_absmax.h"
#include "zero/shard_layout.h"

namespace temper {
namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kProgramBytes = 200'000'000;  // Measured: 160 to 190 MB with OpenMPI.

int64_t element_bytes(const UnitForm& form) {
  return static_cast<int64_t>(c10::elementSize(form.dtype));
}

int64_t num_decoder_units(const MemoryFacts& facts) { return facts.model.num_layers + 2; }

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

int64_t state_bytes(const StoredUnit& unit, const ZeroOptions& zero, int num_ranks) {
  if (unit.form.four_bit) return four_bit_bytes(unit, zero, num_ranks);
  const int64_t num_elements = unit.layout.num_elements();
  const int64_t weights = kept_weights(num_elements, zero, num_ranks) * element_bytes(unit.form);
  if (!unit.form.is_trained) return weights;
  const ShardLayout shards(num_elements, num_ranks);
  const int64_t whole = shards.padded_size();
  const int64_t kept = zero.stage == 0 ? whole : shards.shard_size();
  const int64_t master = unit.form.dtype == at::kFloat ? 0 : kept * kFloatBytes;
  const int64_t moments = 2 * kept * kFloatBytes;
  const int64_t gradient = (keeps_whole_gradients(zero) ? whole : kept) * kFloatBytes;
  return weights + master + moments + gradient;
}

// Of a gathered unit.
int64_t whole_bytes(const StoredUnit& unit, const MemoryFacts& facts) {
  return ShardLayout(unit.layout.num_elements(), facts.num_ranks).padded_size() *
         element_bytes(unit.form);
}

// At the fullest a block's gathered weights and the next one's, its gradient, the one that is being
// exchanged and what is received for it; at the head the weights of head and embedding, whose
// buffers then receive their gradients' exchange. A tied embedding's gradient is kept from the head
// to the end; another one takes the buffer that the head's has left.
int64_t decoder_exchange_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const std::span decoder(facts.units.data(), static_cast<size_t>(num_decoder_units(facts)));
  const int64_t front = whole_bytes(decoder.front(), facts);
  const int64_t back = whole_bytes(decoder.back(), facts);
  int64_t block = 0;
  for (const StoredUnit& unit : decoder.subspan(1, decoder.size() - 2)) {
    block = std::max(block, whole_bytes(unit, facts));
  }
  const int64_t lent = facts.model.has_tied_head ? front + back : std::max(front, back);
  const bool is_alone = facts.num_ranks == 1;
  const bool is_sharded = !is_alone && config.parallel.stage == 3;
  const bool is_packed = decoder[1].form.four_bit.has_value();
  const int64_t sharded = is_sharded ? front + back + 2 * block : 0;
  const int64_t gathered = is_packed ? std::max(sharded, block) : sharded;
  if (!decoder_form(facts).is_trained) return gathered;
  const int64_t received = gathered > 0 ? block : std::max(front, block);
  return gathered + lent + 2 * block + (is_alone ? 0 : received);
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

// Whoever saves an adapter gathers its units one at a time, to cut them as its files are cut.
int64_t gathered_to_save_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const bool is_whole = facts.num_ranks == 1 || config.parallel.stage == 0;
  return is_whole ? 0 : largest_adapter_bytes(facts).first;
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

int64_t activation_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const ModelConfig& model = facts.model;
  const int64_t element = element_bytes(decoder_form(facts));
  const int64_t tokens = config.data.micro_batch_rows * config.data.sequence_length;
  const int64_t block =
      tokens * (elements_per_token(model) * element + (model.num_heads + 2) * kFloatBytes +
                bottleneck_bytes_per_token(config, facts));
  const int64_t inputs = tokens * model.num_layers * model.hidden_size * element;
  const int64_t kept = config.train.recomputes ? inputs : model.num_layers * block;
  const int64_t head = head_bytes(
      {tokens, model.hidden_size, model.vocab_size, element, decoder_form(facts).is_trained},
      facts.num_threads);
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
                                {tokens, model.vocab_size, model.hidden_size}};
  const int64_t products = product_bytes(layers, decoder_form(facts).dtype, facts.num_threads);
  // Two blocks' worth for the gradients within the block that is going backward.
  return kept + attention.threads + products + std::max(head, 2 * block + attention.backward);
}

}  // namespace

MemoryEstimate estimate_memory(const RunConfig& config, const MemoryFacts& facts) {
  MemoryEstimate estimate;
  for (const StoredUnit& unit : facts.units) {
    estimate.state += state_bytes(unit, config.parallel, facts.num_ranks);
    if (!unit.form.is_trained || config.checkpoint.every_steps == 0) continue;
    const ShardLayout shards(unit.layout.num_elements(), facts.num_ranks);
    estimate.saving += 3 * kFloatBytes * shards.shard_size();  // The last save takes no copy.
  }
  estimate.saving += gathered_to_save_bytes(config, facts);
  estimate.exchange = decoder_exchange_bytes(config, facts) + adapter_exchange_bytes(config, facts);
  estimate.activations = activation_bytes(config, facts);
  estimate.program = kProgramBytes;
  return estimate;
}

}  // namespace temper
