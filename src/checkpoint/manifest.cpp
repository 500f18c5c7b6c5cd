// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.h"

#include <algorithm>
#include <charconv>
#include <span>

#include "checkpoint/json_keys.h"
#include "core/concat.h"
#include "core/message_text.h"

namespace temper {
namespace {

constexpr Range kCounts{0, INT64_MAX};
constexpr const char* kFormat = "temper-checkpoint";
constexpr size_t kHexLength = 64;

// The manifest's own hash is taken with zeros in the place of its digits.
const std::string kZeros(kHexLength, '0');

[[noreturn]] void refuse(const std::string& name, const std::string& problem) {
  throw CheckpointError(concat(name, ' ', problem), "use another checkpoint");
}

Json to_json_value(const ManifestFile& file) {
  Json json{{"path", file.path}, {"bytes", file.bytes}};
  if (file.num_segments() > 1) {
    json["first_segment_bytes"] = file.first_segment_bytes;
    json["segment_bytes"] = file.segment_bytes;
    json["digests_sha256"] = to_hex(file.sha256);
  } else {
    json["sha256"] = to_hex(file.sha256);
  }
  return json;
}

Json to_json_value(const ManifestUnit& unit) {
  return {
      {"name", unit.name}, {"num_elements", unit.num_elements}, {"shard_size", unit.shard_size}};
}

bool is_safe(const std::string& path) {
  return !path.empty() && path.front() != '/' && path.find("..") == std::string::npos;
}

Digest read_digest(const JsonKeys& keys, const char* key) {
  const std::string text = keys.text(key);
  Digest digest{};
  bool is_digest = text.size() == kHexLength;
  for (size_t i = 0; is_digest && i < digest.size(); ++i) {
    const char* begin = text.data() + 2 * i;
    is_digest = std::from_chars(begin, begin + 2, digest[i], 16).ptr == begin + 2;
  }
  if (!is_digest) keys.refuse(key, concat("is ", quote(text), ", wanted 64 hexadecimal digits"));
  return digest;
}

void read_cut(const JsonKeys& keys, ManifestFile& file) {
  if (!keys.has("segment_bytes")) {
    file.first_segment_bytes = file.bytes;
    file.sha256 = read_digest(keys, "sha256");
    return;
  }
  file.first_segment_bytes = keys.integer("first_segment_bytes", {1, INT64_MAX});
  file.segment_bytes = keys.integer("segment_bytes", {1, INT64_MAX});
  file.sha256 = read_digest(keys, "digests_sha256");
  if (file.first_segment_bytes >= file.bytes) {
    keys.refuse("first_segment_bytes", "leaves nothing for a second segment");
  }
}

// Version 1 had offset, length and digest of each segment in the manifest.
void read_segments(const JsonKeys& keys, ManifestFile& file, std::vector<Digest>& digests,
                   std::vector<std::string>& problems) {
  std::vector<Digest> own;
  int64_t end = 0;
  const Json none = Json::array();
  for (const Json& part : keys.has("segments") ? keys["segments"] : none) {
    const JsonKeys segment(part, "a segment's ", problems);
    const int64_t fewest = own.empty() ? 0 : 1;
    const int64_t bytes = segment.integer("bytes", {fewest, INT64_MAX - end});
    if (segment.integer("offset", kCounts) != end) segment.refuse("offset", "leaves a gap");
    if (own.empty()) file.first_segment_bytes = bytes;
    if (own.size() == 1) file.segment_bytes = bytes;
    own.push_back(read_digest(segment, "sha256"));
    end += bytes;
    const Range expected = file.segment(std::ssize(own) - 1);
    if (expected.end != end) segment.refuse("bytes", concat("is ", bytes, ", unlike the others"));
  }
  if (own.empty() || end != file.bytes) keys.refuse("segments", "do not cover the file");
  if (own.size() == 1) {
    file.sha256 = own.front();
  } else {
    file.sha256 = hash_of_digests(own.data(), std::ssize(own));
    digests.insert(digests.end(), own.begin(), own.end());
  }
}

ManifestUnit read_unit(const Json& json, std::vector<std::string>& problems) {
  const JsonKeys keys(json, "a unit's ", problems);
  return {keys.text("name"), keys.integer("num_elements", kCounts),
          keys.integer("shard_size", kCounts)};
}

// The file's name and length, which both versions have.
ManifestFile read_head(const JsonKeys& keys) {
  ManifestFile file;
  file.path = keys.text("path");
  if (!is_safe(file.path)) keys.refuse("path", concat("is ", quote(file.path)));
  file.bytes = keys.integer("bytes", kCounts);
  return file;
}

Manifest read_head(const JsonKeys& keys, std::vector<std::string>& problems) {
  Manifest manifest;
  manifest.step = keys.integer("step", kCounts);
  manifest.world_size = keys.integer("world_size", kCounts);
  manifest.model_dtype = keys.text("model_dtype");
  for (const char* list : {"units", "files"}) {
    if (!keys.has(list) || !keys[list].is_array()) keys.refuse(list, "is not a list");
  }
  if (!problems.empty()) return manifest;
  for (const Json& unit : keys["units"]) manifest.units.push_back(read_unit(unit, problems));
  if (keys.has("data")) manifest.data = read_training_data(keys["data"], problems);
  return manifest;
}

void require_own_hash(std::string text, const std::string& found, const std::string& name) {
  const size_t at = found.size() == kHexLength ? text.find('"' + found + '"') : std::string::npos;
  if (at == std::string::npos) refuse(name, "has no hash of its own");
  text.replace(at + 1, kHexLength, kZeros);
  if (to_hex(sha256(text)) != found) refuse(name, "was altered: its own hash does not fit");
}

}  // namespace

int64_t ManifestFile::num_segments() const {
  const int64_t later = bytes - first_segment_bytes;
  return later <= 0 || segment_bytes <= 0 ? 1 : 2 + (later - 1) / segment_bytes;
}

Range ManifestFile::segment(int64_t index) const {
  if (index == 0) return {0, first_segment_bytes};
  const int64_t begin = first_segment_bytes + (index - 1) * segment_bytes;
  return {begin, std::min(begin + segment_bytes, bytes)};
}

int64_t Manifest::bytes() const {
  int64_t sum = 0;
  for (const ManifestFile& file : files) sum += file.bytes;
  return sum;
}

int64_t Manifest::num_digests() const {
  int64_t sum = 0;
  for (const ManifestFile& file : files) {
    if (file.num_segments() > 1) sum += file.num_segments();
  }
  return sum;
}

std::string to_json(const Manifest& manifest) {
  Json json;
  json["format"] = kFormat;
  json["format_version"] = Manifest::kFormatVersion;
  json["manifest_sha256"] = kZeros;
  json["step"] = manifest.step;
  json["world_size"] = manifest.world_size;
  json["model_dtype"] = manifest.model_dtype;
  for (const ManifestUnit& unit : manifest.units) json["units"].push_back(to_json_value(unit));
  for (const ManifestFile& file : manifest.files) json["files"].push_back(to_json_value(file));
  if (manifest.data) json["data"] = to_json_value(*manifest.data);
  std::string text = json.dump(1) + '\n';
  text.replace(text.find(kZeros), kHexLength, to_hex(sha256(text)));
  return text;
}

Manifest parse_manifest(std::string_view text, const std::string& name,
                        std::vector<Digest>* digests) {
  const Json json = parse_json(text, {name, FilePurpose::kCheckpoint});
  std::vector<std::string> problems;
  const JsonKeys keys(json, "", problems);
  if (!keys.has("format") || keys["format"] != kFormat) refuse(name, "is no temper checkpoint's");
  const int64_t version = keys.integer("format_version", kCounts);
  if (version > Manifest::kFormatVersion) {
    throw NewerFormatError(concat(name, " has format version ", version,
                                  "; this temper reads up to ", Manifest::kFormatVersion),
                           "use the temper that wrote it, or a newer one");
  }
  require_own_hash(std::string(text), keys.text("manifest_sha256"), name);
  Manifest manifest = read_head(keys, problems);
  if (!problems.empty()) refuse(name + ":", problems.front());
  manifest.format_version = version;
  std::vector<Digest> old_digests;
  for (const Json& one : keys["files"]) {
    const JsonKeys file_keys(one, "a file's ", problems);
    ManifestFile& file = manifest.files.emplace_back(read_head(file_keys));
    if (version == 1) {
      read_segments(file_keys, file, old_digests, problems);
    } else {
      read_cut(file_keys, file);
    }
  }
  if (!problems.empty()) refuse(name + ":", problems.front());
  if (digests != nullptr) *digests = std::move(old_digests);
  return manifest;
}

Digest hash_of_digests(const Digest* begin, int64_t num_digests) {
  return sha256(std::as_bytes(std::span(begin, static_cast<size_t>(num_digests))));
}

}  // namespace temper
