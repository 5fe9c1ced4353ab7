// describe_tensorrt ENGINE_FOLDER [IMAGE.jpg|IMAGE.ppm ...]: the same as describe.cpp by an engine of `gloam engine`.
//
// The folder holds the plan, model.engine, and its card, model.json, which has the model's card inside. TensorRT 10 or 11.
// Never compiled or run where it was written, for want of NVIDIA's headers and of a GPU.

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include "card.hpp"
#include "image.hpp"
#include "lines.hpp"

namespace {

class Logger : public nvinfer1::ILogger {
    void log(Severity severity, const char* message) noexcept override {
        if (severity <= Severity::kERROR) std::fprintf(stderr, "TensorRT: %s\n", message);
    }
};

void check(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

void expect(bool good, const char* what) {
    if (!good) throw std::runtime_error(std::string("TensorRT refused ") + what);
}

// Bytes on the GPU.
class Buffer {
public:
    explicit Buffer(size_t size) { check(cudaMalloc(&address_, size)); }
    Buffer(const Buffer&) = delete;
    ~Buffer() { cudaFree(address_); }
    void* get() const { return address_; }

private:
    void* address_ = nullptr;
};

gloam::Json engine_card(const std::string& folder) {
    const std::vector<uint8_t> bytes = gloam::read_file(folder + "/model.json");
    const gloam::Json card = gloam::Json::parse(bytes.begin(), bytes.end());
    if (card.value("schema", 0) != 1) throw std::runtime_error("an engine card of another schema; this program reads 1");
    return card;
}

// The card of the model inside, narrowed to the sides and batches that the engine was built for.
std::string narrowed(const gloam::Json& engine) {
    gloam::Json card = engine.at("model");
    const gloam::Json& key = engine.at("key");
    for (const char* sides : {"heights", "widths"}) card["profile"][sides] = key.at(sides);
    const auto built = [&](const char* sides, int64_t side) {
        const std::vector<int64_t> all = key.at(sides);
        return std::find(all.begin(), all.end(), side) != all.end();
    };
    for (const char* test : {"selftest_larger", "selftest"}) {
        if (!card.contains(test) || card[test].is_null()) continue;
        const std::array<int64_t, 3> shape = card[test].at("shape");
        if (!built("heights", shape[1]) || !built("widths", shape[2]) || shape[0] > key.at("batch").at(2)) card[test] = nullptr;
    }
    return card.dump();
}

class Engine {
public:
    explicit Engine(const std::string& folder) : engine_card_(engine_card(folder)), card_(narrowed(engine_card_)) {
        const std::vector<uint8_t> plan = gloam::read_file(folder + "/model.engine");
        runtime_.reset(nvinfer1::createInferRuntime(logger_));
        expect(runtime_ != nullptr, "to start");
        engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
        expect(engine_ != nullptr, "the engine; it is of one version and one GPU, build it again here");
        context_.reset(engine_->createExecutionContext());
        expect(context_ != nullptr, "an execution context");
        check(cudaStreamCreate(&stream_));
    }

    Engine(const Engine&) = delete;
    ~Engine() { cudaStreamDestroy(stream_); }

    const gloam::Card& card() const { return card_; }

    // Descriptors of a batch, in C order.
    std::vector<float> operator()(const gloam::Batch& given) const {
        gloam::Batch batch = given;
        const int64_t least = engine_card_.at("key").at("batch").at(0), image = batch.height * batch.width * 3;
        for (; batch.count < least; ++batch.count) {  // the last image again, where the engine takes no batch as small
            batch.images.insert(batch.images.end(), given.images.end() - image, given.images.end());
            batch.sizes.insert(batch.sizes.end(), given.sizes.end() - 2, given.sizes.end());
        }
        expect(context_->setOptimizationProfileAsync(profile(batch), stream_), "the optimisation profile");
        const Buffer images(batch.images.size()), sizes(batch.sizes.size() * sizeof(int32_t));
        std::vector<float> found(batch.count * card_.dimension());
        const Buffer descriptors(found.size() * sizeof(float));
        check(cudaMemcpyAsync(images.get(), batch.images.data(), batch.images.size(), cudaMemcpyHostToDevice, stream_));
        expect(context_->setInputShape("images", nvinfer1::Dims4(batch.count, batch.height, batch.width, 3)), "the images");
        expect(context_->setTensorAddress("images", images.get()), "the images");
        if (card_.fixed()) {
            check(cudaMemcpyAsync(sizes.get(), batch.sizes.data(), batch.sizes.size() * sizeof(int32_t),
                                  cudaMemcpyHostToDevice, stream_));
            expect(context_->setInputShape("sizes", nvinfer1::Dims2(batch.count, 2)), "the sizes");
            expect(context_->setTensorAddress("sizes", sizes.get()), "the sizes");
        }
        expect(context_->setTensorAddress(card_.output().c_str(), descriptors.get()), "the output");
        expect(context_->enqueueV3(stream_), "to run");
        check(cudaMemcpyAsync(found.data(), descriptors.get(), found.size() * sizeof(float), cudaMemcpyDeviceToHost, stream_));
        check(cudaStreamSynchronize(stream_));
        found.resize(given.count * card_.dimension());
        return found;
    }

private:
    int32_t profile(const gloam::Batch& batch) const {
        for (int32_t at = 0; at < engine_->getNbOptimizationProfiles(); ++at) {
            const nvinfer1::Dims most = engine_->getProfileShape("images", at, nvinfer1::OptProfileSelector::kMAX);
            if (most.d[1] == batch.height && most.d[2] == batch.width && most.d[0] >= batch.count) return at;
        }
        throw std::runtime_error("the engine has no shape of " + std::to_string(batch.width) + "x" +
                                 std::to_string(batch.height) + " for " + std::to_string(batch.count) + " images");
    }

    Logger logger_;
    gloam::Json engine_card_;
    gloam::Card card_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    cudaStream_t stream_ = nullptr;
};

}  // namespace

int main(int count, char** words) {
    return gloam::describe_lines<Engine>("describe_tensorrt", "ENGINE_FOLDER", count, words);
}
