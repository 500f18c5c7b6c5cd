// SPDX-License-Identifier: Apache-2.0
#include "app/memory_estimate.h"

#include <algorithm>

#include "model/head.h"
#include "model/ops/attention.h"
#include "model/quantised/four_bit_format.h"
#include "model/quantised/quantised_absmax.h"
#include "zero/shard_layout.h"

namespace temper {
namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kProgramBytes = 200'000'000;  // Measured: 160 to 190 MB with OpenMPI.

int64_t bytes_of(ComputeDtype dtype) { return dtype == ComputeDtype::kBfloat16 ? 2 : 4; }

// Only the fast reduction below stage 2, and stage 0, add up whole gradients.
bool keeps_whole_gradients(const ZeroOptions& zero) {
  return zero.stage == 0 || (zero.stage == 1 && zero.reduction == Reduction::kFast);
}

int64_t frozen_bytes(const ShardLayout& shards, const ZeroOptions& zero, ComputeDtype dtype) {
  return (zero.stage == 3 ? shards.shard_size() : shards.padded_size()) * bytes_of(dtype);
}

// Matrices: half a byte an element, and a scale of one or four bytes for 64 of them, of which 256
// have one on every rank. The rest as it is.
int64_t quantised_bytes(const UnitLayout& unit, const RunConfig& config, const MemoryFacts& facts) {
  const FourBitFormat format;
  int64_t matrices = 0, rest = 0, scales = 0;
  for (const TensorSlot& slot : unit.slots()) {
    (slot.is_matrix() ? matrices : rest) += slot.num_elements();
    if (!slot.is_matrix()) continue;
    const int64_t num_blocks = format.num_blocks(slot.num_elements());
    constexpr int64_t kNested = QuantisedAbsmax::kBlockSize;
    scales += (num_blocks + kNested - 1) / kNested * kFloatBytes;
  }
  const bool is_double = config.quantise.is_double;
  const ShardLayout shards(matrices, facts.num_ranks);
  const int64_t kept = config.parallel.stage == 3 ? shards.shard_size() : shards.padded_size();
  return format.num_bytes(kept) + format.num_blocks(kept) * (is_double ? 1 : kFloatBytes) +
         (is_double ? scales : 0) +
         frozen_bytes(ShardLayout(rest, facts.num_ranks), config.parallel, facts.compute_dtype);
}

int64_t trained_bytes(const ShardLayout& shards, const ZeroOptions& zero, ComputeDtype dtype) {
  const int64_t whole = shards.padded_size();
  const int64_t kept = zero.stage == 0 ? whole : shards.shard_size();
  const int64_t master = dtype == ComputeDtype::kFloat32 ? 0 : kept * kFloatBytes;
  const int64_t moments = 2 * kept * kFloatBytes;
  const int64_t gradient = (keeps_whole_gradients(zero) ? whole : kept) * kFloatBytes;
  return frozen_bytes(shards, zero, dtype) + master + moments + gradient;
}

int64_t largest_block(const std::vector<ShardLayout>& shards) {
  int64_t largest = 0;
  for (size_t i = 1; i + 1 < shards.size(); ++i) {
    largest = std::max(largest, shards[i].padded_size());
  }
  return largest;
}

// At the fullest a block's gathered weights and the next one's, its gradient, the one that is being
// exchanged and what is received for it; at the head the weights of head and embedding, whose
// buffers then receive their gradients' exchange. A tied embedding's gradient is kept from the head
// to the end; another one takes the buffer that the head's has left.
int64_t exchange_bytes(const std::vector<ShardLayout>& shards, const RunConfig& config,
                       const MemoryFacts& facts) {
  const int64_t element = bytes_of(facts.compute_dtype);
  const int64_t front = shards.front().padded_size(), back = shards.back().padded_size();
  const int64_t ends = front + back;
  const int64_t lent = facts.model.has_tied_head ? ends : std::max(front, back);
  const int64_t block = largest_block(shards);
  const bool is_alone = facts.num_ranks == 1;
  const bool is_quantised = config.method.kind == MethodOptions::Kind::kQlora;
  const int64_t sharded = is_alone || config.parallel.stage < 3 ? 0 : ends + 2 * block;
  const int64_t gathered = is_quantised ? std::max(sharded, block) : sharded;
  const int64_t gradients = !facts.adapter.empty() ? 0 : lent + 2 * block;
  const int64_t largest = gathered > 0 ? block : std::max(shards.front().padded_size(), block);
  const int64_t received = is_alone || !facts.adapter.empty() ? 0 : largest;
  return (gathered + gradients + received) * element;
}

// An adapter's gathered weights, its gradient, and what is received for it.
int64_t adapter_exchange_bytes(const ShardLayout& shards, const RunConfig& config,
                               const MemoryFacts& facts) {
  const int64_t whole = shards.padded_size() * kFloatBytes;
  const bool is_alone = facts.num_ranks == 1;
  return whole * (is_alone ? 1 : config.parallel.stage == 3 ? 3 : 2);
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
  const int64_t one = facts.model.hidden_size * bytes_of(facts.compute_dtype) +
                      options.size(facts.model) * kFloatBytes;
  return options.is_houlsby() ? 2 * one : one;
}

int64_t activation_bytes(const RunConfig& config, const MemoryFacts& facts) {
  const ModelConfig& model = facts.model;
  const int64_t element = bytes_of(facts.compute_dtype);
  const int64_t tokens = config.data.micro_batch_rows * config.data.sequence_length;
  const int64_t block =
      tokens * (elements_per_token(model) * element + (model.num_heads + 2) * kFloatBytes +
                bottleneck_bytes_per_token(config, facts));
  const int64_t inputs = tokens * model.num_layers * model.hidden_size * element;
  const int64_t kept = config.train.recomputes ? inputs : model.num_layers * block;
  const int64_t head =
      head_bytes({tokens, model.hidden_size, model.vocab_size, element, facts.adapter.empty()},
                 facts.num_threads);
  const bool has_windows = std::ranges::find(model.windows, 0) == model.windows.end();
  const AttentionBytes attention = attention_bytes(
      {model.num_heads, model.num_key_value_heads, model.head_dim},
      {tokens, config.data.sequence_length, has_windows ? std::ranges::max(model.windows) : 0},
      facts.num_threads);
  // Two blocks' worth for the gradients within the block that is going backward.
  return kept + attention.threads + std::max(head, 2 * block + attention.backward);
}

void add_trained(const ShardLayout& shards, const RunConfig& config, ComputeDtype dtype,
                 MemoryEstimate& estimate) {
  estimate.state += trained_bytes(shards, config.parallel, dtype);
  if (config.checkpoint.every_steps > 0) {  // The last save takes no copy.
    estimate.saving += 3 * kFloatBytes * shards.shard_size();
  }
}

}  // namespace

MemoryEstimate estimate_memory(const RunConfig& config, const MemoryFacts& facts) {
  MemoryEstimate estimate;
  std::vector<ShardLayout> shards;
  const bool is_quantised = config.method.kind == MethodOptions::Kind::kQlora;
  for (const UnitLayout& unit : facts.units) {
    shards.emplace_back(unit.num_elements(), facts.num_ranks);
    if (is_quantised && &unit != &facts.units.front() && &unit != &facts.units.back()) {
      estimate.state += quantised_bytes(unit, config, facts);
    } else if (!facts.adapter.empty()) {
      estimate.state += frozen_bytes(shards.back(), config.parallel, facts.compute_dtype);
    } else {
      add_trained(shards.back(), config, facts.compute_dtype, estimate);
    }
  }
  estimate.exchange = exchange_bytes(shards, config, facts);
  for (const UnitLayout& unit : facts.adapter) {
    const ShardLayout adapter(unit.num_elements(), facts.num_ranks);
    add_trained(adapter, config, ComputeDtype::kFloat32, estimate);
    estimate.exchange += adapter_exchange_bytes(adapter, config, facts);
  }
  estimate.activations = activation_bytes(config, facts);
  estimate.program = kProgramBytes;
  return estimate;
}

}  // namespace temper
