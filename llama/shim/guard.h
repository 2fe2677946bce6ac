// How the shim turns C++ exceptions and logged errors into error texts.
#pragma once

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

namespace cen {

// What llama.cpp logged as an error on this thread since the last call of clear_logged_errors.
std::string & logged_errors();

inline char * copy(const std::string & s) {
    char * c = static_cast<char *>(std::malloc(s.size() + 1));
    if (c != nullptr) {
        std::memcpy(c, s.c_str(), s.size() + 1);
    }
    return c;
}

inline void fail(char ** err, const std::string & what) {
    std::string text = what;
    if (!logged_errors().empty()) {
        text += ": " + logged_errors();
    }
    *err = copy(text);
}

// Runs f and returns its result; if it throws, sets *err and returns failed.
template <typename R, typename F> R guard(char ** err, R failed, F f) {
    logged_errors().clear();
    try {
        return f();
    } catch (const std::exception & e) {
        *err = copy(e.what());
    } catch (...) {
        *err = copy("unknown C++ exception");
    }
    return failed;
}

} // namespace cen
