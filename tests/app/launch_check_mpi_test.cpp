// SPDX-License-Identifier: Apache-2.0
// Nodes that are not alike: ranks 0 and 1 play node n0, the others n1.
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <string>
#include <vector>

#include "app/launch_check.h"
#include "app/processors.h"
#include "checkpoint/tiny_folder.h"
#include "comm/mpi_communicator.h"
#include "core/error.h"
#include "io/temporary_folder.h"

namespace {

int64_t num_bytes_read = 0, num_reads = 0;

}  // namespace

// This stands before the C library's, and counts.
extern "C" ssize_t pread(int file, void* bytes, size_t size, off_t offset) {
  const ssize_t count = ::syscall(SYS_pread64, file, bytes, size, offset);
  ++num_reads;
  num_bytes_read += std::max<ssize_t>(count, 0);
  return count;
}

namespace temper {
namespace {

constexpr const char* kEpyc =
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n"
    "model name\t: AMD EPYC 9654\nflags\t\t: fpu sse2 avx2 avx512_bf16 fsrm\n\nprocessor\t: 1\n"
    "flags\t\t: avx10\n";
constexpr const char* kOlder =
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\n"
    "model name\t: AMD EPYC 7763\nflags\t\t: fpu sse2 avx2 fsrm\n";

struct Nodes {
  MpiCommunicator world{MPI_COMM_WORLD};
  int rank = world.rank();
  int num_ranks = world.world_size();
  std::vector<std::string> hosts;
  TemporaryFolder folder;
  RunConfig config;

  Nodes() {
    for (int one = 0; one < num_ranks; ++one) hosts.push_back(one < 2 ? "n0" : "n1");
    testing::write_tiny_folder(folder.path(), testing::Head::kTied, DType::kF32);
  }

  Processor processor() const {
    Processor own = parse_processor(rank < 2 ? kEpyc : kOlder);
    own.dtype = rank < 2 ? ComputeDtype::kBfloat16 : ComputeDtype::kFloat32;
    return own;
  }

  template <typename Call>
  void is_refused(const Call& call, const std::vector<std::string>& expected) const {
    BOOST_CHECK_EXCEPTION(call(), LaunchError, [&](const Error& error) {
      for (const std::string& part : expected) {
        BOOST_TEST(std::string(error.what()).find(part) != std::string::npos, error.what());
      }
      return true;
    });
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(launch_check, Nodes)

BOOST_AUTO_TEST_CASE(a_processor_is_its_maker_model_and_vector_instructions) {
  const Processor epyc = parse_processor(kEpyc);
  BOOST_TEST(epyc.name == "AMD EPYC 9654");
  const std::set<std::string> traits = {"avx2",     "avx512_bf16", "cpu family=25",
                                        "model=17", "sse2",        "vendor_id=AuthenticAMD"};
  BOOST_TEST(epyc.traits == traits, boost::test_tools::per_element());
  BOOST_TEST(parse_processor("").traits.empty());
  BOOST_TEST(!own_processor({}, std::nullopt).traits.empty());
}

BOOST_AUTO_TEST_CASE(ranks_on_two_kinds_of_gpu_are_refused_and_named) {
  config.model.device = ModelOptions::Device::kCuda;
  const GpuKind big{"NVIDIA H200", "9.0", 132}, small{"NVIDIA H100 PCIe", "9.0", 114};
  const Processor own = own_processor(config.model, rank < 2 ? big : small);
  const auto agree = [&] { agree_on_dtype(world, hosts, config, own); };
  if (num_ranks < 3) return agree();
  is_refused(agree, {"rank 2 on n1 has another kind of processor, 'NVIDIA H100 PCIe' with "
                     "'multiprocessors=114', than rank 0 on n0, 'NVIDIA H200' with "
                     "'multiprocessors=132', and so have 0 more of 3 ranks: the bits"});
}

BOOST_AUTO_TEST_CASE(ranks_on_two_kinds_of_processor_are_refused_and_named) {
  if (num_ranks < 3) {
    BOOST_TEST((agree_on_dtype(world, hosts, config, processor()) == ComputeDtype::kBfloat16));
    return;
  }
  is_refused([&] { agree_on_dtype(world, hosts, config, processor()); },
             {"rank 2 on n1 has another kind of processor, 'AMD EPYC 7763' with 'model=1', than "
              "rank 0 on n0, 'AMD EPYC 9654' with 'avx512_bf16 model=17', and so have 0 more of 3 ",
              "\n  try: ask Slurm for nodes of one kind"});
}

BOOST_AUTO_TEST_CASE(where_bits_are_not_asked_for_all_ranks_compute_with_what_each_has) {
  config.parallel.reduction = Reduction::kFast;
  const ComputeDtype all_have = num_ranks < 3 ? ComputeDtype::kBfloat16 : ComputeDtype::kFloat32;
  BOOST_TEST((agree_on_dtype(world, hosts, config, processor()) == all_have));
}

BOOST_AUTO_TEST_CASE(one_rank_of_a_node_reads_a_bounded_part_of_the_model) {
  const ModelFolder model(folder.path());
  const int64_t num_tensors = std::ssize(model.weights().tensors());
  num_bytes_read = num_reads = 0;
  require_same_model({rank % 2, hosts}, world, model);
  const bool reads = num_ranks > 2 && rank % 2 == 0;
  BOOST_TEST(num_reads <= (reads ? 3 * num_tensors : 0));
  BOOST_TEST(num_bytes_read <= (reads ? 3 * 4096 * num_tensors : 0));
  BOOST_TEST((num_bytes_read > 0) == reads);
}

// Names, shapes and places are the same; only numbers differ, as in a copy of an earlier training.
BOOST_AUTO_TEST_CASE(a_stale_copy_of_the_model_on_one_node_is_refused) {
  if (rank >= 2) {
    const auto path = folder.path() / "model.safetensors";
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x7f');
  }
  const ModelFolder model(folder.path());
  const auto check = [&] { require_same_model({rank % 2, hosts}, world, model); };
  if (num_ranks < 3) return check();
  is_refused(check, {"rank 2 on n1 differs from rank 0 on n0 in the model's weights",
                     "\n  try: give all nodes one copy"});
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
