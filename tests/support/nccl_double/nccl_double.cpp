// SPDX-License-Identifier: Apache-2.0
#include "support/nccl_double/nccl_double.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>

#include "core/concat.h"
#include "support/nccl_double/cuda_streams.h"
#include "support/simulated_device/device_memory.h"

struct ncclComm {
  MPI_Comm ranks = MPI_COMM_NULL;
  int rank = 0, world_size = 1;
  ncclResult_t asynchronous = ncclSuccess;
  cudaStream_t stream = nullptr;  // Of its last call.
};

namespace temper::testing {
namespace {

std::string last_error = "none";

ncclResult_t failed(std::string reason) {
  last_error = std::move(reason);
  return ncclInvalidUsage;
}

// What `call` returns, unless it is to fail; exceptions of the double are errors of NCCL.
template <typename Call>
ncclResult_t guarded(const char* name, Call call) {
  NcclDouble& own = NcclDouble::own();
  if (own.failing == name) {
    own.failing.clear();
    return failed("a cable is loose");
  }
  try {
    call();
    return ncclSuccess;
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}

struct Type {
  MPI_Datatype datatype;
  size_t size;
  const char* name;
};

Type type_of(ncclDataType_t type) {
  switch (type) {
    case ncclFloat32: return {MPI_FLOAT, 4, "float32"};
    case ncclFloat64: return {MPI_DOUBLE, 8, "float64"};
    case ncclInt32: return {MPI_INT32_T, 4, "int32"};
    case ncclInt64: return {MPI_INT64_T, 8, "int64"};
    case ncclUint8: return {MPI_UINT8_T, 1, "uint8"};
    default: throw std::invalid_argument("a dtype that is not expected");
  }
}

std::pair<MPI_Op, const char*> op_of(ncclRedOp_t op) {
  switch (op) {
    case ncclSum: return {MPI_SUM, "sum"};
    case ncclMax: return {MPI_MAX, "max"};
    case ncclMin: return {MPI_MIN, "min"};
    default: throw std::invalid_argument("a reduction that is not expected");
  }
}

std::byte* place_of(const void* address) { return DeviceMemory::own().on_host(address); }

// Asks now and then, and leaves the core to the other ranks: MPI itself would keep it.
std::vector<MPI_Status> wait_for(std::vector<MPI_Request> requests) {
  std::vector<MPI_Status> statuses(requests.size());
  int is_done = 0;
  while (true) {
    MPI_Testall(static_cast<int>(requests.size()), requests.data(), &is_done, statuses.data());
    if (is_done != 0) return statuses;
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

// Does the work on the stream once all ranks have come to the same call.
void queue(ncclComm_t comm, cudaStream_t stream, const std::string& call,
           const std::function<void()>& work) {
  NcclDouble::own().calls.push_back(call);
  comm->stream = stream;
  queue_on(stream, [=] {
    std::array<char, 64> own{};
    std::copy_n(call.begin(), std::min(call.size(), own.size()), own.begin());
    std::vector<char> all(own.size() * static_cast<size_t>(comm->world_size));
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Iallgather(own.data(), own.size(), MPI_CHAR, all.data(), own.size(), MPI_CHAR, comm->ranks,
                   &request);
    wait_for({request});
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i] != own[i % own.size()]) {
        comm->asynchronous = failed("ranks differ at " + call);
        return;
      }
    }
    work();
  });
}

// What is received may be overwritten as early as this, and is not there until the wait: NaN.
void spoil(std::byte* place, size_t size) { std::memset(place, 0xFF, size); }

// Messages between ncclGroupStart and ncclGroupEnd.
struct Group {
  struct Message {
    bool is_send;
    std::byte* place;
    int size, peer;
  };
  int depth = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<Message> messages = {};
};
Group group;

void add_message(const Group::Message& message, ncclComm_t comm, cudaStream_t stream) {
  if (group.depth == 0) throw std::logic_error("a message outside of a group may wait for ever");
  if (group.comm != nullptr && (group.comm != comm || group.stream != stream)) {
    throw std::logic_error("a group of two communicators or streams");
  }
  const auto& [is_send, place, size, peer] = message;
  if (peer < 0 || peer >= comm->world_size) throw std::invalid_argument("no such rank");
  group.comm = comm;
  group.stream = stream;
  group.messages.push_back(message);
  if (!is_send && peer != comm->rank) spoil(place, static_cast<size_t>(size));
}

// Receives first, so that a send to oneself has where to go.
void exchange(ncclComm_t comm, const std::vector<Group::Message>& messages) {
  std::vector<MPI_Request> requests;
  for (const bool sends : {false, true}) {
    for (const auto& [is_send, place, size, peer] : messages) {
      if (is_send != sends) continue;
      MPI_Request& request = requests.emplace_back(MPI_REQUEST_NULL);
      if (is_send) {
        MPI_Isend(place, size, MPI_BYTE, peer, 0, comm->ranks, &request);
      } else {
        MPI_Irecv(place, size, MPI_BYTE, peer, 0, comm->ranks, &request);
      }
    }
  }
  const std::vector<MPI_Status> statuses = wait_for(requests);
  size_t next = 0;
  for (const auto& [is_send, place, size, peer] : messages) {
    if (is_send) continue;
    int received = 0;
    MPI_Get_count(&statuses[next++], MPI_BYTE, &received);
    if (received != size) comm->asynchronous = failed("a message of another size than was wanted");
  }
}

void queue_group() {
  std::string call = "Group:";
  for (const auto& [is_send, place, size, peer] : group.messages) {
    call += is_send ? concat(" Send ", size, " to ", peer) : concat(" Recv ", size, " from ", peer);
  }
  NcclDouble::own().calls.push_back(call);
  group.comm->stream = group.stream;
  queue_on(group.stream,
           [comm = group.comm, messages = group.messages] { exchange(comm, messages); });
}

// Copies what a collective does not change, as NCCL does.
void keep(const std::byte* from, std::byte* to, size_t size) {
  if (from != to) std::memmove(to, from, size);
}

}  // namespace

NcclDouble& NcclDouble::own() {
  static NcclDouble own;
  return own;
}

std::vector<std::string> NcclDouble::take_calls() { return std::exchange(calls, {}); }

}  // namespace temper::testing

using namespace temper::testing;
using temper::concat;

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::fill_n(id->internal, sizeof id->internal, 'd');
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int world_size, ncclUniqueId id, int rank) {
  return guarded("ncclCommInitRank", [&] {
    const std::string_view made(id.internal, sizeof id.internal);
    if (made.find_first_not_of('d') != made.npos) {
      throw std::invalid_argument("an id that rank 0 has not made");
    }
    *comm = new ncclComm{.rank = rank, .world_size = world_size};
    MPI_Comm_dup(world_size == 1 ? MPI_COMM_SELF : MPI_COMM_WORLD, &(*comm)->ranks);
    int found_rank = 0, found_size = 0;
    MPI_Comm_rank((*comm)->ranks, &found_rank);
    MPI_Comm_size((*comm)->ranks, &found_size);
    if (found_rank != rank || found_size != world_size) throw std::invalid_argument("other ranks");
  });
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm->stream != nullptr) finish(comm->stream);
  NcclDouble::own().last_end = "Destroy";
  MPI_Comm_free(&comm->ranks);
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm->stream != nullptr) drop(comm->stream);
  NcclDouble::own().last_end = "Abort";
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  *error = comm->asynchronous;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t error) {
  return error == ncclInvalidUsage ? "invalid usage" : "another error";
}

const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t dtype,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return guarded("ncclAllReduce", [&] {
    const Type type = type_of(dtype);
    const auto [own_op, name] = op_of(op);
    keep(place_of(from), place_of(to), count * type.size);
    queue(comm, stream, concat("AllReduce ", count, ' ', type.name, ' ', name),
          [=, place = place_of(to), mpi_op = own_op] {
            MPI_Request request = MPI_REQUEST_NULL;
            MPI_Iallreduce(MPI_IN_PLACE, place, static_cast<int>(count), type.datatype, mpi_op,
                           comm->ranks, &request);
            wait_for({request});
          });
  });
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t dtype,
                           ncclComm_t comm, cudaStream_t stream) {
  return guarded("ncclAllGather", [&] {
    const Type type = type_of(dtype);
    for (int peer = 0; peer < comm->world_size; ++peer) {
      const size_t size = count * type.size;
      if (peer != comm->rank) spoil(place_of(to) + static_cast<size_t>(peer) * size, size);
    }
    queue(comm, stream, concat("AllGather ", count, ' ', type.name),
          [=, shard = place_of(from), full = place_of(to)] {
            const size_t size = count * type.size;
            keep(shard, full + static_cast<size_t>(comm->rank) * size, size);
            MPI_Request request = MPI_REQUEST_NULL;
            MPI_Iallgather(MPI_IN_PLACE, 0, MPI_BYTE, full, static_cast<int>(size), MPI_BYTE,
                           comm->ranks, &request);
            wait_for({request});
          });
  });
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t dtype, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return guarded("ncclBroadcast", [&] {
    const Type type = type_of(dtype);
    queue(comm, stream, concat("Broadcast ", count, ' ', type.name, " from ", root),
          [=, source = place_of(from), place = place_of(to)] {
            const size_t size = count * type.size;
            keep(source, place, size);
            MPI_Request request = MPI_REQUEST_NULL;
            MPI_Ibcast(place, static_cast<int>(size), MPI_BYTE, root, comm->ranks, &request);
            wait_for({request});
          });
  });
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t dtype, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return guarded("ncclSend", [&] {
    const auto size = static_cast<int>(count * type_of(dtype).size);
    add_message({true, place_of(from), size, peer}, comm, stream);
  });
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t dtype, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return guarded("ncclRecv", [&] {
    const auto size = static_cast<int>(count * type_of(dtype).size);
    add_message({false, place_of(to), size, peer}, comm, stream);
  });
}

ncclResult_t ncclGroupEnd() {
  return guarded("ncclGroupEnd", [] {
    if (group.depth == 0) throw std::logic_error("the end of no group");
    if (--group.depth == 0 && group.comm != nullptr) queue_group();
    group = {.depth = group.depth};
  });
}

}  // extern "C"
