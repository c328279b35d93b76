// SPDX-License-Identifier: Apache-2.0
// Chat templates: messages to one prompt text, by the Jinja template that comes with a model.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "trireme/status.h"

namespace trireme {

namespace jinja {
class Template;
}  // namespace jinja

struct ChatTemplateOptions {
  // The local time that the template's strftime_now() formats, "YYYY-MM-DDTHH:MM:SS"; the clock's
  // when empty. Fix it where a prompt must repeat exactly.
  std::string now;
};

// A parsed template with the special tokens of its model. Immutable, thread-safe.
//
// Templates are data of strangers: they read no file, and a render is bounded in steps, memory,
// output and depth; a limit that is hit is RESOURCE_EXHAUSTED naming the limit and the line.
// Whatever else is wrong with a template or its variables is INVALID_ARGUMENT naming the line, and
// so is a template's own raise_exception(message).
class ChatTemplate {
 public:
  static StatusOr<std::unique_ptr<ChatTemplate>> Parse(std::string_view source);

  // The template of a model folder: chat_template.jinja, else the "chat_template" of
  // chat_template.json or tokenizer_config.json: a text, or a list of {"name", "template"} of which
  // `name` picks one. additional_chat_templates/NAME.jinja is read for a name other than "default".
  // Special tokens of the folder (bos_token, eos_token, ...) become variables that a render may
  // override. NOT_FOUND when the folder has no template.
  static StatusOr<std::unique_ptr<ChatTemplate>> Load(const std::string& dir,
                                                      std::string_view name = "default");

  // The template in `file` instead of the folder's own, with the folder's special tokens.
  static StatusOr<std::unique_ptr<ChatTemplate>> LoadFile(const std::string& file,
                                                          const std::string& dir);

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // `variables_json`: one JSON object: messages, tools, add_generation_prompt, bos_token and any
  // other variable of the template. Those not given: tools and documents are none, add_generation_prompt
  // is false, special tokens are the folder's, all others are undefined.
  StatusOr<std::string> Render(std::string_view variables_json,
                               const ChatTemplateOptions& options = {}) const;

 private:
  ChatTemplate(std::unique_ptr<jinja::Template> parsed, std::string defaults_json);

  const std::unique_ptr<jinja::Template> template_;
  const std::string defaults_json_;  // an object: variables that a render may override
};

}  // namespace trireme
