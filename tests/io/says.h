// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/test/unit_test.hpp>
#include <string>
#include <utility>

#include "core/error.h"

namespace temper {

/// For BOOST_CHECK_EXCEPTION: the message has `text` in it and ends with what to try.
inline auto says(std::string text) {
  return [text = std::move(text)](const Error& error) {
    const std::string message = error.what();
    const bool has_both =
        message.find(text) != std::string::npos && message.find("\n  try: ") != std::string::npos;
    BOOST_TEST(has_both, "the message is: " << message << "\nwanted in it: " << text);
    return has_both;
  };
}

}  // namespace temper
