// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/loaded_model.h"
#include "app/request_lines.h"

namespace temper {

/// The answers to requests as they come, each a JSON object. They are kept in `OUTPUT.partial`, a
/// line each, so that what a killed job has answered is not answered again; OUTPUT is there once it
/// is whole. Local.
///
/// Throws: DataError if a file cannot be read or written.
class AnswerFile {
 public:
  /// What tells how answers came to be, or whether one may be taken over.
  struct Rules {
    Json origin;  ///< An object: all that answers depend on.
    std::function<bool(size_t request, const Json& answer)> is_whole;
  };

  /// `output` may be empty: then nothing is kept.
  /// Throws: DataError also if OUTPUT is there, or begun with another origin.
  AnswerFile(std::filesystem::path output, size_t num_requests, const Rules& rules);

  bool has(size_t request) const { return !lines_[request].empty(); }

  void add(size_t request, Json answer);

  /// Writes a line of each answer, in the order of the requests: what `line_of` makes of it, which
  /// gets the id of its request. Into OUTPUT, all of it or nothing, and what was kept is removed;
  /// or on standard output.
  void publish(const std::vector<Json>& ids,
               const std::function<Json(size_t request, Json answer)>& line_of) const;

 private:
  void require_same_origin(const std::string& line, const Json& origin) const;
  void take_over(const Rules& rules);

  std::filesystem::path output_, partial_;
  std::vector<std::string> lines_;  // [request], each ends with a newline; empty: not answered.
  std::ofstream file_;
};

/// Writes to standard output at once. Throws: DataError if that cannot be.
void print(const std::string& text);

/// What the answers of a model depend on beside the requests, for `AnswerFile`.
Json origin_of(const LoadedModel& model, const RequestList& requests, const char* format);

/// Requests that have no answer yet, of which rank 0 knows. Collective: all ranks.
std::vector<size_t> open_requests(size_t num_requests, const std::optional<AnswerFile>& answers,
                                  Communicator& ranks);

}  // namespace temper
