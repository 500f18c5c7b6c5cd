// SPDX-License-Identifier: Apache-2.0
#include "app/processors.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <span>
#include <sstream>
#include <utility>

#include "comm/agree.h"
#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/message_text.h"

namespace temper {
namespace {

// With which the libraries choose other kernels than the processor's own.
constexpr std::array kSettings = {"ATEN_CPU_CAPABILITY",     "ONEDNN_MAX_CPU_ISA",
                                  "DNNL_MAX_CPU_ISA",        "ONEDNN_CPU_ISA_HINTS",
                                  "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR",
                                  "MKL_DEBUG_CPU_TYPE",      "OPENBLAS_CORETYPE",
                                  "NVIDIA_TF32_OVERRIDE",    "CUBLAS_WORKSPACE_CONFIG"};

// Whose core it is, on x86-64 and on Arm.
constexpr std::array<std::string_view, 5> kIdentity = {"vendor_id", "cpu family", "model",
                                                       "CPU implementer", "CPU part"};

bool is_vector_instruction(const std::string& word) {
  constexpr std::array kBeginnings = {"sse", "avx", "fma", "amx", "sve", "sme", "asimd", "bf16"};
  return std::ranges::any_of(kBeginnings, [&](const char* one) { return word.starts_with(one); });
}

std::string to_text(const Processor& processor) {
  std::string text = processor.name;
  for (const std::string& trait : processor.traits) text += concat('\n', trait);
  return text;
}

Processor from_text(const std::string& text) {
  Processor processor;
  std::istringstream lines(text);
  std::getline(lines, processor.name);
  for (std::string line; std::getline(lines, line);) processor.traits.insert(line);
  return processor;
}

Processor to_processor(const GpuKind& gpu) {
  return {.name = gpu.name,
          .traits = {concat("compute capability=", gpu.capability),
                     concat("multiprocessors=", gpu.num_multiprocessors)}};
}

// What `a` has and `b` has not.
std::string only_in(const Processor& a, const Processor& b) {
  std::string found;
  for (const std::string& trait : a.traits) {
    if (!b.traits.contains(trait)) found += concat(found.empty() ? "" : " ", trait);
  }
  return found.empty() ? "" : concat(" with ", quote(found));
}

// Those of two ranks, on all ranks.
std::pair<Processor, Processor> fetch(Communicator& ranks, const Disagreement& found,
                                      const Processor& own) {
  using Text = std::array<char, 1024>;
  Text text{};
  to_text(own).copy(text.data(), text.size() - 1);
  std::vector<Text> all(static_cast<size_t>(ranks.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(text)), std::as_writable_bytes(std::span(all)));
  return {from_text(all.at(found.odd).data()), from_text(all.at(found.usual).data())};
}

std::string describe(const Disagreement& found, const std::vector<std::string>& hosts,
                     const std::pair<Processor, Processor>& processors) {
  const auto& [odd, usual] = processors;
  return concat(place_of(found.odd, hosts), " has another kind of processor, ", quote(odd.name),
                only_in(odd, usual), ", than ", place_of(found.usual, hosts), ", ",
                quote(usual.name), only_in(usual, odd), ", and so have ", found.num_odd - 1,
                " more of ", hosts.size(), " ranks");
}

void require_one_kind(Communicator& ranks, const std::vector<std::string>& hosts,
                      const RunConfig& config, const Processor& own) {
  const auto found = find_disagreement(ranks, sha256(to_text(own)));
  if (!found) return;
  const std::string problem = describe(*found, hosts, fetch(ranks, *found, own));
  if (config.parallel.reduction == Reduction::kFast) {
    log_event(concat("warning=\"", problem, ": results depend on who computes what\""));
    return;
  }
  throw LaunchError(
      concat(problem, ": the bits of the result would depend on it"),
      "ask Slurm for nodes of one kind, such as --constraint in TEMPER_SBATCH_OPTIONS, give all "
      "ranks one environment, or set parallel.reduction to fast at a stage below 2");
}

}  // namespace

Processor parse_processor(std::string_view cpuinfo) {
  Processor processor;
  std::istringstream lines{std::string(cpuinfo)};
  for (std::string line; std::getline(lines, line) && !line.empty();) {  // Of the first processor.
    const size_t colon = std::min(line.find(':'), line.size());
    const std::string key = line.substr(0, line.find_last_not_of("\t :", colon) + 1);
    const std::string value = line.substr(std::min(colon + 2, line.size()));
    if (key == "model name") processor.name = value;
    if (std::ranges::find(kIdentity, key) != kIdentity.end()) {
      processor.traits.insert(concat(key, '=', value));
    }
    if (key != "flags" && key != "Features") continue;
    std::istringstream words(value);
    for (std::string word; words >> word;) {
      if (is_vector_instruction(word)) processor.traits.insert(word);
    }
  }
  return processor;
}

Processor own_processor(const ModelOptions& options, const std::optional<GpuKind>& gpu) {
  std::ifstream file("/proc/cpuinfo");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  Processor processor = gpu ? to_processor(*gpu) : parse_processor(text);
  for (const char* name : kSettings) {
    const char* value = std::getenv(name);
    if (value != nullptr) processor.traits.insert(concat(name, '=', value));
  }
  processor.dtype = compute_dtype_of(options);
  return processor;
}

ComputeDtype agree_on_dtype(Communicator& ranks, const std::vector<std::string>& hosts,
                            const RunConfig& config, const Processor& own) {
  require_one_kind(ranks, hosts, config, own);
  return all_of(ranks, own.dtype == ComputeDtype::kBfloat16) ? ComputeDtype::kBfloat16
                                                             : ComputeDtype::kFloat32;
}

}  // namespace temper
