// SPDX-License-Identifier: Apache-2.0
#include "data/corpus.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "data/shard_checks.h"

namespace temper {
namespace {

// A pattern that is meant for one side of a split, such as `shards/*.h5`, may match both.
void require_same_side(const std::string& corpus, const TokenShard& first,
                       const TokenShard& other) {
  const std::string& one = first.header().side;
  const std::string& two = other.header().side;
  if (one.empty() || two.empty() || one == two) return;
  throw DataError(concat(corpus, " matches both sides of a split: ", first.path().string(), " (",
                         one, ") and ", other.path().string(), " (", two, ')'),
                  "write a pattern that matches one of them, such as train*.h5");
}

void require_like(const TokenShard& first, const TokenShard& other) {
  std::string differences;
  const auto compare = [&](const char* what, const auto& wanted, const auto& found) {
    if (wanted == found) return;
    differences += concat(differences.empty() ? "" : "; ", what, " is ", found, ", not ", wanted);
  };
  const ShardHeader& a = first.header();
  const ShardHeader& b = other.header();
  compare("its kind", to_string(a.kind), to_string(b.kind));
  compare("its tokenizer", shortened(a.tokenizer_sha256), shortened(b.tokenizer_sha256));
  compare("its vocabulary", a.vocab_size, b.vocab_size);
  compare("its end token", a.eos_token_id, b.eos_token_id);
  compare("its chat template", shortened(a.chat_template_sha256),
          shortened(b.chat_template_sha256));
  compare("its template for tools", shortened(a.tool_use_template_sha256),
          shortened(b.tool_use_template_sha256));
  if (differences.empty()) return;
  throw DataError(concat(other.path().string(), " does not belong to one corpus with ",
                         first.path().string(), ": ", differences),
                  "make all parts by one recipe, or list what differs as another source");
}

}  // namespace

Corpus::Corpus(const ShardSet& set, const OnceForAll& once) : name_(set.name) {
  if (set.files.empty()) throw std::invalid_argument("a corpus needs a file");
  std::map<std::string, std::filesystem::path> paths;  // By fingerprint.
  int64_t first_token = 0;
  int64_t first_document = 0;
  for (const std::filesystem::path& file : set.files) {
    parts_.push_back({std::make_unique<const TokenShard>(file, once), first_token, first_document});
    const TokenShard& shard = *parts_.back().shard;
    require_same_side(name_, first(), shard);
    require_like(first(), shard);
    const auto [other, is_new] = paths.emplace(shard.header().fingerprint, file);
    if (!is_new) {
      throw DataError(concat(name_, " has the same documents twice: ", file.string(),
                             " has the content of ", other->second.string()),
                      "keep one of them");
    }
    first_token += shard.num_tokens();
    first_document += shard.num_documents();
  }
}

int64_t Corpus::num_tokens() const {
  return parts_.back().first_token + parts_.back().shard->num_tokens();
}

int64_t Corpus::num_documents() const {
  return parts_.back().first_document + parts_.back().shard->num_documents();
}

int64_t Corpus::num_targets() const {
  int64_t sum = 0;
  for (const Part& part : parts_) sum += part.shard->header().num_targets;
  return sum;
}

std::string Corpus::fingerprint() const {
  if (parts_.size() == 1) return first().header().fingerprint;
  std::string all;
  for (const Part& part : parts_) all += part.shard->header().fingerprint + '\n';
  return to_hex(sha256(all));
}

const Corpus::Part& Corpus::part_with_document(int64_t document) const {
  const auto above = std::ranges::upper_bound(parts_, document, {}, &Part::first_document);
  return *(above - 1);
}

int64_t Corpus::document_of(int64_t token) const {
  const auto above = std::ranges::upper_bound(parts_, token, {}, &Part::first_token);
  const Part& part = *(above - 1);
  return part.first_document + part.shard->documents().document_of(token - part.first_token);
}

// `visit` is called with each part that has some of the tokens, and which of its own they are.
template <typename Visit>
void Corpus::visit_parts(Range tokens, Visit visit) const {
  auto part = std::ranges::upper_bound(parts_, tokens.begin, {}, &Part::first_token) - 1;
  for (; part != parts_.end() && part->first_token < tokens.end; ++part) {
    const int64_t begin = std::max<int64_t>(0, tokens.begin - part->first_token);
    const int64_t end = std::min(tokens.end - part->first_token, part->shard->num_tokens());
    visit(*part, Range{begin, end});
  }
}

void Corpus::read_tokens(Range tokens, std::span<int64_t> out) const {
  if (tokens.begin < 0 || tokens.end > num_tokens() ||
      tokens.size() != static_cast<int64_t>(out.size())) {
    throw std::invalid_argument(concat("no tokens [", tokens.begin, ", ", tokens.end, ") of ",
                                       num_tokens(), " for ", out.size(), " places"));
  }
  visit_parts(tokens, [&](const Part& part, Range own) {
    const auto size = static_cast<size_t>(own.size());
    part.shard->read_tokens(own, out.first(size));
    out = out.subspan(size);
  });
}

std::vector<int64_t> Corpus::offsets_in(Range tokens) const {
  std::vector<int64_t> result;
  visit_parts(tokens, [&](const Part& part, Range own) {
    for (const int64_t offset : part.shard->documents().offsets_in(own)) {
      result.push_back(part.first_token + offset);
    }
  });
  return result;
}

void Corpus::verify_all() const {
  for (const Part& part : parts_) part.shard->verify_all();
}

std::vector<NamedDocuments> Corpus::files_told_apart() const {
  std::vector<NamedDocuments> files;
  if (parts_.size() < 2) return files;
  for (const Part& part : parts_) {
    const int64_t end = part.first_document + part.shard->num_documents();
    files.push_back({part.shard->path().string(), {part.first_document, end}});
    if (is_named_as_part(part.shard->path())) return {};
  }
  return files;
}

}  // namespace temper
