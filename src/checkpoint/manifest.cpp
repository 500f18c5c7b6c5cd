// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.h"

#include <algorithm>

#include "checkpoint/json_keys.h"
#include "core/concat.h"
#include "core/hash.h"

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
  Json segments = Json::array();
  for (const Segment& segment : file.segments) {
    segments.push_back(
        {{"offset", segment.offset}, {"bytes", segment.bytes}, {"sha256", segment.sha256}});
  }
  return {{"path", file.path}, {"bytes", file.bytes()}, {"segments", std::move(segments)}};
}

Json to_json_value(const ManifestUnit& unit) {
  return {
      {"name", unit.name}, {"num_elements", unit.num_elements}, {"shard_size", unit.shard_size}};
}

bool is_safe(const std::string& path) {
  return !path.empty() && path.front() != '/' && path.find("..") == std::string::npos;
}

ManifestFile read_file(const Json& json, std::vector<std::string>& problems) {
  const JsonKeys keys(json, "a file's ", problems);
  ManifestFile file;
  file.path = keys.text("path");
  if (!is_safe(file.path)) keys.refuse("path", concat("is \"", file.path, '"'));
  const int64_t bytes = keys.integer("bytes", kCounts);
  int64_t end = 0;
  if (keys.has("segments")) {
    for (const Json& part : keys["segments"]) {
      const JsonKeys segment(part, "a segment's ", problems);
      file.segments.push_back({segment.integer("offset", kCounts),
                               segment.integer("bytes", kCounts), segment.text("sha256")});
      if (file.segments.back().offset != end) segment.refuse("offset", "leaves a gap");
      end += file.segments.back().bytes;
    }
  }
  if (file.segments.empty() || end != bytes) keys.refuse("segments", "do not cover the file");
  return file;
}

ManifestUnit read_unit(const Json& json, std::vector<std::string>& problems) {
  const JsonKeys keys(json, "a unit's ", problems);
  return {keys.text("name"), keys.integer("num_elements", kCounts),
          keys.integer("shard_size", kCounts)};
}

Manifest read_manifest(const JsonKeys& keys, std::vector<std::string>& problems) {
  Manifest manifest;
  manifest.step = keys.integer("step", kCounts);
  manifest.world_size = keys.integer("world_size", kCounts);
  manifest.model_dtype = keys.text("model_dtype");
  for (const char* list : {"units", "files"}) {
    if (!keys.has(list) || !keys[list].is_array()) keys.refuse(list, "is not a list");
  }
  if (!problems.empty()) return manifest;
  for (const Json& unit : keys["units"]) manifest.units.push_back(read_unit(unit, problems));
  for (const Json& file : keys["files"]) manifest.files.push_back(read_file(file, problems));
  return manifest;
}

void require_own_hash(std::string text, const std::string& found, const std::string& name) {
  const size_t at = found.size() == kHexLength ? text.find('"' + found + '"') : std::string::npos;
  if (at == std::string::npos) refuse(name, "has no hash of its own");
  text.replace(at + 1, kHexLength, kZeros);
  if (to_hex(sha256(text)) != found) refuse(name, "was altered: its own hash does not fit");
}

}  // namespace

int64_t Manifest::bytes() const {
  int64_t sum = 0;
  for (const ManifestFile& file : files) sum += file.bytes();
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
  std::string text = json.dump(1) + '\n';
  text.replace(text.find(kZeros), kHexLength, to_hex(sha256(text)));
  return text;
}

Manifest parse_manifest(std::string_view text, const std::string& name) {
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
  Manifest manifest = read_manifest(keys, problems);
  if (!problems.empty()) refuse(name + ":", problems.front());
  return manifest;
}

}  // namespace temper
