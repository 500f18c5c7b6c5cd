// SPDX-License-Identifier: Apache-2.0
#include "train/document_totals.h"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(document_totals)

// Losses 2, 6 and 1 on 1, 2 and 2 targets: a mean of 1.8 with residuals 0.2, 2.4 and -2.6.
BOOST_AUTO_TEST_CASE(the_error_is_that_of_a_ratio_over_documents) {
  DocumentTotals totals(4);
  totals.add(2, 0.25, 1, 4);
  totals.add(1, 6.0, 2, 5);
  totals.add(0, 2.0, 1, 3);
  totals.add(2, 0.75, 1, 0);
  totals.add(3, 0.0, 0, 0);  // No target: no document of the estimate.
  const DocumentLoss loss = *totals.loss_of({0, 4});
  BOOST_TEST(loss.num_documents == 3);
  BOOST_TEST(loss.num_targets == 5);
  BOOST_TEST(loss.loss == 1.8, boost::test_tools::tolerance(1e-8));
  const double squares = 0.2 * 0.2 + 2.4 * 2.4 + 2.6 * 2.6;
  BOOST_TEST(*loss.standard_error == std::sqrt(1.5 * squares) / 5.0,
             boost::test_tools::tolerance(1e-8));
  // 9 nats in 12 bytes: residuals of 2 - 3 * 0.75, 6 - 5 * 0.75 and 1 - 4 * 0.75 nats.
  BOOST_TEST(*loss.bits_per_byte == 0.75 / std::log(2.0), boost::test_tools::tolerance(1e-8));
  const double byte_squares = 0.25 * 0.25 + 2.25 * 2.25 + 2.0 * 2.0;
  BOOST_TEST(*loss.bits_per_byte_error == std::sqrt(1.5 * byte_squares) / 12.0 / std::log(2.0),
             boost::test_tools::tolerance(1e-8));
}

BOOST_AUTO_TEST_CASE(what_is_not_known_is_not_told) {
  DocumentTotals totals(2);
  totals.add(0, 3.0, 2, 0);
  BOOST_TEST(!totals.loss_of({1, 2}).has_value());
  const DocumentLoss alone = *totals.loss_of({0, 2});
  BOOST_TEST(alone.loss == 1.5);
  BOOST_TEST(!alone.standard_error.has_value());
  BOOST_TEST(!alone.bits_per_byte.has_value());
  totals.add(1, std::numeric_limits<double>::quiet_NaN(), 1, 1);
  BOOST_TEST(std::isfinite(totals.loss_of({0, 2})->loss));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
