// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/tiny_folder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <map>
#include <span>

#include "checkpoint/hugging_face_config.h"
#include "core/hash.h"
#include "core/random.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors_folder.h"
#include "model/decoder_units.h"

namespace temper::testing {
namespace {

uint64_t key_of(const std::string& name) {
  const Digest digest = sha256(name);
  uint64_t key = 0;
  for (size_t i = 0; i < 8; ++i) key = key << 8 | digest[i];
  return key;
}

std::string data_of(const TensorSpec& tensor, const SafetensorsTensor& place) {
  std::vector<float> numbers(static_cast<size_t>(place.num_elements()));
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = tiny_value(tensor.name, static_cast<int64_t>(i));
  }
  std::string data(static_cast<size_t>(place.bytes.size()), '\0');
  if (is_convertible(tensor.dtype)) {
    from_floats(tensor.dtype, numbers, std::as_writable_bytes(std::span(data)));
  }
  return data;
}

void write_file(const std::filesystem::path& path, const std::vector<TensorSpec>& tensors) {
  const SafetensorsLayout layout(tensors);
  std::string bytes = layout.header();
  for (size_t i = 0; i < tensors.size(); ++i) bytes += data_of(tensors[i], layout.tensors()[i]);
  write_file_atomically(path, bytes);
}

// Calls `visit` with a name, an element, its place in the kept tensors, and which of them.
using Visitor = std::function<void(uint64_t key, int64_t element, float& number)>;

void for_each_number(const UnitState& state, int64_t step, const Visitor& visit) {
  const at::Tensor* tensors[] = {&state.master, &state.first_moment, &state.second_moment};
  for (size_t which = 0; which < 3; ++which) {
    if (!tensors[which]->defined()) continue;
    for (const TensorSlot& slot : state.unit.slots()) {
      const uint64_t key = key_of(slot.name) + 17 * static_cast<uint64_t>(step) + which;
      const Range range = intersection(slot.range(), state.kept);
      auto* numbers = tensors[which]->mutable_data_ptr<float>() - state.kept.begin;
      for (int64_t i = range.begin; i < range.end; ++i) visit(key, i - slot.offset, numbers[i]);
    }
  }
}

float state_value(uint64_t key, int64_t element) {
  return static_cast<float>(random_uniform(key, static_cast<uint64_t>(element)) - 0.5);
}

}  // namespace

std::string tiny_config_text(Head head) {
  const Json json = {{"architectures", {"LlamaForCausalLM"}},
                     {"model_type", "llama"},
                     {"vocab_size", 151},
                     {"hidden_size", 40},
                     {"intermediate_size", 72},
                     {"num_hidden_layers", 2},
                     {"num_attention_heads", 4},
                     {"num_key_value_heads", 2},
                     {"max_position_embeddings", 64},
                     {"rms_norm_eps", 1e-5},
                     {"eos_token_id", 2},
                     {"tie_word_embeddings", head == Head::kTied},
                     {"torch_dtype", "float32"}};
  return json.dump(2) + '\n';
}

ModelConfig tiny_config(Head head) {
  return parse_hugging_face_config(tiny_config_text(head), "config.json");
}

std::vector<UnitLayout> tiny_units(Head head) { return decoder_units(tiny_config(head)); }

std::vector<TensorSpec> tiny_tensors(Head head, DType dtype) {
  std::vector<TensorSpec> tensors;
  for (const UnitLayout& unit : tiny_units(head)) {
    for (const TensorSlot& slot : unit.slots()) tensors.push_back({slot.name, dtype, slot.shape});
  }
  return tensors;
}

float tiny_value(const std::string& name, int64_t i) { return state_value(key_of(name), i); }

float rounded(float number, DType dtype) {
  std::vector<std::byte> bytes(static_cast<size_t>(num_bits(dtype) / 8));
  from_floats(dtype, std::span(&number, 1), bytes);
  to_floats(dtype, bytes, std::span(&number, 1));
  return number;
}

void write_weights(const std::filesystem::path& folder, const std::vector<TensorSpec>& tensors,
                   size_t num_files) {
  std::map<std::string, std::string> file_of_tensor;
  for (size_t file = 0; file < num_files; ++file) {
    const std::string name =
        safetensors_file_name("model", static_cast<int64_t>(file), static_cast<int64_t>(num_files));
    std::vector<TensorSpec> part;
    for (size_t i = file; i < tensors.size(); i += num_files) part.push_back(tensors[i]);
    for (const TensorSpec& tensor : part) file_of_tensor[tensor.name] = name;
    write_file(folder / name, part);
  }
  if (num_files == 1) return;
  write_file_atomically(folder / "model.safetensors.index.json",
                        safetensors_index(file_of_tensor, 0));
}

void write_tiny_folder(const std::filesystem::path& folder, Head head, DType dtype,
                       size_t num_files) {
  std::filesystem::create_directories(folder);
  write_file_atomically(folder / "config.json", tiny_config_text(head));
  write_file_atomically(folder / "tokenizer.json", "{\"tokenizer\": 1}\n");
  write_weights(folder, tiny_tensors(head, dtype), num_files);
}

void fill_state(UnitStore& store, int64_t step) {
  for (int unit = 0; unit < store.num_units(); ++unit) {
    for_each_number(store.state(unit), step, [](uint64_t key, int64_t element, float& number) {
      number = state_value(key, element);
    });
    store.publish(unit);
  }
}

bool has_state(const UnitStore& store, int64_t step) {
  bool is_equal = true;
  for (int unit = 0; unit < store.num_units(); ++unit) {
    for_each_number(store.state(unit), step, [&](uint64_t key, int64_t element, float& number) {
      is_equal &=
          std::bit_cast<uint32_t>(number) == std::bit_cast<uint32_t>(state_value(key, element));
    });
  }
  return is_equal;
}

}  // namespace temper::testing
