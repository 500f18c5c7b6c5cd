// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace temper {

/// How many bytes of UTF-8 text each token stands for, by a model folder's tokenizer.json: of the
/// text as the tokenizer gives it back. Tokens that are no text, those it calls special, have none.
///
/// Empty if the file does not tell: its vocabulary is neither of bytes (ByteLevel) nor of pieces
/// with "▁" for a space (Metaspace, SentencePiece).
/// Shapes: result [vocab_size].
/// Throws: ModelError if the file cannot be read or is no JSON.
std::vector<int64_t> read_token_bytes(const std::filesystem::path& tokenizer, int64_t vocab_size);

}  // namespace temper
