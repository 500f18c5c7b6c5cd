// SPDX-License-Identifier: Apache-2.0
#include "io/shard_file.h"

#include <algorithm>
#include <stdexcept>

#include "core/concat.h"
#include "core/hash.h"

namespace temper {
namespace {

template <typename Element>
std::vector<std::byte> to_bytes(const std::vector<Element>& elements) {
  const auto bytes = std::as_bytes(std::span(elements));
  return {bytes.begin(), bytes.end()};
}

template <typename Token>
std::vector<std::byte> token_bytes(const ShardContent& content) {
  std::vector<Token> all;
  for (const auto& document : content.documents) {
    for (const int64_t token : document) all.push_back(static_cast<Token>(token));
  }
  return to_bytes(all);
}

std::vector<std::byte> mask_bytes(const ShardContent& content) {
  std::vector<uint8_t> all;
  for (const auto& mask : content.masks) all.insert(all.end(), mask.begin(), mask.end());
  return to_bytes(all);
}

std::vector<uint64_t> offsets_of(const ShardContent& content) {
  std::vector<uint64_t> offsets{0};
  for (const auto& document : content.documents)
    offsets.push_back(offsets.back() + document.size());
  return content.offsets_instead.empty() ? offsets : content.offsets_instead;
}

std::vector<std::byte> hash_table(const std::vector<std::byte>& payload, int64_t block_bytes) {
  std::vector<std::byte> table;
  const auto all = std::span(payload);
  const auto block = static_cast<size_t>(block_bytes);
  for (size_t begin = 0; begin < all.size(); begin += block) {
    const Digest digest = sha256(all.subspan(begin, std::min(block, all.size() - begin)));
    const auto bytes = std::as_bytes(std::span(digest));
    table.insert(table.end(), bytes.begin(), bytes.end());
  }
  return table;
}

std::map<std::string, ShardAttribute> attributes_of(const ShardContent& content) {
  const bool is_sft = !content.masks.empty();
  int64_t num_tokens = 0;
  int64_t num_targets = 0;
  for (const auto& document : content.documents) num_tokens += std::ssize(document);
  for (const auto& mask : content.masks) num_targets += std::count(mask.begin(), mask.end(), 1);
  const int64_t num_documents = std::ssize(content.documents);
  const std::string chat_template = is_sft ? "{{ messages }}" : "";
  std::map<std::string, ShardAttribute> attributes{
      {"format", "temper-tokens"},
      {"format_version", int64_t{1}},
      {"kind", is_sft ? "sft" : "pretrain"},
      {"vocab_size", content.vocab_size},
      {"tokenizer_sha256", std::string(64, 'a')},
      {"chat_template_sha256", is_sft ? to_hex(sha256(chat_template)) : ""},
      {"chat_template", chat_template},
      {"eos_token_id", int64_t{0}},
      {"num_tokens", num_tokens},
      {"num_documents", num_documents},
      {"num_targets", is_sft ? num_targets : num_tokens - num_documents},
      {"block_bytes", content.block_bytes},
      {"origin", R"({"program": "a test"})"}};
  for (const auto& [name, value] : content.instead) attributes[name] = value;
  return attributes;
}

std::string text_of(const ShardAttribute& value) {
  return std::visit([](const auto& number_or_text) { return concat(number_or_text); }, value);
}

// All attributes in the root's header, which has a checksum: HDF5 1.10.8 may crash on damage to one
// that it keeps elsewhere.
hid_t create_file(const std::filesystem::path& path) {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
  const hid_t creation = H5Pcreate(H5P_FILE_CREATE);
  H5Pset_attr_phase_change(creation, 65535, 0);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access);
  H5Pclose(creation);
  H5Pclose(access);
  if (file < 0) throw std::runtime_error("H5Fcreate failed");
  return file;
}

}  // namespace

void add_dataset(hid_t file, const std::string& name, hid_t type,
                 const std::vector<hsize_t>& lengths, const void* data) {
  const hid_t space = H5Screate_simple(static_cast<int>(lengths.size()), lengths.data(), nullptr);
  const hid_t dataset =
      H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
  H5Dclose(dataset);
  H5Sclose(space);
}

void add_attribute(hid_t file, const std::string& name, const ShardAttribute& value) {
  const hid_t space = H5Screate(H5S_SCALAR);
  const auto* text = std::get_if<std::string>(&value);
  const hid_t type = H5Tcopy(text == nullptr ? H5T_STD_I64LE : H5T_C_S1);
  std::string padded = text == nullptr ? "" : *text;
  if (text != nullptr) {
    padded.resize(std::max<size_t>(1, padded.size()));
    H5Tset_size(type, padded.size());
    H5Tset_cset(type, H5T_CSET_UTF8);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
  }
  const hid_t attribute = H5Acreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT);
  const void* data = padded.data();
  H5Awrite(attribute, type, text == nullptr ? &std::get<int64_t>(value) : data);
  H5Aclose(attribute);
  H5Tclose(type);
  H5Sclose(space);
}

std::filesystem::path write_shard(const std::filesystem::path& path, const ShardContent& content,
                                  const std::function<void(hid_t file)>& spoil) {
  struct Payload {
    std::string name;
    hid_t type;
    std::vector<std::byte> bytes;
  };
  const bool is_short = content.vocab_size <= 65536;
  std::vector<Payload> payloads{
      {"tokens", is_short ? H5T_STD_U16LE : H5T_STD_U32LE,
       is_short ? token_bytes<uint16_t>(content) : token_bytes<uint32_t>(content)},
      {"document_offsets", H5T_STD_U64LE, to_bytes(offsets_of(content))}};
  if (!content.masks.empty())
    payloads.push_back({"target_mask", H5T_STD_U8LE, mask_bytes(content)});

  const hid_t file = create_file(path);
  auto attributes = attributes_of(content);
  Sha256 hash;
  for (const char* key : {"format", "format_version", "kind", "vocab_size", "tokenizer_sha256",
                          "chat_template_sha256", "eos_token_id", "num_tokens", "num_documents",
                          "num_targets", "block_bytes"}) {
    hash.update(concat(key, '=', text_of(attributes.at(key)), '\n'));
  }
  for (const Payload& payload : payloads) {
    const auto table = hash_table(payload.bytes, content.block_bytes);
    hash.update(table);
    add_dataset(file, payload.name, payload.type,
                {payload.bytes.size() / H5Tget_size(payload.type)}, payload.bytes.data());
    add_dataset(file, payload.name + "_sha256", H5T_STD_U8LE, {table.size() / 32, 32},
                table.data());
  }
  attributes.try_emplace("fingerprint", to_hex(hash.finish()));
  for (const auto& [name, value] : attributes) add_attribute(file, name, value);
  if (spoil) spoil(file);
  H5Fclose(file);
  return path;
}

ShardContent counting_documents(int64_t count, int64_t longest) {
  ShardContent content;
  int64_t token = 0;
  for (int64_t document = 0; document < count; ++document) {
    auto& tokens = content.documents.emplace_back();
    const int64_t length = 1 + document * 7 % longest;
    for (int64_t i = 0; i < length; ++i) tokens.push_back(token++ % content.vocab_size);
  }
  return content;
}

ShardContent counting_conversations(int64_t count, int64_t longest) {
  ShardContent content = counting_documents(count, longest);
  for (auto& document : content.documents) {
    if (document.size() == 1) document.push_back(1);
    auto& mask = content.masks.emplace_back(document.size());
    for (size_t i = 3; i < mask.size(); i += 3) mask[i] = 1;
    mask.back() = 1;
  }
  return content;
}

}  // namespace temper
