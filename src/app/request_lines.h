// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "comm/mpi_session.h"
#include "core/hash.h"
#include "io/json.h"
#include "train/scoring.h"

namespace temper {

/// A line of requests to `temper score` or `temper generate`: a JSON object. Its functions throw
/// DataError, which names the line.
struct RequestLine {
  std::string place;  ///< "requests.jsonl, line 3"
  Json request;
  const char* form;  ///< How a line should look: a remedy.

  [[noreturn]] void refuse(const std::string& problem, const std::string& remedy) const;

  /// Beside "id", which any request may have.
  void require_keys(std::initializer_list<std::string_view> known) const;

  /// Its own, a string or a whole number, or `number` if it has none.
  Json id(size_t number) const;

  /// A list of ids below `vocab_size`, which must be there.
  Tokens tokens(const char* key, int64_t vocab_size) const;
};

/// Throws: DataError if the text is no JSON object.
RequestLine parse_request_line(const std::string& text, std::string place, const char* form);

/// What all kinds of requests have.
struct RequestList {
  std::vector<Json> ids;  ///< [request]; a number from 0 where it has none of its own.
  Digest digest;          ///< Of the file.
};

/// Hands over the requests of a file of JSON lines, in order; empty lines are passed over. Local.
/// Throws: DataError, naming the line, for one that is no request, an id that came before, or a
/// file without requests; what `take` throws.
RequestList read_request_lines(const std::string& path, const char* form,
                               const std::function<void(const RequestLine&)>& take);

/// Reads the same file of requests on all ranks by `read`, which returns its digest.
/// Collective: all ranks. Throws: LaunchError if they have different ones; what `read` throws.
void read_requests_together(const MpiSession& session, Communicator& ranks,
                            const std::function<Digest()>& read);

}  // namespace temper
