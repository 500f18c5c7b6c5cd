// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/run_config.h"
#include "config/section.h"
#include "config/warnings.h"

/// Which values the keys of a configuration take.
namespace temper::rules {

constexpr int64_t kMostSteps =
    1'000'000'000'000;  // Arbitrary; products with batches stay in range.
constexpr int64_t kMostIntegers = std::numeric_limits<int64_t>::max();
constexpr double kNoMost = std::numeric_limits<double>::max();

constexpr Rule<int64_t> kStepsOrNone{0, kMostSteps, "a whole number, 0 or more"};
constexpr Rule<int64_t> kOneOrMore{1, kMostSteps, "a whole number, 1 or more"};
constexpr Rule<int64_t> kRows{1, 1'000'000, "a whole number from 1 to 1000000"};
constexpr Rule<int64_t> kTokens{2, 16'777'216, "a whole number from 2 to 16777216"};
constexpr Rule<int64_t> kTokensOrAll{0, 1'000'000'000'000'000,
                                     "a whole number of tokens, or 0 for all"};
constexpr Rule<int64_t> kThreads{1, 1024, "a whole number from 1 to 1024"};
constexpr Rule<int64_t> kThreadsOrAuto{0, 1024, "a whole number from 1 to 1024, or 0 to choose"};
constexpr Rule<int64_t> kSeed{0, kMostIntegers, "a whole number, 0 or more"};
constexpr Rule<int64_t> kIterations{0, 1000,
                                    "a whole number from 1 to 1000, or 0 for the exact way"};
constexpr Rule<int64_t> kRank{1, 65'536, "a whole number from 1 to 65536"};
constexpr Rule<int64_t> kWidthOrNone{0, 1'048'576, "a width, or 0 for none"};
constexpr Rule<int64_t> kVirtualTokens{1, 65'536, "a whole number from 1 to 65536"};
constexpr Rule<int64_t> kTokenId{0, 1'000'000'000, "the id of a token"};
constexpr Rule<int64_t> kLayer{0, 1'000'000, "the number of a block, from 0"};
constexpr Rule<int64_t> kStage{0, 3, "0, 1, 2 or 3"};

constexpr Rule<double> kReduction{BottleneckOptions::kLowestReduction, kNoMost,
                                  "a number from 0.015625 (1/64) on"};
constexpr Rule<double> kPositive{
    .least = 0.0, .most = kNoMost, .expected = "a positive number", .is_above_least = true};
constexpr Rule<double> kEpochs{0.0, 1e6, "a number from 0 to 1000000"};
constexpr Rule<double> kPasses{.least = 0.0,
                               .most = 1e6,
                               .expected = "a positive number, at most 1000000",
                               .is_above_least = true};
constexpr Rule<double> kNotNegative{0.0, kNoMost, "zero or a positive number"};
constexpr Rule<double> kShare{0.0, 1.0, "a number from 0 to 1"};
constexpr Rule<double> kShareOfRate{
    .least = 0.0, .most = 1.0, .expected = "a number above 0, at most 1", .is_above_least = true};
constexpr Rule<double> kBelowOne{
    .least = 0.0, .most = 1.0, .expected = "a number from 0 to below 1", .is_below_most = true};

inline bool is_path(const std::string& text) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  return !text.empty() && text.front() != '~' && text.find('$') == std::string::npos &&
         std::none_of(text.begin(), text.end(), is_control);
}

inline bool is_name(const std::string& text) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), is_plain);
}

// What is_path, is_path_or_nothing and is_some accept.
inline constexpr const char* kPathPattern = R"(^[^~$\x00-\x1f\x7f][^$\x00-\x1f\x7f]*$)";
inline constexpr const char* kPathOrNonePattern = R"(^([^~$\x00-\x1f\x7f][^$\x00-\x1f\x7f]*)?$)";
inline constexpr const char* kSomePattern = R"([\s\S])";

inline bool is_path_or_nothing(const std::string& text) { return text.empty() || is_path(text); }
inline bool is_some(const std::string& text) { return !text.empty(); }

inline TextRule one_of(std::vector<std::string> names) {
  std::string expected = "one of: " + joined(names);
  return {.expected = std::move(expected), .names = std::move(names)};
}

inline TextRule one_of_the_warnings() {
  std::vector<std::string> names;
  for (const WarningKind& kind : kWarningKinds) names.emplace_back(kind.name);
  return one_of(std::move(names));
}

// ~ and $ would have been taken literally, which nobody means.
inline const TextRule kFolder{is_path, "the path of a folder, written out (no ~, no $)",
                              kPathPattern};
inline const TextRule kShard{is_path, "the path of a token shard, written out (no ~, no $)",
                             kPathPattern};
inline const TextRule kFolderOrNone{
    is_path_or_nothing, "the path of a folder, written out (no ~, no $), or \"\" for none",
    kPathOrNonePattern};
inline const TextRule kFileOrNone{is_path_or_nothing,
                                  "the path of a file, written out (no ~, no $), or \"\" for none",
                                  kPathOrNonePattern};
inline const TextRule kAnyText{[](const std::string&) { return true; }, "a text"};
inline const TextRule kSomeText{is_some, "a regular expression for the end of a module's path",
                                kSomePattern};
inline const TextRule kParameters{
    is_some,
    "embedding, head, norms, biases, blocks such as layers.0-3, or a regular expression for the "
    "end of a module's path",
    kSomePattern};
inline const TextRule kModule{is_name, "a module's name such as q_proj, or all-linear",
                              "^[A-Za-z0-9_.-]+$"};
inline const TextRule kName{is_name, "a name of letters, digits, '-', '_' and '.'",
                            "^[A-Za-z0-9_.-]+$"};
inline const TextRule kNameOrNone{
    [](const std::string& text) { return text.empty() || is_name(text); },
    "the name of a hold-out, or \"\" for none", "^[A-Za-z0-9_.-]*$"};
inline const TextRule kStepRange{
    [](const std::string& text) { return text.empty() || steps_in(text).has_value(); },
    "a step or a range of steps such as 10-12, or \"\" for none",
    "^([1-9][0-9]*(-[1-9][0-9]*)?)?$"};
inline const TextRule kAdapterName{
    [](const std::string& text) { return is_name(text) && text.find('.') == std::string::npos; },
    "a name of letters, digits, '-' and '_'", "^[A-Za-z0-9_-]+$"};
inline const TextRule kCheckpointOrNone{
    is_path_or_nothing,
    "the path of a checkpoint's folder, written out (no ~, no $), or \"\" for none",
    kPathOrNonePattern};
inline const TextRule kResume{is_path, "auto, never, or the path of a checkpoint folder",
                              kPathPattern};
inline const TextRule kAspect = one_of({kChangeableAspects.begin(), kChangeableAspects.end()});
inline const TextRule kSavedDtype = one_of({"auto", "float32", "bfloat16", "float16"});
inline const TextRule kWarning = one_of_the_warnings();

using Dtype = ModelOptions::Dtype;
using Device = ModelOptions::Device;
using Shape = ScheduleOptions::Shape;

constexpr Choice<Dtype> kDtypes[] = {
    {"auto", Dtype::kAuto}, {"float32", Dtype::kFloat32}, {"bfloat16", Dtype::kBfloat16}};
constexpr Choice<ModelOptions::EndOfTurn> kTurnEnds[] = {{"keep", ModelOptions::EndOfTurn::kKeep},
                                                         {"add", ModelOptions::EndOfTurn::kAdd}};
constexpr Choice<Device> kDevices[] = {{"cpu", Device::kCpu}, {"cuda", Device::kCuda}};
constexpr Choice<DataOptions::ChatTemplate> kChatTemplates[] = {
    {"model", DataOptions::ChatTemplate::kModel},
    {"shard", DataOptions::ChatTemplate::kShard},
    {"any", DataOptions::ChatTemplate::kAny}};
constexpr Choice<Shape> kShapes[] = {{"constant", Shape::kConstant},
                                     {"linear", Shape::kLinear},
                                     {"cosine", Shape::kCosine},
                                     {"wsd", Shape::kWsd}};
constexpr Choice<MethodOptions::Kind> kMethods[] = {
    {"full", MethodOptions::Kind::kFull},     {"lora", MethodOptions::Kind::kLora},
    {"qlora", MethodOptions::Kind::kQlora},   {"prefix", MethodOptions::Kind::kPrefix},
    {"prompt", MethodOptions::Kind::kPrompt}, {"bottleneck", MethodOptions::Kind::kBottleneck}};
constexpr Choice<LoraOptions::Init> kLoraInits[] = {{"kaiming", LoraOptions::Init::kKaiming},
                                                    {"gaussian", LoraOptions::Init::kGaussian},
                                                    {"pissa", LoraOptions::Init::kPrincipal}};
constexpr Choice<FourBitKind> kFourBitKinds[] = {{"nf4", FourBitKind::kNf4},
                                                 {"fp4", FourBitKind::kFp4}};
constexpr Choice<PromptOptions::Init> kPromptInits[] = {
    {"normal", PromptOptions::Init::kNormal},
    {"vocabulary", PromptOptions::Init::kVocabulary},
    {"tokens", PromptOptions::Init::kTokens}};
constexpr Choice<BottleneckOptions::Placement> kPlacements[] = {
    {"houlsby", BottleneckOptions::Placement::kHoulsby},
    {"pfeiffer", BottleneckOptions::Placement::kPfeiffer}};
constexpr Choice<std::optional<ActivationFunction>> kActivations[] = {
    {"auto", std::nullopt},
    {"relu", ActivationFunction::kRelu},
    {"swish", ActivationFunction::kSwish},
    {"silu", ActivationFunction::kSwish},
    {"gelu", ActivationFunction::kGelu},
    {"gelu_new", ActivationFunction::kGeluNew},
    {"quick_gelu", ActivationFunction::kQuickGelu}};
constexpr Choice<MomentDtype> kMomentDtypes[] = {{"float32", MomentDtype::kFloat32},
                                                 {"bfloat16", MomentDtype::kBfloat16},
                                                 {"int8", MomentDtype::kInt8}};
constexpr Choice<Reduction> kReductions[] = {{"exact", Reduction::kExact},
                                             {"fast", Reduction::kFast}};

constexpr Choice<HoldOutOptions::Role> kRoles[] = {{"any", HoldOutOptions::Role::kAny},
                                                   {"domain", HoldOutOptions::Role::kDomain},
                                                   {"task", HoldOutOptions::Role::kTask},
                                                   {"general", HoldOutOptions::Role::kGeneral}};
constexpr Choice<bool> kPublished[] = {{"newest", false}, {"best", true}};

}  // namespace temper::rules
