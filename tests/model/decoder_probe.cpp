// SPDX-License-Identifier: Apache-2.0
// usage: decoder_probe
//
// Runs decoders forward and backward for a test that compares them with others. Each line of its
// input is a folder, which has:
//   config.json   as transformers writes it
//   config.txt    lines `key value...`: `tensors`, `dtype`, `threads`, `longest_context`, the
//                 `corrections` of all routers, if there are any, and `device`, which is cpu, or
//                 accelerator for the one that LibTorch finds
//   weights.bin   fp32 numbers of all tensors, in the order in which the line `tensors` names them
//   batch.txt     likewise lines, of a batch
// There it leaves logits.bin [T, vocab_size] and gradients.bin (in the order of weights.bin), all
// fp32, and prints the sum of the losses. A model that is named again is not read again.
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "checkpoint/hugging_face_config.h"
#include "io/file.h"
#include "model/on_device.h"
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
  std::vector<int64_t> integers(const std::string& key) const {
    std::vector<int64_t> numbers;
    for (const std::string& word : list(key)) numbers.push_back(std::stoll(word));
    return numbers;
  }

  /// None where there is no such line.
  std::vector<float> floats(const std::string& key) const {
    std::vector<float> numbers;
    if (!values_.contains(key)) return numbers;
    for (const std::string& word : list(key)) numbers.push_back(std::stof(word));
    return numbers;
  }

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

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
  const at::Tensor numbers = tensor.to(at::kFloat).contiguous().cpu();
  file.write(static_cast<const char*>(numbers.const_data_ptr()),
             static_cast<std::streamsize>(numbers.nbytes()));
}

PackedBatch read_batch(const Fields& fields, at::Device device) {
  return {on_device(fields.integers("tokens"), device),
          on_device(fields.integers("positions"), device),
          on_device(fields.integers("targets"), device), fields.integers("document_begins")};
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

// A folder's model.
struct Model {
  std::string folder;
  Fields fields;
  WholeDecoder whole;

  explicit Model(const std::string& path)
      : folder(path), fields(path + "/config.txt"), whole(config(), dtype(), device()) {
    whole.decoder().choose_positions(fields.integer("longest_context"));
    read_weights(whole, fields.list("tensors"), folder + "/weights.bin");
  }

  void run() {
    at::set_num_threads(static_cast<int>(fields.integer("threads")));
    run_batch(whole, read_batch(Fields(folder + "/batch.txt"), device()), fields.list("tensors"),
              folder);
  }

 private:
  ModelConfig config() const {
    const std::string path = folder + "/config.json";
    ModelConfig config = parse_hugging_face_config(read_file(path, FilePurpose::kModel), path);
    const std::vector<float> corrections = fields.floats("corrections");
    auto next = corrections.begin();
    for (int64_t layer = 0; layer < config.num_layers && next != corrections.end(); ++layer) {
      const int64_t count = config.has_experts(layer) ? config.experts.count : 0;
      config.experts.corrections.emplace_back(next, next + count);
      next += count;
    }
    if (!config.experts.corrections.empty()) {
      config.experts.corrections.resize(static_cast<size_t>(config.num_layers));
    }
    return config;
  }

  at::Device device() const {
    if (fields.text("device") == "cpu") return at::kCPU;
    return {at::getAccelerator(/*checked=*/true).value(), 0};
  }

  at::ScalarType dtype() const {
    return fields.text("dtype") == "bfloat16" ? at::kBFloat16 : at::kFloat;
  }
};

void run() {
  std::unique_ptr<Model> model;
  for (std::string folder; std::getline(std::cin, folder);) {
    if (!model || model->folder != folder) model = std::make_unique<Model>(folder);
    model->run();
  }
}

}  // namespace
}  // namespace temper::testing

int main() {
  try {
    temper::testing::run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "decoder_probe: %s\n", error.what());
    return 1;
  }
}
