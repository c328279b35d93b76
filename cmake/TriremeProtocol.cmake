# SPDX-License-Identifier: Apache-2.0
# trireme_protocol: the protobuf messages of src/server/protocol, generated and compiled. It and the
# module `server` are the only ones that link protobuf.
set(Protobuf_USE_STATIC_LIBS ${TRIREME_ONE_FILE})
find_package(Protobuf REQUIRED)

set(protocol_folder ${PROJECT_SOURCE_DIR}/src/server/protocol)
set(generated ${CMAKE_BINARY_DIR}/generated/protocol)
file(MAKE_DIRECTORY ${generated})
set(protocol_sources)
foreach(name model_config)
  add_custom_command(
    OUTPUT ${generated}/${name}.pb.cc ${generated}/${name}.pb.h
    COMMAND protobuf::protoc --cpp_out=${generated} -I ${protocol_folder} ${name}.proto
    DEPENDS ${protocol_folder}/${name}.proto ${protocol_folder}/model_config.proto
    VERBATIM)
  list(APPEND protocol_sources ${generated}/${name}.pb.cc)
endforeach()
add_library(trireme_protocol STATIC ${protocol_sources})
target_include_directories(trireme_protocol SYSTEM PUBLIC ${generated})
target_link_libraries(trireme_protocol PUBLIC protobuf::libprotobuf)
# Generated code has its own idea of warnings, and -O2 would only cost time.
target_compile_options(trireme_protocol PRIVATE -w -O1)
