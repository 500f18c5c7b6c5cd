# SPDX-License-Identifier: Apache-2.0
# How the kernels of our own for GPUs (core/kernel.h) are compiled.

# Each card from the A100 on runs what was compiled for one of these; later ones from the PTX.
# Nothing is fused, so that numbers are what the same lines give on a CPU. A kernel whose registers
# do not suffice is an error, as is every other warning.
set(TEMPER_NVCC_FLAGS
  -std=c++20 -O3 --fmad=false --expt-relaxed-constexpr -Werror all-warnings
  -gencode arch=compute_80,code=[sm_80,sm_90,sm_100,compute_80]
  -Xptxas=-v,--warn-on-spills -Xcompiler=-Wall,-Wextra,-Wshadow,-Wconversion)

# temper_add_kernels(<module> <files...>): compiles them into the module, in a build for GPUs.
function(temper_add_kernels module)
  if(NOT TEMPER_CUDA OR NOT ARGN)
    return()
  endif()
  target_compile_definitions(temper_${module} PRIVATE TEMPER_KERNELS)
  foreach(file IN LISTS ARGN)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${file}.o)
    cmake_path(GET object PARENT_PATH folder)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(OUTPUT ${object}
      COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} ${TEMPER_NVCC_FLAGS} -I${PROJECT_SOURCE_DIR}/src
              -MD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${file} -o ${object}
      DEPENDS ${file} DEPFILE ${object}.d
      COMMENT "Building the kernels of ${module}/${file}" VERBATIM)
    set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON)
    target_sources(temper_${module} PRIVATE ${object})
  endforeach()
  target_link_libraries(temper_${module} PUBLIC CUDA::cudart)
endfunction()
