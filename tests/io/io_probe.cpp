// SPDX-License-Identifier: Apache-2.0
// Lets the Python oracles call the module.
//
//   probe refusals                     reads paths of safetensors files, writes "ok" or why not
//   probe list <file>                  a line for each tensor: name, dtype, begin, end, shape
//   probe floats <file> <tensor>       the tensor as fp32
//   probe layout <file> <name> <dtype> <length> ...
//                                      writes a file of such vectors, filled with 0, 1, 2, ...
//   probe shard <file>                 reads a token shard whole; writes what it is
#include <cstdio>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "io/safetensors_file.h"
#include "io/safetensors_layout.h"
#include "io/token_shard.h"

using namespace temper;

namespace {

using Arguments = std::vector<std::string>;

void print_refusals() {
  for (std::string path; std::getline(std::cin, path);) {
    try {
      SafetensorsFile file(path);
      std::cout << "ok\n";
    } catch (const Error& error) {
      const std::string message = error.what();
      std::cout << message.substr(0, message.find('\n')) << '\n';
    }
  }
}

void print_tensors(const std::string& path) {
  const SafetensorsFile file(path);
  for (const SafetensorsTensor& tensor : file.tensors()) {
    std::cout << tensor.name << ' ' << to_string(tensor.dtype) << ' ' << tensor.bytes.begin << ' '
              << tensor.bytes.end;
    for (const int64_t length : tensor.shape) std::cout << ' ' << length;
    std::cout << '\n';
  }
}

void print_floats(const std::string& path, const std::string& name) {
  const SafetensorsFile file(path);
  const SafetensorsTensor& tensor = *file.find(name);
  std::vector<float> floats(static_cast<size_t>(tensor.num_elements()));
  file.read_floats(tensor, {0, tensor.num_elements()}, floats);
  std::fwrite(floats.data(), sizeof(float), floats.size(), stdout);
}

void write_layout(const Arguments& arguments) {
  std::vector<TensorSpec> specs;
  for (size_t i = 2; i + 2 < arguments.size(); i += 3) {
    specs.push_back({arguments[i], *parse_dtype(arguments[i + 1]), {std::stoll(arguments[i + 2])}});
  }
  const SafetensorsLayout layout(specs);
  const File file = File::open_shared(arguments.at(1), FilePurpose::kModel);
  file.write(0, std::as_bytes(std::span(layout.header())));
  for (const SafetensorsTensor& tensor : layout.tensors()) {
    std::vector<float> floats(static_cast<size_t>(tensor.num_elements()));
    std::iota(floats.begin(), floats.end(), 0.0f);
    std::vector<std::byte> bytes(static_cast<size_t>(tensor.bytes.size()));
    from_floats(tensor.dtype, floats, bytes);
    file.write(tensor.bytes.begin, bytes);
  }
}

// The sums weigh each token, mask and offset by its place, so that no exchange goes unnoticed.
void print_shard(const std::string& path) {
  const TokenShard shard(path);
  shard.verify_all();
  const ShardHeader& header = shard.header();
  const bool is_sft = header.kind == ShardKind::kSft;
  std::vector<int64_t> tokens(static_cast<size_t>(header.num_tokens));
  std::vector<uint8_t> mask(tokens.size());
  shard.read_tokens({0, header.num_tokens}, tokens);
  if (is_sft) shard.read_target_mask({0, header.num_tokens}, mask);
  const auto offsets = shard.documents().offsets({0, header.num_documents + 1});
  uint64_t sum = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    sum += (i + 1) * static_cast<uint64_t>(3 * tokens[i] + mask[i]);
  }
  for (size_t i = 0; i < offsets.size(); ++i) sum += (i + 7) * static_cast<uint64_t>(offsets[i]);
  std::cout << to_string(header.kind) << ' ' << header.vocab_size << ' ' << header.num_tokens << ' '
            << header.num_documents << ' ' << header.num_targets << ' ' << header.fingerprint << ' '
            << sum << '\n'
            << header.chat_template << '\n'
            << header.origin << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments(argv + 1, argv + argc);
  const std::string& what = arguments.at(0);
  if (what == "refusals") print_refusals();
  if (what == "list") print_tensors(arguments.at(1));
  if (what == "floats") print_floats(arguments.at(1), arguments.at(2));
  if (what == "layout") write_layout(arguments);
  if (what == "shard") print_shard(arguments.at(1));
  return 0;
}
