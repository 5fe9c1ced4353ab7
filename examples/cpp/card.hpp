// A gloam model card: what it says of the input, and its self-test by formula. docs/model-card.md has the words.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "image.hpp"

namespace gloam {

using Json = nlohmann::json;

// What the graph takes: uint8 [batch, height, width, 3], and the valid height and width of each image.
struct Batch {
    int64_t count, height, width;
    std::vector<uint8_t> images;
    std::vector<int32_t> sizes;
};

// ((sum of terms) // floor % modulo + add) * times / over, of variables by their letters.
class Formula {
public:
    explicit Formula(const Json& stated)
        : modulo_(stated.at("modulo")), floor_(stated.at("floor")), add_(stated.at("add")), times_(stated.at("times")),
          over_(stated.at("over")) {
        if (modulo_ < 1 || floor_ < 1) throw std::runtime_error("model card: a formula that divides by nothing");
        for (const auto& [letters, factor] : stated.at("terms").items()) terms_.emplace_back(letters, factor);
    }

    double operator()(const std::array<int64_t, 128>& variables) const {
        int64_t sum = 0;
        for (const auto& [letters, factor] : terms_) {
            int64_t product = factor;
            for (const char letter : letters) product *= variables[letter & 127];
            sum += product;
        }
        return static_cast<double>(sum / floor_ % modulo_ + add_) * times_ / over_;
    }

private:
    std::vector<std::pair<std::string, int64_t>> terms_;
    int64_t modulo_, floor_, add_;
    double times_, over_;
};

// The card of an embedder, alone or behind a translator inside the graph.
class Card {
public:
    explicit Card(const std::string& text) : json_(parsed(text)) {
        if (json_.value("schema", 0) != 1)
            throw std::runtime_error("model card of schema " + json_.value("schema", Json()).dump() +
                                     ", this program reads 1; take a newer one");
        const std::string kind = json_.at("kind");
        if (kind != "embedder" && kind != "fused")
            throw std::runtime_error("a model of kind '" + kind + "'; this program runs embedders");
        const Json& light = json_.at("photometric");
        if (light.at("name") != "none" && !light.at("baked").get<bool>())
            throw std::runtime_error("the caller has to apply CLAHE first; export the model with --bake-clahe");
        if (kind == "embedder" && json_.contains("translate"))
            throw std::runtime_error("the caller has to translate images first; fuse both with gloam export --translate");
        if (!json_.contains("selftest_formula") || json_.at("selftest").is_null())
            throw std::runtime_error("the model card states no self-test by formula; export the model again");
        if (json_.at("selftest_formula").at("digest") != "rows" || !json_.at("selftest_formula").contains("images"))
            throw std::runtime_error("a self-test that is none of descriptors");
        if (fixed() && (profile().value("next_only", false) || profile().at("pad_mode") != "zero"))
            throw std::runtime_error("a fixed profile that reflects images; export the model with the dynamic one");
    }

    std::string name() const { return json_.at("name"); }
    std::string output() const { return json_.at("outputs").at(0).at("name"); }
    int64_t dimension() const { return json_.at("dimension"); }
    bool fixed() const { return profile().at("kind") == "fixed"; }

    bool upright() const {
        return !json_.contains("decoding") || json_.at("decoding").at("orientation") == "upright";
    }

    double tolerance() const {
        const std::string precision = json_.at("precision");
        return json_.at("selftest").at("tolerance").value(precision, 0.0);
    }

    // A decoded image as the graph takes it: resized by the input rule, and placed in a shape of the profile.
    Batch prepare(const Image& decoded) const {
        const Image image = resized(decoded);
        const int least = std::max(SMALLEST_SIDE, profile().value("minimum", 1));
        if (std::min(image.width, image.height) < least)
            throw std::runtime_error("the image is too small; its sides must be " + std::to_string(least) + " px or more");
        if (!fixed()) return {1, image.height, image.width, image.pixels, {image.height, image.width}};
        Batch batch{1, holding("heights", image.height), holding("widths", image.width), {}, {image.height, image.width}};
        batch.images.assign(batch.height * batch.width * 3, 0);
        for (int row = 0; row < image.height; ++row)
            std::copy_n(&image.pixels[size_t(row) * image.width * 3], image.width * 3, &batch.images[row * batch.width * 3]);
        return batch;
    }

    // The self-tests that the card holds: what each feeds, and what the model must answer.
    std::vector<std::pair<Batch, std::vector<double>>> selftests() const {
        const Json& stated = json_.at("selftest_formula");
        const Formula pixel(stated.at("images"));
        const uint8_t beyond = stated.at("beyond").get<int>();
        std::vector<std::pair<Batch, std::vector<double>>> tests;
        for (const char* key : {"selftest", "selftest_larger"}) {
            if (!json_.contains(key) || json_.at(key).is_null()) continue;
            const Json& test = json_.at(key);
            const std::array<int64_t, 3> shape = test.at("shape");
            Batch batch{shape[0], shape[1], shape[2], {}, {}};
            for (int64_t b = 0; b < batch.count; ++b) {
                const std::array<int32_t, 2> valid = test.at("sizes").at(b);
                batch.sizes.insert(batch.sizes.end(), valid.begin(), valid.end());
                std::array<int64_t, 128> at{};
                at['b'] = b;
                for (at['y'] = 0; at['y'] < batch.height; ++at['y'])
                    for (at['x'] = 0; at['x'] < batch.width; ++at['x'])
                        for (at['c'] = 0; at['c'] < 3; ++at['c'])
                            batch.images.push_back(at['y'] < valid[0] && at['x'] < valid[1] ? uint8_t(pixel(at)) : beyond);
            }
            tests.emplace_back(std::move(batch), test.at("output").get<std::vector<double>>());
        }
        return tests;
    }

    // Runs the self-tests by a function from a Batch to descriptors in C order, and gives the largest difference.
    template <typename Run> double selftest(const Run& run) const {
        double worst = 0;
        for (const auto& [batch, expected] : selftests()) {
            const std::vector<float> found = run(batch);
            if (found.size() != expected.size()) throw std::runtime_error("the self-test gave another number of values");
            for (size_t at = 0; at < found.size(); ++at) {
                const double difference = std::fabs(found[at] - expected[at]);
                worst = std::isfinite(difference) ? std::max(worst, difference) : HUGE_VAL;
            }
        }
        if (!(worst <= tolerance()))
            throw std::runtime_error("the self-test failed: it differs by " + std::to_string(worst) + ", " +
                                     std::to_string(tolerance()) + " is allowed; export the model again");
        return worst;
    }

private:
    static Json parsed(const std::string& text) {
        try {
            return Json::parse(text);
        } catch (const Json::exception&) {
            throw std::runtime_error("the model card is no JSON; export the model again");
        }
    }

    const Json& profile() const { return json_.at("profile"); }

    Image resized(const Image& image) const {
        if (json_.contains("resize")) return image;  // the graph does it
        if (!json_.contains("input_rule")) return reduced(image, 1024);
        const Json& rule = json_.at("input_rule");
        if (!rule.at("stretch").is_null())
            throw std::runtime_error("the caller has to stretch images by OpenCV's INTER_AREA, which this program does not");
        if (rule.value("multiple", 1) != 1 || (rule.at("filter") != "lanczos" && rule.at("filter") != "none"))
            throw std::runtime_error("the caller has to resize images by its network's authors' rule, which this program does not");
        return rule.at("max_side").is_null() ? image : reduced(image, rule.at("max_side"));
    }

    int64_t holding(const char* sides, int least) const {
        for (const int64_t side : profile().at(sides))
            if (side >= least) return side;
        throw std::runtime_error("the image is larger than the model's largest shape");
    }

    Json json_;
};

}  // namespace gloam
