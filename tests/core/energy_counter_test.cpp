// SPDX-License-Identifier: Apache-2.0
#include "core/energy_counter.h"

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <string>

#include "io/temporary_folder.h"

namespace temper {
namespace {

// Zones as Linux has them below /sys/class/powercap.
struct PowercapFixture {
  TemporaryFolder folder;

  void write(const std::string& zone, const std::string& name, int64_t microjoules) const {
    const std::filesystem::path path = folder / zone;
    std::filesystem::create_directories(path);
    std::ofstream(path / "name") << name << '\n';
    std::ofstream(path / "energy_uj") << microjoules << '\n';
    std::ofstream(path / "max_energy_range_uj") << 1'000'000'000 << '\n';
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(energy_counter, PowercapFixture)

BOOST_AUTO_TEST_CASE(packages_are_added_up_and_their_parts_are_not) {
  write("intel-rapl:0", "package-0", 5'000'000);
  write("intel-rapl:0:0", "core", 1'000'000);
  write("intel-rapl:1", "package-1", 999'000'000);
  write("intel-rapl:2", "psys", 3);
  EnergyCounter counter(folder / "");
  BOOST_TEST(counter.take_joules().value() == 0.0);
  write("intel-rapl:0", "package-0", 7'500'000);
  write("intel-rapl:0:0", "core", 2'000'000);
  write("intel-rapl:1", "package-1", 1'000'000);  // It has wrapped around.
  write("intel-rapl:2", "psys", 9'000'000);
  BOOST_TEST(counter.take_joules().value() == 2.5 + 2.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(counter.take_joules().value() == 0.0);
}

BOOST_AUTO_TEST_CASE(what_does_not_tell_is_not_made_up) {
  BOOST_TEST(!EnergyCounter(folder / "none").take_joules());
  write("intel-rapl:0", "package-0", 5);
  EnergyCounter counter(folder / "");
  std::filesystem::remove_all(folder / "intel-rapl:0");
  BOOST_TEST(!counter.take_joules());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
