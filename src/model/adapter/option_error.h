// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/concat.h"
#include "core/error.h"

namespace temper {

/// An option of a method that does not fit the model. The option and what is wrong with it are held
/// apart, since in the file of an adapter the option has another name.
class OptionError : public ConfigError {
 public:
  OptionError(const std::string& option, const std::string& reason, const std::string& remedy)
      : ConfigError(concat(option, ' ', reason), remedy),
        texts_(std::make_shared<const Texts>(Texts{option, reason})) {}

  /// "lora.targets".
  const std::string& option() const { return texts_->option; }

  /// What goes on after its name: "names 'qproj', which is ...".
  const std::string& reason() const { return texts_->reason; }

 private:
  struct Texts {
    std::string option;
    std::string reason;
  };
  std::shared_ptr<const Texts> texts_;  // Shared, since copying an exception must not throw.
};

}  // namespace temper
