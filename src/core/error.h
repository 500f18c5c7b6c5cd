// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "core/exit_code.h"

namespace temper {

/// A failure a user can act on: what went wrong, then what to try.
///
/// Broken invariants inside our own code are std::logic_error or std::invalid_argument instead.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& problem, const std::string& remedy)
      : std::runtime_error(problem + "\n  try: " + remedy),
        problem_(std::make_shared<const std::string>(problem)),
        remedy_(std::make_shared<const std::string>(remedy)),
        code_(code) {}

  /// What is wrong, where, what was found and what is wanted.
  const std::string& problem() const { return *problem_; }

  /// What a user can try.
  const std::string& remedy() const { return *remedy_; }

  /// What the process ends with if nobody can mend this.
  ExitCode code() const { return code_; }

 private:
  // Shared, since copying an exception must not throw.
  std::shared_ptr<const std::string> problem_;
  std::shared_ptr<const std::string> remedy_;
  ExitCode code_;
};

/// The configuration or the command line asks for something that cannot be.
class ConfigError : public Error {
 public:
  ConfigError(const std::string& problem, const std::string& remedy)
      : Error(ExitCode::kConfiguration, problem, remedy) {}
};

/// A token shard or a batch is not what the run needs.
class DataError : public Error {
 public:
  DataError(const std::string& problem, const std::string& remedy)
      : Error(ExitCode::kData, problem, remedy) {}
};

/// A model folder cannot be used: its configuration, its weights, its tokenizer.
class ModelError : public Error {
 public:
  ModelError(const std::string& problem, const std::string& remedy)
      : Error(ExitCode::kModel, problem, remedy) {}
};

/// A checkpoint cannot be written, or none that is whole can be read.
class CheckpointError : public Error {
 public:
  CheckpointError(const std::string& problem, const std::string& remedy)
      : Error(ExitCode::kCheckpoint, problem, remedy) {}
};

/// A collective failed, or the ranks do not agree.
class CommError : public Error {
 public:
  CommError(const std::string& problem, const std::string& remedy)
      : Error(ExitCode::kComm, problem, remedy) {}
};

/// The launch itself is wrong, or the run is in use; nothing was touched.
class LaunchError : public Error {
 public:
  LaunchError(const std::string& problem, const std::string& remedy)
      : Error(ExitCode::kRefused, problem, remedy) {}
};

}  // namespace temper
