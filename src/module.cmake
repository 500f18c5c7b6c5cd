# SPDX-License-Identifier: Apache-2.0

include(headers)
include(kernels)

# temper_module(<name> [TORCH] HEADERS ... SOURCES ... [KERNELS ...]
#               [CUDA ...] [USES <modules>] [LIBRARIES <targets>])
# One static library per folder of src/, called from the CMakeLists.txt in that folder. USES is
# every module it may include. TORCH links LibTorch and precompiles its headers. KERNELS are more
# sources, those that compute with floating-point numbers themselves: they are compiled one by one
# in any case, since a function that is inlined into another file's may round otherwise, and numbers
# are not to depend on TEMPER_UNITY. CUDA are the kernels for GPUs: src/kernels.cmake.
function(temper_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "" "HEADERS;SOURCES;KERNELS;CUDA;USES;LIBRARIES")
  list(TRANSFORM arg_USES PREPEND temper_)
  add_library(temper_${name} STATIC ${arg_SOURCES} ${arg_KERNELS})
  target_sources(temper_${name} PUBLIC
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/src FILES ${arg_HEADERS})
  target_link_libraries(temper_${name}
    PUBLIC ${arg_USES} ${arg_LIBRARIES} temper_options PRIVATE temper_warnings)
  if(TEMPER_UNITY)
    set_target_properties(temper_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 12)
    set_source_files_properties(${arg_KERNELS} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endif()
  temper_add_kernels(${name} ${arg_CUDA})
  temper_check_headers(${name} ${arg_HEADERS})
  if(arg_TORCH)
    target_link_libraries(temper_${name} PUBLIC Torch::Torch)
    temper_precompile_torch(temper_${name})
  endif()
endfunction()

# temper_program(<name> <main.cpp> USES <modules>): an executable in the root of the build folder.
function(temper_program name main)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "USES")
  list(TRANSFORM arg_USES PREPEND temper_)
  add_executable(${name} ${main})
  target_link_libraries(${name} PRIVATE ${arg_USES} temper_options temper_warnings)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endfunction()

# All users of LibTorch share one precompiled header: reading ATen takes seconds for each file.
function(temper_precompile_torch target)
  if(NOT TARGET temper_torch_headers)
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/torch_headers.cpp CONTENT "")
    add_library(temper_torch_headers OBJECT ${PROJECT_BINARY_DIR}/torch_headers.cpp)
    target_link_libraries(temper_torch_headers PRIVATE Torch::Torch temper_options temper_warnings)
    target_precompile_headers(temper_torch_headers PRIVATE
      <ATen/ATen.h> <ATen/Parallel.h> <torch/csrc/autograd/autograd.h>)
  endif()
  target_precompile_headers(${target} REUSE_FROM temper_torch_headers)
endfunction()
