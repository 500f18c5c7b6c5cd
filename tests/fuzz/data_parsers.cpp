// SPDX-License-Identifier: Apache-2.0
#include <chrono>

#include "checkpoint/manifest.h"
#include "checkpoint/run_state.h"
#include "checkpoint/segments.h"
#include "core/hash.h"
#include "fuzz/parsers.h"
#include "io/lock_file.h"
#include "io/safetensors_bytes.h"
#include "io/safetensors_folder.h"
#include "io/shard_file.h"
#include "io/token_shard.h"
#include "train/metrics_file.h"
#include "train/run_timing.h"

namespace temper {
namespace {

// --- safetensors ---

// The last byte says how many bytes of data follow the header.
void parse_header(const std::string& bytes) {
  if (bytes.empty()) return;
  const std::string json = bytes.substr(0, bytes.size() - 1);
  const auto begin = static_cast<int64_t>(json.size()) + SafetensorsHeader::kPrefixBytes;
  const int64_t end = begin + static_cast<unsigned char>(bytes.back());
  const auto header = parse_safetensors_header(json, end, {"file", FilePurpose::kModel});
  int64_t next = begin;
  for (const SafetensorsTensor& tensor : header.tensors) {
    require(tensor.bytes.begin == next, "the tensors' data lie one behind the other");
    next = tensor.bytes.end;
  }
  require(next == end, "the tensors' data cover the file");
}

Seeds header_seeds() {
  return {
      R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}})"
      "\x1a",
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})" +
          std::string(1, '\0')};
}

// Two files with a tensor each lie beside the index.
void parse_index(const std::string& bytes) {
  static const bool is_written = [] {
    for (const std::string name : {"a", "b"}) {
      const std::string tensor = R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
      put(folder() / (name + ".safetensors"), safetensors_bytes("{\"" + name + tensor, "x"));
    }
    return true;
  }();
  require(is_written, "the files are there");
  put(folder() / "model.safetensors.index.json", bytes);
  const SafetensorsFolder tensors(folder().path());
  for (const auto& [name, place] : tensors.tensors()) {
    require(place.tensor->name == name, "a tensor has the name that the index gives it");
  }
}

Seeds index_seeds() {
  return {safetensors_index({{"a", "a.safetensors"}, {"b", "b.safetensors"}}, 2),
          R"({"metadata":{"total_size":1},"weight_map":{"a":"a.safetensors"}})"};
}

// --- a checkpoint ---

// A manifest has its own hash, which no mutation would hit: zeros stand for it.
std::string sealed(std::string text) {
  const std::string zeros(64, '0');
  const size_t at = text.find(zeros);
  if (at != std::string::npos) text.replace(at, zeros.size(), to_hex(sha256(text)));
  return text;
}

Seeds digest_seeds() { return {std::string(32, 'a') + std::string(32, 'b')}; }

void parse_manifest_text(const std::string& bytes) {
  std::vector<Digest> digests;
  const Manifest manifest = parse_manifest(sealed(bytes), "file", &digests);
  const auto num_digests = static_cast<int64_t>(digests.size());
  require(num_digests == 0 || num_digests == manifest.num_digests(), "each segment has a digest");
  const std::string written = to_json(manifest);
  require(to_json(parse_manifest(written, "file")) == written, "a manifest reads as written");
}

Seeds manifest_seeds() {
  Manifest manifest;
  manifest.step = 7;
  manifest.world_size = 2;
  manifest.model_dtype = "F32";
  manifest.units = {{"unit", 10, 5}};
  manifest.files = {
      {.path = "state.json", .bytes = 10, .first_segment_bytes = 10, .sha256 = sha256("a")},
      {.path = "model/m",
       .bytes = 9,
       .first_segment_bytes = 1,
       .segment_bytes = 4,
       .sha256 = sha256("b")},
  };
  manifest.data = TrainingData{.shards = {{"train.h5", "", "sft", "ab", 3, 30, 10},
                                          {"held.h5", "first", "pretrain", "cd", 1, 9, 8}},
                               .sources = {{"a.jsonl", "MIT", "https://some.where"}}};
  std::string text = to_json(manifest);
  const std::string member = "\"manifest_sha256\": \"";
  text.replace(text.find(member) + member.size(), 64, std::string(64, '0'));
  const std::string version_1 =
      R"({"format":"temper-checkpoint","format_version":1,"manifest_sha256":")" +
      std::string(64, '0') + R"(","step":1,"world_size":1,"model_dtype":"F32",)" +
      R"("units":[{"name":"u","num_elements":1,"shard_size":1}],)" +
      R"("files":[{"path":"state.json","bytes":8,"segments":[{"offset":0,"bytes":8,"sha256":")" +
      std::string(64, 'a') + R"("}]}]})";
  return {text, version_1};
}

void parse_state(const std::string& bytes) {
  const std::string written = to_json(parse_run_state(bytes, "file"));
  require(to_json(parse_run_state(written, "file")) == written, "a state reads as written");
}

Seeds state_seeds() {
  return {to_json(RunState{.step = 3, .trajectory = "t", .config_yaml = "a: 1\n"})};
}

Manifest manifest_of_segments(const std::string& digests) {
  Manifest manifest = parse_manifest(sealed(manifest_seeds().front()), "seed");
  const int64_t size = std::ssize(digests);
  manifest.files = {
      {.path = Manifest::kDigestsName,
       .bytes = size,
       .first_segment_bytes = size,
       .sha256 = sha256(digests)},
      {.path = "model/m",
       .bytes = 9,
       .first_segment_bytes = 5,
       .segment_bytes = 4,
       .sha256 = hash_of_digests(reinterpret_cast<const Digest*>(digests.data()), 2)},
  };
  return manifest;
}

// A file's digests, for a manifest of the right ones.
void parse_digests(const std::string& bytes) {
  static const std::string right = digest_seeds().front();
  std::filesystem::create_directories(folder() / "step");
  put(folder() / "step/MANIFEST.json", to_json(manifest_of_segments(right)));
  put(folder() / "step/digests.bin", bytes);
  read_manifest(folder() / "step", VerifiedPart::kWhole, [](const Manifest&) {});
  require(bytes.substr(0, right.size()) == right,
          "only digests that have the manifest's hash are taken");
}

// --- a run's other files ---

void parse_lock(const std::string& bytes) {
  using std::chrono::milliseconds;
  const LockFile lock(put(folder() / "lock.json", bytes), "me", {milliseconds(4), milliseconds(4)});
}

Seeds lock_seeds() {
  std::string text;
  {
    const LockFile lock(folder() / "lock.json", "me");
    text = content_of(folder() / "lock.json");
  }
  std::string without = text;
  without.replace(without.find("\"process\""), 9, "\"other\"");
  return {text, without, "{\"process\":" + std::string(9000, '[') + std::string(9000, ']') + "}"};
}

void parse_timing(const std::string& bytes) {
  const auto timing = parse_run_timing(bytes);
  if (!timing) return;
  const std::string written = to_json(*timing);
  require(to_json(parse_run_timing(written).value()) == written, "a timing reads as written");
}

Seeds timing_seeds() {
  return {to_json(RunTiming{{2, 8}, 1000, 0.5, 0.25}),
          R"({"checkpoint_bytes":1e300,"num_nodes":1,"num_ranks":1,"save_seconds":1,)"
          R"("step_seconds":1})"};
}

void parse_metrics(const std::string& bytes) {
  const auto path = put(folder() / "metrics.jsonl", bytes);
  MetricsFile(path, 3);
  const std::string kept = content_of(path);
  MetricsFile(path, 3);
  require(content_of(path) == kept, "what is kept is kept again");
}

Seeds metrics_seeds() {
  return {R"({"kind":"step","step":3,"loss":null})"
          "\n"
          R"({"kind":"evaluation","step":3,"name":"a","loss":2.5})"
          "\n"
          R"({"kind":"step","step":4,"loss":1.5})"
          "\n",
          "{\"step\":" + std::string(9000, '[') + std::string(9000, ']') + "}\n"};
}

// --- token shards ---

void parse_shard(const std::string& bytes) {
  TokenShard(put(folder() / "shard.h5", bytes)).verify_all();
}

Seeds shard_seeds() {
  const std::filesystem::path path = folder() / "seed.h5";
  return {content_of(write_shard(path, counting_documents(4, 6))),
          content_of(write_shard(path, counting_conversations(4, 6)))};
}

}  // namespace

std::vector<Parser> data_parsers() {
  return {
      {"safetensors_header", parse_header, header_seeds},
      {"safetensors_index", parse_index, index_seeds},
      {"manifest", parse_manifest_text, manifest_seeds},
      {"digests", parse_digests, digest_seeds},
      {"run_state", parse_state, state_seeds},
      {"lock", parse_lock, lock_seeds},
      {"timing", parse_timing, timing_seeds},
      {"metrics", parse_metrics, metrics_seeds},
      {"shard", parse_shard, shard_seeds},
  };
}

}  // namespace temper
