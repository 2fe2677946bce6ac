// Chat templates, tool calls and JSON schemas through llama.cpp's `common`, JSON in and JSON out.
#include "shim.h"

#include "guard.h"

#include "chat.h"
#include "common.h"
#include "json-schema-to-grammar.h"

#include <algorithm>
#include <memory>

struct cen_templates {
    common_chat_templates_ptr ptr;
};

struct cen_chat {
    common_chat_params        params;
    common_chat_parser_params parser;
    bool                      knows_tools = false;
    const llama_vocab *       vocab       = nullptr;
};

cen_templates * cen_templates_new(const llama_model * model, const char * override_template, char ** err) {
    return cen::guard<cen_templates *>(err, nullptr,
                                       [&] { return new cen_templates{ common_chat_templates_init(model, override_template) }; });
}

void cen_templates_free(cen_templates * t) { delete t; }

cen_chat * cen_chat_apply(const cen_templates * t, const llama_model * model, const char * request, char ** err) {
    return cen::guard<cen_chat *>(err, nullptr, [&] {
        const common_json r = common_json::parse(request);

        common_chat_templates_inputs in;
        in.messages            = common_chat_msgs_parse_oaicompat(r.at("messages"));
        in.tools               = common_chat_tools_parse_oaicompat(r.at("tools"));
        in.tool_choice         = common_chat_tool_choice_parse_oaicompat(r.at("tool_choice").get<std::string>());
        in.parallel_tool_calls = r.at("parallel_tool_calls").get<bool>();
        in.json_schema         = r.at("json_schema").get<std::string>();
        in.grammar             = r.at("grammar").get<std::string>();
        if (r.at("no_answer").get<bool>()) {
            in.add_generation_prompt = false;
        }
        if (r.at("continue").get<bool>()) {
            in.add_generation_prompt  = false;
            in.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
        }

        auto c                     = std::make_unique<cen_chat>();
        c->vocab                   = llama_model_get_vocab(model);
        c->knows_tools             = common_chat_templates_get_caps(t->ptr.get()).at("supports_tools");
        c->params                  = common_chat_templates_apply(t->ptr.get(), in);
        c->parser                  = common_chat_parser_params(c->params);
        c->parser.parse_tool_calls = !in.tools.empty() && in.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
        c->parser.is_continuation  = in.continue_final_message != COMMON_CHAT_CONTINUATION_NONE;
        if (!c->params.parser.empty()) {
            c->parser.parser.load(c->params.parser);
        }
        return c.release();
    });
}

// A trigger as the sampler takes it: a pattern, or a token if the word is one token and is kept whole.
static void add_trigger(const cen_chat * c, const common_grammar_trigger & t, common_json & patterns, common_json & tokens) {
    switch (t.type) {
        case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
            tokens.push_back(t.token);
            return;
        case COMMON_GRAMMAR_TRIGGER_TYPE_WORD: {
            const auto ids = common_tokenize(c->vocab, t.value, false, true);
            if (ids.size() == 1) {
                tokens.push_back(ids[0]);
            } else {
                patterns.push_back(regex_escape(t.value));
            }
            return;
        }
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
            patterns.push_back(t.value);
            return;
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL: {
            std::string p = t.value;
            if (p.empty() || p.front() != '^') {
                p = "^" + p;
            }
            if (p.back() != '$') {
                p += "$";
            }
            patterns.push_back(p);
            return;
        }
    }
}

char * cen_chat_json(const cen_chat * c, char ** err) {
    return cen::guard<char *>(err, nullptr, [&] {
        common_json patterns  = common_json::array();
        common_json tokens    = common_json::array();
        common_json preserved = common_json::array();
        common_json stops     = common_json::array();
        for (const auto & t : c->params.grammar_triggers) {
            add_trigger(c, t, patterns, tokens);
        }
        for (const auto & text : c->params.preserved_tokens) {
            const auto ids = common_tokenize(c->vocab, text, false, true);
            if (ids.size() == 1) {
                preserved.push_back(ids[0]);
            }
        }
        for (const auto & s : c->params.additional_stops) {
            stops.push_back(s);
        }
        common_json out    = common_json::object();
        out["prompt"]      = c->params.prompt;
        out["grammar"]     = c->params.grammar;
        out["lazy"]        = c->params.grammar_lazy;
        out["prefill"]     = c->params.generation_prompt;
        out["patterns"]    = patterns;
        out["tokens"]      = tokens;
        out["preserved"]   = preserved;
        out["stops"]       = stops;
        out["knows_tools"] = c->knows_tools;
        return cen::copy(out.dump());
    });
}

char * cen_chat_parse(const cen_chat * c, const char * text, bool partial, char ** err) {
    return cen::guard<char *>(err, nullptr,
                              [&] { return cen::copy(common_chat_parse(text, partial, c->parser).to_json_oaicompat().dump()); });
}

void cen_chat_free(cen_chat * c) { delete c; }

char * cen_schema_to_grammar(const char * schema, char ** err) {
    return cen::guard<char *>(err, nullptr, [&] { return cen::copy(json_schema_to_grammar(common_json::parse(schema))); });
}
