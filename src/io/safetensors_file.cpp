// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_file.h"

#include <algorithm>
#include <stdexcept>

#include "core/concat.h"
#include "core/message_text.h"

namespace temper {
namespace {

constexpr int64_t kConvertedBytes = int64_t{1} << 20;  // Read at once for conversion; arbitrary.

SafetensorsHeader read_header(const File& file) {
  const JsonOrigin origin{file.path().string(), file.purpose()};
  const int64_t file_bytes = file.size();
  std::string text(static_cast<size_t>(std::min(file_bytes, SafetensorsHeader::kPrefixBytes)),
                   '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  text.resize(static_cast<size_t>(safetensors_json_bytes(text, file_bytes, origin)));
  file.read(SafetensorsHeader::kPrefixBytes, std::as_writable_bytes(std::span(text)));
  return parse_safetensors_header(text, file_bytes, origin);
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::filesystem::path path, FilePurpose purpose)
    : file_(File::open(std::move(path), purpose)), header_(read_header(file_)) {
  for (size_t i = 0; i < header_.tensors.size(); ++i) index_[header_.tensors[i].name] = i;
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

void SafetensorsFile::read_floats(const SafetensorsTensor& tensor, Range elements,
                                  std::span<float> floats) const {
  if (!is_convertible(tensor.dtype)) {
    throw_file_error(file_.purpose(),
                     concat(path().string(), ": tensor ", quote(tensor.name), " has dtype ",
                            to_string(tensor.dtype), "; only F32, BF16 and F16 can be read"),
                     "convert the model to BF16");
  }
  if (elements.begin < 0 || elements.end > tensor.num_elements() ||
      elements.size() != std::ssize(floats)) {
    throw std::invalid_argument(concat("no elements [", elements.begin, ", ", elements.end, ") of ",
                                       tensor.name, " for ", floats.size(), " floats"));
  }
  const int64_t element_bytes = num_bits(tensor.dtype) / 8;
  int64_t offset = tensor.bytes.begin + elements.begin * element_bytes;
  if (tensor.dtype == DType::kF32) return read(offset, std::as_writable_bytes(floats));
  std::vector<std::byte> piece(
      static_cast<size_t>(std::min(kConvertedBytes, elements.size() * element_bytes)));
  while (!floats.empty()) {
    const auto count = std::min(floats.size(), piece.size() / static_cast<size_t>(element_bytes));
    const auto bytes = std::span(piece).first(count * static_cast<size_t>(element_bytes));
    read(offset, bytes);
    to_floats(tensor.dtype, bytes, floats.first(count));
    floats = floats.subspan(count);
    offset += std::ssize(bytes);
  }
}

}  // namespace temper
