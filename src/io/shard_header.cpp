// SPDX-License-Identifier: Apache-2.0
#include "io/shard_header.h"

#include "core/concat.h"
#include "core/error.h"
#include "io/hdf5_file.h"
#include "io/json.h"

namespace temper {
namespace {

constexpr int64_t kMaxBlockBytes = int64_t{1} << 30;
constexpr int64_t kMaxVocabulary = int64_t{1} << 31;
constexpr int64_t kMaxShortVocabulary = 65536;  // Up to here a token takes two bytes.
constexpr const char* kRemedy = "make the shard again as datasets/FORMAT.md describes";

using Element = Hdf5File::Element;

// Others than temper's preparation may write anything into `origin`.
std::string side_in(const std::string& origin) {
  const Json parsed = Json::parse(origin, nullptr, /*allow_exceptions=*/false);
  for (const char* side : {"train", "holdout"}) {
    if (parsed.is_object() && parsed.value("split", Json()) == side) return side;
  }
  return "";
}

/// Reads the parts of one shard's header and refuses what does not fit.
class HeaderReader {
 public:
  explicit HeaderReader(const File& file)
      : file_(file), file_bytes_(file.size()), hdf5_(file.path()) {}

  ShardHeader read() {
    require_version();
    read_attributes();
    require_counts();
    header_.tokens = dataset("tokens", token_element(), header_.num_tokens);
    header_.document_offsets =
        dataset("document_offsets", Element::kUint64, header_.num_documents + 1);
    if (header_.kind == ShardKind::kSft) {
      header_.target_mask = dataset("target_mask", Element::kUint8, header_.num_tokens);
    }
    require_hash("fingerprint", header_.fingerprint, computed_fingerprint());
    if (!header_.chat_template.empty() || !header_.chat_template_sha256.empty()) {
      require_hash("chat_template_sha256", header_.chat_template_sha256,
                   to_hex(sha256(header_.chat_template)));
    }
    return std::move(header_);
  }

 private:
  [[noreturn]] void refuse(const std::string& problem, const std::string& remedy = kRemedy) const {
    throw DataError(concat(file_.path().string(), ' ', problem), remedy);
  }

  void require_version() const {
    const std::string format = hdf5_.text("format");
    if (format != "temper-tokens") {
      refuse(concat("is no token shard: its format is '", format, "'; wanted 'temper-tokens'"));
    }
    const int64_t version = hdf5_.integer("format_version");
    if (version > ShardHeader::kFormatVersion) {
      refuse(concat("was made by a newer version: its format version is ", version, "; known is ",
                    ShardHeader::kFormatVersion),
             "use a newer temper, or make the shard again");
    }
    if (version != ShardHeader::kFormatVersion) {
      refuse(concat("has the unknown format version ", version));
    }
  }

  void read_attributes() {
    const std::string kind = hdf5_.text("kind");
    if (kind != "pretrain" && kind != "sft") {
      refuse(concat("has the unknown kind '", kind, "'; wanted 'pretrain' or 'sft'"));
    }
    header_.kind = kind == "sft" ? ShardKind::kSft : ShardKind::kPretrain;
    header_.tokenizer_sha256 = hdf5_.text("tokenizer_sha256");
    header_.chat_template_sha256 = hdf5_.text("chat_template_sha256");
    header_.chat_template = hdf5_.text("chat_template");
    header_.origin = hdf5_.text("origin");
    header_.side = side_in(header_.origin);
    header_.fingerprint = hdf5_.text("fingerprint");
    header_.vocab_size = integer_in("vocab_size", {1, kMaxVocabulary + 1});
    header_.eos_token_id = integer_in("eos_token_id", {0, header_.vocab_size});
    if (hdf5_.has_attribute("tool_use_template_sha256")) {
      header_.tool_use_template_sha256 = hdf5_.text("tool_use_template_sha256");
    }
    if (hdf5_.has_attribute("end_of_turn_id")) {
      header_.end_of_turn_id = integer_in("end_of_turn_id", {0, header_.vocab_size});
    }
    header_.block_bytes = integer_in("block_bytes", {1, kMaxBlockBytes + 1});
    // A file holds fewer tokens and documents than bytes; so no product below can overflow.
    header_.num_tokens = integer_in("num_tokens", {1, file_bytes_});
    header_.num_documents = integer_in("num_documents", {1, header_.num_tokens + 1});
    header_.num_targets = hdf5_.integer("num_targets");
  }

  int64_t integer_in(const std::string& name, Range range) const {
    const int64_t value = hdf5_.integer(name);
    if (value < range.begin || value >= range.end) {
      refuse(concat("has ", name, " ", value, "; wanted ", range.begin, " to ", range.end - 1));
    }
    return value;
  }

  void require_counts() const {
    if (header_.num_targets < 1) refuse("has no target: nothing could be learnt from it");
    const int64_t most = header_.num_tokens - header_.num_documents;
    if (header_.num_targets > most) {
      refuse(concat("has num_targets ", header_.num_targets, ", but only ", most,
                    " tokens follow another one of their document"));
    }
    if (header_.kind == ShardKind::kPretrain && header_.num_targets != most) {
      refuse(concat("has num_targets ", header_.num_targets, "; a shard of kind pretrain has ",
                    most, " (tokens less documents)"));
    }
  }

  Element token_element() const {
    return header_.vocab_size <= kMaxShortVocabulary ? Element::kUint16 : Element::kUint32;
  }

  ShardDataset dataset(const std::string& name, Element element, int64_t count) const {
    ShardDataset result{name, num_bytes(element), payload(name, element, {count}), {}};
    const int64_t num_blocks =
        (result.bytes.size() + header_.block_bytes - 1) / header_.block_bytes;
    constexpr auto kDigestBytes = static_cast<int64_t>(sizeof(Digest));
    const Range table = payload(name + "_sha256", Element::kUint8, {num_blocks, kDigestBytes});
    result.hashes.resize(static_cast<size_t>(num_blocks));
    file_.read(table.begin, std::as_writable_bytes(std::span(result.hashes)));
    return result;
  }

  Range payload(const std::string& name, Element element, const std::vector<int64_t>& shape) const {
    const Range bytes = hdf5_.payload(name, element, shape);
    if (bytes.begin < 0 || bytes.end > file_bytes_) {
      refuse(concat("is truncated: its dataset /", name, " lies at bytes [", bytes.begin, ", ",
                    bytes.end, ") and the file has ", file_bytes_),
             "copy the file again");
    }
    return bytes;
  }

  std::string computed_fingerprint() const {
    Sha256 hash;
    hash.update(concat("format=temper-tokens\nformat_version=", ShardHeader::kFormatVersion,
                       "\nkind=", to_string(header_.kind), "\nvocab_size=", header_.vocab_size,
                       "\ntokenizer_sha256=", header_.tokenizer_sha256,
                       "\nchat_template_sha256=", header_.chat_template_sha256,
                       "\neos_token_id=", header_.eos_token_id, "\nnum_tokens=", header_.num_tokens,
                       "\nnum_documents=", header_.num_documents, "\nnum_targets=",
                       header_.num_targets, "\nblock_bytes=", header_.block_bytes, "\n"));
    for (const auto* dataset : {&header_.tokens, &header_.document_offsets, &header_.target_mask}) {
      hash.update(std::as_bytes(std::span(dataset->hashes)));
    }
    return to_hex(hash.finish());
  }

  void require_hash(const std::string& name, const std::string& found,
                    const std::string& computed) const {
    if (found == computed) return;
    refuse(concat("is damaged or was altered: its ", name, " is ", found,
                  ", but its content gives ", computed),
           "copy the file again, or make it again");
  }

  const File& file_;
  int64_t file_bytes_;
  Hdf5File hdf5_;
  ShardHeader header_;
};

}  // namespace

std::string to_string(ShardKind kind) { return kind == ShardKind::kSft ? "sft" : "pretrain"; }

ShardHeader read_shard_header(const File& file) { return HeaderReader(file).read(); }

}  // namespace temper
