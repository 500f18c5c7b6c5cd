// SPDX-License-Identifier: Apache-2.0
// usage: decoder_probe <folder>
//
// Runs a decoder forward and backward for a test that compares it with another one. In the folder:
//   config.txt    lines `key value...`: the fields of ModelConfig, `dtype` and `threads`
//   weights.bin   fp32 numbers of all tensors, in the order in which the line `tensors` names them
// Each line of its input is the name of a file there with the lines of a batch. For each it leaves
// logits.bin [T, vocab_size] and gradients.bin (in the order of weights.bin), all fp32, and prints
// the sum of the losses.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/whole_decoder.h"

namespace temper::testing {
namespace {

class Fields {
 public:
  explicit Fields(const std::string& path) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string key, word;
      words >> key;
      while (words >> word) values_[key].push_back(word);
    }
  }

  const std::vector<std::string>& list(const std::string& key) const { return values_.at(key); }
  const std::string& text(const std::string& key) const { return list(key).at(0); }
  int64_t integer(const std::string& key) const { return std::stoll(text(key)); }
  double number(const std::string& key) const { return std::stod(text(key)); }
  bool flag(const std::string& key) const { return integer(key) != 0; }
  std::vector<int64_t> integers(const std::string& key) const {
    std::vector<int64_t> numbers;
    for (const std::string& word : list(key)) numbers.push_back(std::stoll(word));
    return numbers;
  }

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

RopeOptions read_rope(const Fields& fields) {
  RopeOptions rope;
  const std::string& type = fields.text("rope_type");
  rope.theta = fields.number("rope_theta");
  if (type == "default") return rope;
  rope.factor = fields.number("rope_factor");
  if (type == "linear") {
    rope.scaling = RopeOptions::Scaling::kLinear;
    return rope;
  }
  rope.scaling = RopeOptions::Scaling::kLlama3;
  rope.low_frequency_factor = fields.number("low_frequency_factor");
  rope.high_frequency_factor = fields.number("high_frequency_factor");
  rope.original_max_positions = fields.integer("original_max_positions");
  return rope;
}

ModelConfig read_config(const Fields& fields) {
  ModelConfig config;
  config.model_type = fields.text("model_type");
  config.vocab_size = fields.integer("vocab_size");
  config.hidden_size = fields.integer("hidden_size");
  config.intermediate_size = fields.integer("intermediate_size");
  config.num_layers = fields.integer("num_layers");
  config.num_heads = fields.integer("num_heads");
  config.num_key_value_heads = fields.integer("num_key_value_heads");
  config.head_dim = fields.integer("head_dim");
  config.max_positions = fields.integer("max_positions");
  config.norm_epsilon = fields.number("norm_epsilon");
  config.rope = read_rope(fields);
  config.has_tied_head = fields.flag("has_tied_head");
  config.has_qkv_bias = fields.flag("has_qkv_bias");
  config.has_output_bias = fields.flag("has_output_bias");
  config.has_mlp_bias = fields.flag("has_mlp_bias");
  config.has_qk_norm = fields.flag("has_qk_norm");
  config.windows = fields.integers("windows");
  return config;
}

void read_weights(WholeDecoder& whole, const std::vector<std::string>& tensors,
                  const std::string& path) {
  if (tensors.size() != whole.names().size()) throw std::runtime_error("other tensors");
  std::ifstream file(path, std::ios::binary);
  for (const std::string& name : tensors) {
    const at::Tensor tensor = whole.weight(name);
    const at::Tensor numbers = at::empty(tensor.sizes(), at::kFloat);
    file.read(static_cast<char*>(numbers.data_ptr()),
              static_cast<std::streamsize>(numbers.nbytes()));
    tensor.copy_(numbers);
  }
  if (!file) throw std::runtime_error(path + " is too short");
}

void write(std::ofstream& file, const at::Tensor& tensor) {
  const at::Tensor numbers = tensor.to(at::kFloat).contiguous();
  file.write(static_cast<const char*>(numbers.const_data_ptr()),
             static_cast<std::streamsize>(numbers.nbytes()));
}

PackedBatch read_batch(const Fields& fields) {
  return {at::tensor(fields.integers("tokens"), at::kLong),
          at::tensor(fields.integers("positions"), at::kLong),
          at::tensor(fields.integers("targets"), at::kLong), fields.integers("document_begins")};
}

void run_batch(WholeDecoder& whole, const PackedBatch& batch,
               const std::vector<std::string>& tensors, const std::string& folder) {
  const WholeDecoder::Pass pass = whole.forward_backward(batch);
  std::ofstream logits(folder + "/logits.bin", std::ios::binary);
  write(logits, whole.decoder().logits(pass.hidden));
  std::ofstream gradients(folder + "/gradients.bin", std::ios::binary);
  for (const std::string& name : tensors) write(gradients, whole.gradient(name));
  gradients.close();
  logits.close();
  if (!gradients || !logits) throw std::runtime_error("cannot write to " + folder);
  std::printf("%.17g\n", pass.loss_sum);
  std::fflush(stdout);
}

void run(const std::string& folder) {
  const Fields fields(folder + "/config.txt");
  at::set_num_threads(static_cast<int>(fields.integer("threads")));
  const bool is_narrow = fields.text("dtype") == "bfloat16";
  WholeDecoder whole(read_config(fields), is_narrow ? at::kBFloat16 : at::kFloat);
  const std::vector<std::string>& tensors = fields.list("tensors");
  read_weights(whole, tensors, folder + "/weights.bin");
  for (std::string batch; std::getline(std::cin, batch);) {
    run_batch(whole, read_batch(Fields(folder + '/' + batch)), tensors, folder);
  }
}

}  // namespace
}  // namespace temper::testing

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: decoder_probe <folder>\n");
    return 2;
  }
  try {
    temper::testing::run(argv[1]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "decoder_probe: %s\n", error.what());
    return 1;
  }
}
