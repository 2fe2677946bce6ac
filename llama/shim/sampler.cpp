// A sampler over plain logits, so that it serves a local context and a chain of peers alike. As in llama.cpp's own
// common/sampling.cpp the grammar first looks at the token that was picked, and only if it objects is the whole
// vocabulary masked and sampled again: masking 152k tokens costs 18 to 40 ms, one token 0.05 ms.
#include "shim.h"

#include "guard.h"

#include "common.h"
#include "llama-grammar.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

namespace {
struct free_sampler {
    void operator()(llama_sampler * s) const { llama_sampler_free(s); }
};
using sampler_ptr = std::unique_ptr<llama_sampler, free_sampler>;

// How many elements llama.cpp looks at when it asks whether a rule can begin with itself. It goes into each rule that may come
// first as often as one is named, which doubles with every rule that names another twice, and nothing could interrupt it.
class LeftRecursion {
    const llama_grammar_rules & rules;
    std::vector<double>         cost;
    std::vector<bool>           may_be_empty;

    static bool ends(const llama_grammar_element & e) { return e.type == LLAMA_GRETYPE_END || e.type == LLAMA_GRETYPE_ALT; }

    double of(size_t rule) {
        if (cost[rule] > 0) {
            return cost[rule];
        }
        cost[rule]   = static_cast<double>(rules[rule].size()); // of one within itself, at which llama.cpp ends
        double sum   = cost[rule];
        bool   first = true;
        for (const llama_grammar_element & e : rules[rule]) {
            const bool named = e.type == LLAMA_GRETYPE_RULE_REF;
            if (named && first) {
                sum += of(e.value);
            }
            first = ends(e) || (named && first && may_be_empty[e.value]);
        }
        return cost[rule] = sum;
    }

public:
    explicit LeftRecursion(const llama_grammar_rules & r) : rules(r), cost(r.size()), may_be_empty(r.size()) {
        for (size_t i = 0; i < rules.size(); i++) {
            bool start = true;
            for (const llama_grammar_element & e : rules[i]) {
                may_be_empty[i] = may_be_empty[i] || (start && ends(e));
                start           = ends(e);
            }
        }
    }

    double total() {
        double sum = 0;
        for (size_t i = 0; i < rules.size(); i++) {
            sum += of(i);
        }
        return sum;
    }
};

constexpr double most_looked_at = 50e6; // a quarter of a second
} // namespace

struct cen_sampler {
    const llama_model *           model = nullptr;
    sampler_ptr                   chain;
    sampler_ptr                   grammar;
    bool                          greedy = false; // nothing in the chain but the choice of the likeliest
    std::vector<llama_token_data> cur;

    llama_token_data_array candidates(const float * logits, int32_t n) {
        cur.resize(n);
        for (int32_t i = 0; i < n; i++) {
            cur[i] = { i, logits[i], 0.0f };
        }
        return { cur.data(), cur.size(), -1, false };
    }
};

cen_sampler * cen_sampler_new(const llama_model * model, cen_sampler_params p, const int32_t * bias_token, const float * bias,
                              size_t n_bias, char ** err) {
    return cen::guard<cen_sampler *>(err, nullptr, [&] {
        const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
        auto          s       = std::make_unique<cen_sampler>();
        s->model              = model;
        s->chain.reset(llama_sampler_chain_init({ /*no_perf=*/true }));
        const bool penalties =
            p.penalty_last_n != 0 && (p.penalty_repeat != 1.0f || p.penalty_frequency != 0.0f || p.penalty_presence != 0.0f);
        const auto add = [&](llama_sampler * link) { llama_sampler_chain_add(s->chain.get(), link); };
        if (n_bias > 0) {
            std::vector<llama_logit_bias> list(n_bias);
            for (size_t i = 0; i < n_bias; i++) {
                list[i] = { bias_token[i], bias[i] };
            }
            add(llama_sampler_init_logit_bias(n_vocab, static_cast<int32_t>(n_bias), list.data()));
        }
        if (penalties) {
            add(llama_sampler_init_penalties(n_vocab, p.penalty_last_n, p.penalty_repeat, p.penalty_frequency,
                                             p.penalty_presence));
        }
        if (p.temperature <= 0.0f) {
            s->greedy = n_bias == 0 && !penalties;
            add(llama_sampler_init_greedy());
            return s.release();
        }
        if (p.top_k > 0) {
            add(llama_sampler_init_top_k(p.top_k));
        }
        if (p.top_p > 0.0f && p.top_p < 1.0f) {
            add(llama_sampler_init_top_p(p.top_p, 1));
        }
        if (p.min_p > 0.0f) {
            add(llama_sampler_init_min_p(p.min_p, 1));
        }
        add(llama_sampler_init_temp(p.temperature));
        add(llama_sampler_init_dist(p.seed));
        return s.release();
    });
}

int32_t cen_sampler_grammar(cen_sampler * s, const char * gbnf, bool lazy, const char ** patterns, size_t n_patterns,
                            const int32_t * tokens, size_t n_tokens, const char * prefill, char ** err) {
    return cen::guard<int32_t>(err, -1, [&] {
        const llama_vocab *  vocab = llama_model_get_vocab(s->model);
        llama_grammar_parser parser(vocab);
        if (!parser.parse(gbnf)) {
            cen::fail(err, "the grammar does not parse");
            return -1;
        }
        if (LeftRecursion(parser.rules).total() > most_looked_at) {
            cen::fail(err, "too many of the grammar's rules begin with other rules");
            return -1;
        }
        s->grammar.reset(
            lazy ? llama_sampler_init_grammar_lazy_patterns(vocab, gbnf, "root", patterns, n_patterns, tokens, n_tokens)
                 : llama_sampler_init_grammar(vocab, gbnf, "root"));
        if (!s->grammar) {
            cen::fail(err, "the grammar does not parse");
            return -1;
        }
        if (!lazy && *prefill != '\0') {
            for (const llama_token t : common_tokenize(vocab, prefill, /*add_special=*/false, /*parse_special=*/true)) {
                llama_sampler_accept(s->grammar.get(), t);
            }
        }
        return 0;
    });
}

// Eight chats pay for a look at all logits eight times a step while the compute threads wait, and one at a time it took
// 0.7 ms of 152k; so the largest of a block is found in independent lanes, which compile to vector instructions, and only a
// block that beats the best so far is looked through. A NaN is never the largest.
constexpr int32_t lanes = 32;
constexpr int32_t block = 16 * lanes;

static float largest(const float * from, const float * to) {
    float lane[lanes];
    std::fill(lane, lane + lanes, -INFINITY);
    for (; from + lanes <= to; from += lanes) {
        for (int32_t k = 0; k < lanes; k++) {
            lane[k] = from[k] > lane[k] ? from[k] : lane[k];
        }
    }
    float best = *std::max_element(lane, lane + lanes);
    for (; from < to; from++) {
        best = *from > best ? *from : best;
    }
    return best;
}

// The first of the likeliest.
static llama_token likeliest(const float * logits, int32_t n) {
    float   top  = -INFINITY;
    int32_t best = 0;
    for (int32_t from = 0; from < n; from += block) {
        const int32_t to   = std::min(from + block, n);
        const float   here = largest(logits + from, logits + to);
        if (here > top) {
            top  = here;
            best = static_cast<int32_t>(std::find(logits + from, logits + to, here) - logits);
        }
    }
    return best;
}

static bool before(const cen_candidate & a, const cen_candidate & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

void cen_likeliest(const float * logits, int32_t n, cen_candidate * best, int32_t k) {
    k                = std::min(k, n);
    const auto logit = [&](int32_t i) { return std::isnan(logits[i]) ? -INFINITY : logits[i]; };
    for (int32_t i = 0; i < k; i++) {
        best[i] = { i, logit(i) };
    }
    // A heap of the best so far with the worst of them on top. What equals that comes later, so it is not better.
    std::make_heap(best, best + k, before);
    for (int32_t from = k; from < n && k > 0; from += block) {
        const int32_t to = std::min(from + block, n);
        if (largest(logits + from, logits + to) <= best[0].logit) {
            continue;
        }
        for (int32_t i = from; i < to; i++) {
            if (logits[i] > best[0].logit) {
                std::pop_heap(best, best + k, before);
                best[k - 1] = { i, logits[i] };
                std::push_heap(best, best + k, before);
            }
        }
    }
    std::sort_heap(best, best + k, before);
}

static bool grammar_allows(cen_sampler * s, llama_token t) {
    llama_token_data       one       = { t, 1.0f, 0.0f };
    llama_token_data_array one_array = { &one, 1, -1, false };
    llama_sampler_apply(s->grammar.get(), &one_array);
    return one.logit != -INFINITY;
}

// Picks from all candidates, which the grammar may have masked; -1 if nothing is left.
static llama_token pick(cen_sampler * s, llama_token_data_array & cur) {
    llama_sampler_apply(s->chain.get(), &cur);
    if (cur.selected < 0 || cur.data[cur.selected].logit == -INFINITY) {
        return -1;
    }
    return cur.data[cur.selected].id;
}

int32_t cen_sampler_sample(cen_sampler * s, const float * logits, int32_t n_vocab, char ** err) {
    return cen::guard<int32_t>(err, -1, [&] {
        llama_token t;
        if (s->greedy) {
            t = likeliest(logits, n_vocab);
        } else {
            auto cur = s->candidates(logits, n_vocab);
            t        = pick(s, cur);
        }
        if (s->grammar && (t < 0 || !grammar_allows(s, t))) {
            auto cur = s->candidates(logits, n_vocab);
            llama_sampler_apply(s->grammar.get(), &cur);
            t = pick(s, cur);
        }
        if (t < 0) {
            cen::fail(err, s->grammar ? "the grammar allows no token here" : "no token is left to choose from");
            return -1;
        }
        if (s->grammar) {
            llama_sampler_accept(s->grammar.get(), t);
        }
        llama_sampler_accept(s->chain.get(), t);
        return t;
    });
}

int32_t cen_sampler_choose(cen_sampler * s, const cen_candidate * best, size_t n, char ** err) {
    return cen::guard<int32_t>(err, -1, [&] {
        // In the order of their numbers, as when all are there: it decides between equals, and what a draw of lots means.
        s->cur.clear();
        for (size_t i = 0; i < n; i++) {
            s->cur.push_back({ best[i].token, best[i].logit, 0.0f });
        }
        std::sort(s->cur.begin(), s->cur.end(), [](const auto & a, const auto & b) { return a.id < b.id; });
        llama_token_data_array cur = { s->cur.data(), s->cur.size(), -1, false };
        const llama_token      t   = pick(s, cur);
        if (t < 0) {
            cen::fail(err, "no token is left to choose from");
            return -1;
        }
        llama_sampler_accept(s->chain.get(), t);
        return t;
    });
}

void cen_sampler_accept(cen_sampler * s, int32_t token) { llama_sampler_accept(s->chain.get(), token); }

void cen_sampler_free(cen_sampler * s) { delete s; }
