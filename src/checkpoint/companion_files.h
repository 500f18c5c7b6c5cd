// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/dtype.h"
#include "io/file.h"

namespace temper {

/// The small files that go with a model's weights, byte for byte, in a fixed order: configuration,
/// tokenizer, chat templates, the code of its own that these name, licences and notices. Their
/// paths are below the folder. Throws: ModelError if one cannot be read.
std::vector<TextFile> read_companion_files(const std::filesystem::path& folder);

/// Those of them that a tokenizer is opened from, but for its chat templates.
/// Throws: ModelError if one cannot be read.
std::vector<TextFile> read_tokenizer_files(const std::filesystem::path& folder);

/// What tells people about a model. That of a base is not one of its companions: what is trained on
/// it is another model.
inline constexpr const char* kModelCard = "README.md";

/// Adds a folder's model card, if it has one. Throws: ModelError if it cannot be read.
void add_model_card(const std::filesystem::path& folder, std::vector<TextFile>& files);

/// Puts texts among the files, in place of those of the same path.
void put_texts(const std::vector<TextFile>& texts, std::vector<TextFile>& files);

/// The code of its own that a model's folder has, by name. It is copied with the folder, and never
/// run.
std::vector<std::string> own_code_in(const std::filesystem::path& folder);

/// The text of a config.json with its `dtype` or `torch_dtype`, if it has one, set to `dtype`; all
/// else stays as it is, to the last space.
std::string with_dtype(const std::string& config, DType dtype);

/// The text of a JSON object with one more member at its end; all else stays as it is. `value` is
/// JSON, and the object has a member, but none of this name.
std::string with_member(const std::string& object, const std::string& key,
                        const std::string& value);

/// The text of a JSON object with a member set to a truth value, the others in their order, laid
/// out as transformers does.
std::string with_flag(const std::string& object, const std::string& key, bool value);

/// The text of a config.json or generation_config.json with these `eos_token_id`s, laid out as
/// transformers does.
std::string with_end_tokens(const std::string& object, const std::vector<int64_t>& tokens);

/// The text of a JSON object without one of its members, the others in their order, laid out as
/// transformers does.
std::string without_member(const std::string& object, const std::string& key);

/// As transformers spells a dtype that weights are saved in: "bfloat16".
/// Throws: std::invalid_argument for a dtype that is none of these.
std::string_view torch_name(DType dtype);

/// The dtype that transformers spells so. `key` is the option that said it, for the message.
/// Throws: ConfigError.
DType dtype_named(const std::string& name, const std::string& key);

}  // namespace temper
