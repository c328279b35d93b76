# SPDX-License-Identifier: Apache-2.0
# `cmake --install`: bin/trireme, lib/libtrireme.so with every module of src/ but the server, include/trireme,
# share/trireme, and the package file behind find_package(trireme) -> trireme::trireme.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The executable is the target `trireme`, so the library has another name here and the same outside.
# It takes the modules' objects, not their archives, of which a linker keeps only what is asked for.
get_property(modules GLOBAL PROPERTY TRIREME_MODULES)
# The server is no part of the public API, and a program that embeds the library should not have to
# carry protobuf for it.
list(REMOVE_ITEM modules trireme_server)
set(objects)
foreach(module ${modules} trireme_commit)
  get_target_property(type ${module} TYPE)
  if(type STREQUAL STATIC_LIBRARY)
    list(APPEND objects $<TARGET_OBJECTS:${module}>)
  endif()
endforeach()
add_library(trireme_shared SHARED ${objects})
set_target_properties(trireme_shared PROPERTIES
  OUTPUT_NAME trireme EXPORT_NAME trireme
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  LINKER_LANGUAGE CXX LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/trireme.map)
target_link_libraries(trireme_shared PRIVATE ${modules})
target_link_options(trireme_shared PRIVATE
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/trireme.map -Wl,--no-undefined)
if(TRIREME_SANITIZE)
  # A sanitized library finds the run-time in the program that loads it, so nobody can try it here.
  set_target_properties(trireme_shared PROPERTIES EXCLUDE_FROM_ALL ON)
elseif(TRIREME_TESTS)
  trireme_add_test(install ${PROJECT_SOURCE_DIR}/tests/install/run ${CMAKE_BINARY_DIR})
endif()
target_include_directories(trireme_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(trireme_shared INTERFACE cxx_std_20)

if(TARGET trireme)
  install(TARGETS trireme RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(TARGETS trireme_shared EXPORT trireme-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/trireme DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h")
foreach(folder examples/embed all_models)
  if(IS_DIRECTORY ${PROJECT_SOURCE_DIR}/${folder})
    get_filename_component(parent ${folder} DIRECTORY)
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder}
      DESTINATION ${CMAKE_INSTALL_DATADIR}/trireme/${parent})
  endif()
endforeach()

# The model process of the Python backend, where the program looks for it: beside its own folder.
set(python_folder ${CMAKE_INSTALL_DATADIR}/trireme/python)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/python/model_process/ DESTINATION ${python_folder}
  FILES_MATCHING PATTERN "*.py")
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/share/trireme)
file(CREATE_LINK ${PROJECT_SOURCE_DIR}/python/model_process ${CMAKE_BINARY_DIR}/share/trireme/python
  SYMBOLIC)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/trireme)
install(EXPORT trireme-targets NAMESPACE trireme:: DESTINATION ${package_folder})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/trireme-config.cmake.in
  ${CMAKE_BINARY_DIR}/generated/trireme-config.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/generated/trireme-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/generated/trireme-config.cmake
  ${CMAKE_BINARY_DIR}/generated/trireme-config-version.cmake DESTINATION ${package_folder})
