// The command line that both programs share: the self-test, then a line of JSON for each image.
#pragma once

#include <cstdio>
#include <exception>
#include <string>

#include "card.hpp"
#include "image.hpp"

namespace gloam {

// Runs a Model, made of a path, with card() and a call from a Batch to descriptors. Exit code 1 where the model or an
// image cannot be used, each with a line on stderr; images behind a bad one are described all the same.
template <typename Model> int describe_lines(const char* program, const char* takes, int count, char** words) {
    if (count < 2) {
        std::fprintf(stderr, "usage: %s %s [IMAGE.jpg|IMAGE.ppm ...]\n", program, takes);
        return 2;
    }
    int failed = 0;
    const char* at = words[1];
    try {
        const Model model(words[1]);
        const Card& card = model.card();
        const double difference = card.selftest(model);
        std::printf("%s\n", Json{{"model", card.name()}, {"selftest", difference}, {"tolerance", card.tolerance()}}.dump().c_str());
        for (int word = 2; word < count; ++word) {
            at = words[word];
            try {
                const std::vector<float> found = model(card.prepare(decode(at, card.upright())));
                std::printf("%s\n", Json{{"file", at}, {"descriptor", found}}.dump().c_str());
            } catch (const std::exception& error) {
                std::fprintf(stderr, "%s: %s\n", at, error.what());
                failed = 1;
            }
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", at, error.what());
        return 1;
    }
    return failed;
}

}  // namespace gloam
