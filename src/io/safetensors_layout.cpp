// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_layout.h"

#include <bit>
#include <set>
#include <stdexcept>
#include <string_view>

#include "core/concat.h"
#include "io/json.h"

namespace temper {
namespace {

int64_t data_bytes_of(const TensorSpec& spec) {
  int64_t bits = num_bits(spec.dtype);
  for (const int64_t length : spec.shape) {
    if (length < 0 || __builtin_mul_overflow(bits, length, &bits)) {
      throw std::invalid_argument(concat("tensor ", spec.name, " has no shape that can be stored"));
    }
  }
  if (bits % 8 != 0) {
    throw std::invalid_argument(concat("tensor ", spec.name, " does not fill whole bytes"));
  }
  return bits / 8;
}

// Written by hand, since the order of the tensors is the caller's.
std::string to_json(const std::vector<SafetensorsTensor>& tensors) {
  std::string json = R"({"__metadata__":{"format":"pt"})";
  for (const SafetensorsTensor& tensor : tensors) {
    const Json entry{{"dtype", to_string(tensor.dtype)},
                     {"shape", tensor.shape},
                     {"data_offsets", {tensor.bytes.begin, tensor.bytes.end}}};
    json += concat(',', Json(tensor.name).dump(), ':', entry.dump());
  }
  return json + '}';
}

std::string padded_header(const std::string& json) {
  const auto alignment = static_cast<size_t>(SafetensorsLayout::kDataAlignment);
  const size_t unpadded = static_cast<size_t>(SafetensorsHeader::kPrefixBytes) + json.size();
  const size_t size = (unpadded + alignment - 1) / alignment * alignment;
  const uint64_t json_bytes = size - static_cast<size_t>(SafetensorsHeader::kPrefixBytes);
  std::string header(reinterpret_cast<const char*>(&json_bytes), sizeof(json_bytes));
  header += json;
  header.resize(size, ' ');
  return header;
}

}  // namespace

SafetensorsLayout::SafetensorsLayout(std::vector<TensorSpec> specs) {
  std::set<std::string_view> names{"__metadata__"};
  int64_t offset = 0;
  for (const TensorSpec& spec : specs) {
    if (!names.insert(spec.name).second) {
      throw std::invalid_argument(concat("two tensors are called ", spec.name));
    }
    const Range bytes{offset, offset + data_bytes_of(spec)};
    tensors_.push_back({spec.name, spec.dtype, spec.shape, bytes});
    offset = bytes.end;
  }
  header_ = padded_header(to_json(tensors_));
  const auto data_begin = static_cast<int64_t>(header_.size());
  for (SafetensorsTensor& tensor : tensors_) {
    tensor.bytes = {data_begin + tensor.bytes.begin, data_begin + tensor.bytes.end};
  }
  file_bytes_ = data_begin + offset;
}

}  // namespace temper
