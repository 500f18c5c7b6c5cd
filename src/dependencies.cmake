# SPDX-License-Identifier: Apache-2.0
# The outside libraries, as targets. Each is linked by the one module that lets it in.

find_package(MPI 3.1 REQUIRED COMPONENTS C)
target_compile_definitions(MPI::MPI_C INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
find_package(HDF5 REQUIRED COMPONENTS C)  # hdf5::hdf5
find_package(nlohmann_json REQUIRED)      # nlohmann_json::nlohmann_json
find_package(yaml-cpp REQUIRED)
if(NOT TARGET yaml-cpp::yaml-cpp)         # Before 0.8 the target had no namespace.
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()
find_package(CLI11 REQUIRED)              # CLI11::CLI11
find_package(OpenSSL REQUIRED)            # OpenSSL::Crypto
find_package(Threads REQUIRED)            # Threads::Threads

# LibTorch, from the pinned wheel. Its own CMake package insists on CUDA, so the libraries are named
# here: Torch::Torch, and Torch::Cuda beside it in a CUDA build.
# Asked for anew each time, since a changed lock leads to another folder; -DTEMPER_TORCH overrides.
if(NOT TEMPER_TORCH)
  execute_process(
    COMMAND bash -c "source launch/env && printf %s \"$TEMPER_TORCH\""
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    OUTPUT_VARIABLE TEMPER_TORCH COMMAND_ERROR_IS_FATAL ANY)
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/launch/lock)
if(NOT EXISTS ${TEMPER_TORCH}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "no LibTorch in ${TEMPER_TORCH}\n  try: launch/setup")
endif()

function(temper_torch_library name)
  add_library(Torch::${name} SHARED IMPORTED)
  set_target_properties(Torch::${name} PROPERTIES IMPORTED_LOCATION ${TEMPER_TORCH}/lib/lib${name})
endfunction()
temper_torch_library(torch_cpu.so)
temper_torch_library(c10.so)
temper_torch_library(gomp.so.1)

add_library(Torch::Torch INTERFACE IMPORTED)
target_include_directories(Torch::Torch INTERFACE
  ${TEMPER_TORCH}/include ${TEMPER_TORCH}/include/torch/csrc/api/include)
# Clang's code calls its own libomp, which also has what LibTorch calls in libgomp: named first, it
# serves both.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-resource-dir
    OUTPUT_VARIABLE clang_resources OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  find_library(TEMPER_OMP omp HINTS ${clang_resources}/../.. REQUIRED)
  target_link_libraries(Torch::Torch INTERFACE ${TEMPER_OMP})
endif()
target_link_libraries(Torch::Torch INTERFACE Torch::torch_cpu.so Torch::c10.so Torch::gomp.so.1)
# at::parallel_for is an OpenMP region in a header. It is compiled for OpenMP, but linked with the
# libgomp that LibTorch brings instead of the compiler's, so that a process has one pool of threads.
target_compile_options(Torch::Torch INTERFACE -fopenmp)

# at::vec (what the compiler does not vectorise by itself, such as exp) takes its width from these.
if(TEMPER_MARCH MATCHES "^x86-64-v[34]$" AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  target_compile_definitions(Torch::Torch INTERFACE CPU_CAPABILITY=AVX2 CPU_CAPABILITY_AVX2)
endif()

# Modules guard what needs these with if(TEMPER_CUDA).
if(TEMPER_CUDA)
  find_package(CUDAToolkit 13.0 REQUIRED)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
  add_library(NCCL::NCCL SHARED IMPORTED)
  set_target_properties(NCCL::NCCL PROPERTIES IMPORTED_LOCATION ${NCCL_LIBRARY})
  target_include_directories(NCCL::NCCL INTERFACE ${NCCL_INCLUDE_DIR})

  temper_torch_library(torch_cuda.so)
  temper_torch_library(c10_cuda.so)
  add_library(Torch::Cuda INTERFACE IMPORTED)
  target_link_libraries(Torch::Cuda INTERFACE
    Torch::Torch Torch::torch_cuda.so Torch::c10_cuda.so CUDA::cudart)
  # LibTorch's CUDA kernels register themselves and are called through a table, which a linker that
  # drops unneeded libraries does not see. What they call in turn is there only after
  # launch/setup --cuda; linking does without it.
  target_link_options(Torch::Cuda INTERFACE LINKER:--no-as-needed LINKER:--allow-shlib-undefined)
endif()
