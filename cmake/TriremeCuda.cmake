# SPDX-License-Identifier: Apache-2.0
# Sets TRIREME_CUDA_FOUND: the CUDA backend is wanted (TRIREME_CUDA) and can be built here.
set(TRIREME_CUDA_FOUND OFF)
if(NOT TRIREME_CUDA)
  return()
endif()
file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*.cu)
include(CheckLanguage)
check_language(CUDA)
if(cuda_sources AND CMAKE_CUDA_COMPILER)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_ARCHITECTURES ${TRIREME_CUDA_ARCHS})
  set(TRIREME_CUDA_FOUND ON)
elseif(NOT TRIREME_CUDA STREQUAL "AUTO" AND NOT cuda_sources)
  message(FATAL_ERROR "TRIREME_CUDA=${TRIREME_CUDA}, but this version has no CUDA sources; "
    "configure with TRIREME_CUDA=OFF")
elseif(NOT TRIREME_CUDA STREQUAL "AUTO")
  message(FATAL_ERROR "TRIREME_CUDA=${TRIREME_CUDA}, but no nvcc was found; install the CUDA 13 "
    "toolkit and put nvcc on PATH, or configure with TRIREME_CUDA=OFF")
endif()
