// SPDX-License-Identifier: Apache-2.0
#include "io/token_shard.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr int64_t kReadAtOnce = int64_t{1} << 20;  // Tokens, or bytes of the mask.
constexpr int64_t kDocumentsAtOnce = 512;          // Offsets of a page.

}  // namespace

TokenShard::TokenShard(std::filesystem::path path, const OnceForAll& once)
    : file_(File::open(std::move(path), FilePurpose::kData)),
      header_(read_shard_header(file_)),
      tokens_(file_, header_.tokens, header_.block_bytes),
      offsets_(file_, header_.document_offsets, header_.block_bytes),
      mask_(file_, header_.target_mask, header_.block_bytes),
      documents_(offsets_, once({this->path().string(), header_.fingerprint}, [this] {
                   return read_sparse_offsets(offsets_, header_.num_tokens);
                 })) {}

void TokenShard::require_inside(Range tokens, size_t out_size) const {
  if (tokens.begin < 0 || tokens.end > num_tokens() ||
      tokens.size() != static_cast<int64_t>(out_size)) {
    throw std::invalid_argument(concat("no tokens [", tokens.begin, ", ", tokens.end, ") of ",
                                       num_tokens(), " for ", out_size, " places"));
  }
}

void TokenShard::read_tokens(Range tokens, std::span<int64_t> out) const {
  require_inside(tokens, out.size());
  if (header_.tokens.element_bytes == sizeof(uint16_t)) {
    read_tokens_as<uint16_t>(tokens, out);
  } else {
    read_tokens_as<uint32_t>(tokens, out);
  }
}

template <typename Token>
void TokenShard::read_tokens_as(Range tokens, std::span<int64_t> out) const {
  std::vector<Token> raw(out.size());
  tokens_.read(tokens.begin, std::as_writable_bytes(std::span(raw)));
  Token largest = 0;
  for (size_t i = 0; i < raw.size(); ++i) {
    largest = std::max(largest, raw[i]);
    out[i] = raw[i];
  }
  if (largest < header_.vocab_size) return;
  const auto wrong = std::find(raw.begin(), raw.end(), largest);
  refuse_token(tokens.begin + (wrong - raw.begin()), largest);
}

void TokenShard::refuse_token(int64_t position, int64_t token) const {
  throw DataError(concat(path().string(), ": token ", position, ", in document ",
                         documents_.document_of(position), ", is ", token,
                         ", which is not below the vocabulary size ", header_.vocab_size),
                  "make the shard again with the model's own tokenizer");
}

void TokenShard::read_target_mask(Range tokens, std::span<uint8_t> out) const {
  if (header_.kind != ShardKind::kSft) {
    throw std::invalid_argument("a shard of kind pretrain has no target mask");
  }
  require_inside(tokens, out.size());
  mask_.read(tokens.begin, std::as_writable_bytes(out));
}

void TokenShard::verify_all() const {
  std::vector<int64_t> tokens;
  for (int64_t begin = 0; begin < num_tokens(); begin += kReadAtOnce) {
    const Range part{begin, std::min(begin + kReadAtOnce, num_tokens())};
    tokens.resize(static_cast<size_t>(part.size()));
    read_tokens(part, tokens);
  }
  if (header_.kind == ShardKind::kSft) verify_mask();
}

void TokenShard::verify_mask() const {
  const auto refuse = [&](int64_t document, const std::string& problem) {
    throw DataError(
        concat(path().string(), ": the target mask of document ", document, ' ', problem),
        "make the shard again as datasets/FORMAT.md describes");
  };
  int64_t num_targets = 0;
  TargetMaskReader masks(*this);
  for (int64_t first = 0; first < num_documents(); first += kDocumentsAtOnce) {
    const int64_t end = std::min(first + kDocumentsAtOnce, num_documents());
    const auto offsets = documents_.offsets({first, end + 1});
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      const int64_t index = first + static_cast<int64_t>(i);
      const auto mask = masks.read({offsets[i], offsets[i + 1]});
      if (*std::max_element(mask.begin(), mask.end()) > 1) refuse(index, "is not made of 0 and 1");
      if (mask.front() != 0) refuse(index, "has a target that nothing comes before");
      const auto count = std::count(mask.begin(), mask.end(), 1);
      if (count == 0) refuse(index, "has no target");
      num_targets += count;
    }
  }
  if (num_targets != header_.num_targets) {
    throw DataError(concat(path().string(), " has ", num_targets, " targets; its header says ",
                           header_.num_targets),
                    "make the shard again as datasets/FORMAT.md describes");
  }
}

std::span<const uint8_t> TargetMaskReader::read(Range tokens) {
  if (tokens.begin < window_.begin || tokens.end > window_.end) {
    const int64_t far = std::max(tokens.end, tokens.begin + kReadAtOnce);
    window_ = {tokens.begin, std::min(far, shard_.num_tokens())};
    mask_.resize(static_cast<size_t>(window_.size()));
    shard_.read_target_mask(window_, mask_);
  }
  return std::span(mask_).subspan(static_cast<size_t>(tokens.begin - window_.begin),
                                  static_cast<size_t>(tokens.size()));
}

}  // namespace temper
