// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>

#include "core/concat.h"

namespace temper {
namespace {

[[noreturn]] void refuse(const JsonOrigin& origin, const std::string& problem) {
  throw_file_error(origin.purpose,
                   concat(origin.name, " is not a whole safetensors file: ", problem),
                   "fetch or make the file again");
}

// A whole number that is not negative and fits, or nothing.
std::optional<int64_t> to_count(const Json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > INT64_MAX) return std::nullopt;
  return value.get<int64_t>();
}

/// Turns the JSON object of one tensor into its entry; offsets are still relative to the data.
class TensorParser {
 public:
  TensorParser(const std::string& name, const Json& json, const JsonOrigin& origin)
      : name_(name), json_(json), origin_(origin) {}

  SafetensorsTensor parse() const {
    if (!json_.is_object()) fail("is not described by an object");
    const Json& dtype = member("dtype");
    const auto known = dtype.is_string() ? parse_dtype(dtype.get_ref<const std::string&>())
                                         : std::optional<DType>();
    if (!known) fail(concat("has the unknown dtype ", shown(dtype)));
    SafetensorsTensor tensor{name_, *known, counts("shape"), {}};
    const std::vector<int64_t> offsets = counts("data_offsets");
    if (offsets.size() != 2) fail("has data_offsets that are not a pair");
    tensor.bytes = {offsets[0], offsets[1]};
    if (tensor.bytes.end < tensor.bytes.begin) {
      fail(concat("ends at ", tensor.bytes.end, ", before it begins at ", tensor.bytes.begin));
    }
    require_size(tensor);
    return tensor;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    refuse(origin_, concat("tensor ", shown(name_), ' ', problem));
  }

  const Json& member(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) fail(concat("has no ", key));
    return *found;
  }

  std::vector<int64_t> counts(const char* key) const {
    const Json& list = member(key);
    if (!list.is_array()) fail(concat("has a ", key, " that is not a list"));
    std::vector<int64_t> numbers;
    for (const Json& element : list) {
      const auto number = to_count(element);
      if (!number) fail(concat("has ", shown(element), " in its ", key));
      numbers.push_back(*number);
    }
    return numbers;
  }

  // The order of the factors matters to the reference, too: [2^62, 4, 0] overflows.
  void require_size(const SafetensorsTensor& tensor) const {
    int64_t bits = num_bits(tensor.dtype);
    for (const int64_t length : tensor.shape) {
      if (__builtin_mul_overflow(bits, length, &bits)) fail("has a shape too big to count");
    }
    if (bits % 8 != 0) fail(concat("has ", bits, " bits, which are not whole bytes"));
    if (bits / 8 != tensor.bytes.size()) {
      fail(
          concat("takes ", tensor.bytes.size(), " bytes, but its shape and dtype need ", bits / 8));
    }
  }

  const std::string& name_;
  const Json& json_;
  const JsonOrigin& origin_;
};

std::map<std::string, std::string> parse_metadata(const Json& json, const JsonOrigin& origin) {
  if (!json.is_object()) refuse(origin, "its __metadata__ is not an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      refuse(origin, concat("its __metadata__ has ", shown(key), ", which is not a string"));
    }
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// Sorts by place and requires that the tensors fill the data exactly.
void require_cover(std::vector<SafetensorsTensor>& tensors, int64_t data_bytes,
                   const JsonOrigin& origin) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.bytes.begin, a.bytes.end) < std::pair(b.bytes.begin, b.bytes.end);
  });
  int64_t next = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.bytes.begin != next) {
      refuse(origin, concat("tensor ", shown(tensor.name), " begins at byte ", tensor.bytes.begin,
                            " of the data, ",
                            tensor.bytes.begin < next ? "inside another one" : "after a hole",
                            "; wanted ", next));
    }
    next = tensor.bytes.end;
  }
  if (next > data_bytes) {
    refuse(origin, concat("it is truncated: its tensors need ", next, " bytes of data and ",
                          data_bytes, " are there"));
  }
  if (next < data_bytes) {
    refuse(origin, concat(data_bytes - next, " bytes follow the last tensor"));
  }
}

}  // namespace

int64_t SafetensorsTensor::num_elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies());
}

int64_t safetensors_json_bytes(std::string_view prefix, int64_t file_bytes,
                               const JsonOrigin& origin) {
  if (prefix.size() < SafetensorsHeader::kPrefixBytes) {
    refuse(origin, concat("it has ", file_bytes, " bytes; the header's length alone takes 8"));
  }
  uint64_t length = 0;
  std::memcpy(&length, prefix.data(), sizeof(length));
  if (length > static_cast<uint64_t>(SafetensorsHeader::kMaxJsonBytes)) {
    refuse(origin, concat("its header would have ", length, " bytes; at most ",
                          SafetensorsHeader::kMaxJsonBytes, " are allowed"));
  }
  const auto json_bytes = static_cast<int64_t>(length);
  if (SafetensorsHeader::kPrefixBytes + json_bytes > file_bytes) {
    refuse(origin, concat("it is truncated: its header needs ",
                          SafetensorsHeader::kPrefixBytes + json_bytes, " bytes and the file has ",
                          file_bytes));
  }
  return json_bytes;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, int64_t file_bytes,
                                           const JsonOrigin& origin) {
  if (json.empty() || json.front() != '{') refuse(origin, "its header does not begin with {");
  SafetensorsHeader header;
  for_each_member(json, origin, [&](const std::string& name, const Json& value) {
    if (name == "__metadata__") {
      header.metadata = parse_metadata(value, origin);
    } else {
      header.tensors.push_back(TensorParser(name, value, origin).parse());
    }
  });
  const int64_t data_begin = SafetensorsHeader::kPrefixBytes + std::ssize(json);
  require_cover(header.tensors, file_bytes - data_begin, origin);
  for (SafetensorsTensor& tensor : header.tensors) {
    tensor.bytes.begin += data_begin;
    tensor.bytes.end += data_begin;
  }
  return header;
}

}  // namespace temper
