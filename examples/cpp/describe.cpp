// describe MODEL.onnx [IMAGE.jpg|IMAGE.ppm ...]: reads the model's card, runs its self-test, prints a line of JSON an image.
//
// By ONNX Runtime's C API alone, so any version of the library from the header's on serves.

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include <onnxruntime_c_api.h>

#include "card.hpp"
#include "image.hpp"
#include "lines.hpp"

namespace {

const OrtApi* api() {
    static const OrtApi* found = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (found == nullptr)
        throw std::runtime_error("the library " + std::string(OrtGetApiBase()->GetVersionString()) +
                                 " is older than the header that this program was built with");
    return found;
}

void check(OrtStatus* status) {
    if (status == nullptr) return;
    const std::string message = api()->GetErrorMessage(status);
    api()->ReleaseStatus(status);
    throw std::runtime_error(message.substr(0, message.find('\n')));
}

template <typename T, typename Release> auto owned(T* value, Release release) {
    return std::unique_ptr<T, Release>(value, release);
}

class Model {
public:
    explicit Model(const std::string& path) : card_(read(path)) {}

    const gloam::Card& card() const { return card_; }

    // Descriptors of a batch, in C order.
    std::vector<float> operator()(const gloam::Batch& batch) const {
        OrtMemoryInfo* memory = nullptr;
        check(api()->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
        const auto kept = owned(memory, api()->ReleaseMemoryInfo);
        const int64_t shape[] = {batch.count, batch.height, batch.width, 3}, of_sizes[] = {batch.count, 2};
        OrtValue *images = nullptr, *sizes = nullptr, *output = nullptr;
        check(api()->CreateTensorWithDataAsOrtValue(memory, const_cast<uint8_t*>(batch.images.data()), batch.images.size(),
                                                    shape, 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &images));
        const auto first = owned(images, api()->ReleaseValue);
        check(api()->CreateTensorWithDataAsOrtValue(memory, const_cast<int32_t*>(batch.sizes.data()),
                                                    batch.sizes.size() * sizeof(int32_t), of_sizes, 2,
                                                    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, &sizes));
        const auto second = owned(sizes, api()->ReleaseValue);
        const char* names[] = {"images", "sizes"};
        const OrtValue* inputs[] = {images, sizes};
        const std::string name = card_.output();
        const char* wanted[] = {name.c_str()};
        check(api()->Run(session_.get(), nullptr, names, inputs, card_.fixed() ? 2 : 1, wanted, 1, &output));
        const auto third = owned(output, api()->ReleaseValue);
        float* values = nullptr;
        check(api()->GetTensorMutableData(output, reinterpret_cast<void**>(&values)));
        OrtTensorTypeAndShapeInfo* info = nullptr;
        check(api()->GetTensorTypeAndShape(output, &info));
        const auto fourth = owned(info, api()->ReleaseTensorTypeAndShapeInfo);
        size_t count = 0;
        check(api()->GetTensorShapeElementCount(info, &count));
        if (count != size_t(batch.count * card_.dimension())) throw std::runtime_error("an output that its card does not state");
        return {values, values + count};
    }

private:
    // Opens the session, and gives the text of its card.
    std::string read(const std::string& path) {
        OrtEnv* env = nullptr;
        OrtSessionOptions* options = nullptr;
        OrtSession* session = nullptr;
        OrtModelMetadata* metadata = nullptr;
        OrtAllocator* allocator = nullptr;
        char* text = nullptr;
        check(api()->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "gloam", &env));
        env_.reset(env);
        check(api()->CreateSessionOptions(&options));
        const auto kept = owned(options, api()->ReleaseSessionOptions);
        check(api()->CreateSession(env, path.c_str(), options, &session));
        session_.reset(session);
        check(api()->SessionGetModelMetadata(session, &metadata));
        const auto facts = owned(metadata, api()->ReleaseModelMetadata);
        check(api()->GetAllocatorWithDefaultOptions(&allocator));
        check(api()->ModelMetadataLookupCustomMetadataMap(metadata, allocator, "gloam.card", &text));
        if (text == nullptr) throw std::runtime_error("an ONNX file without a gloam model card; export it with gloam export");
        const std::string card = text;
        check(api()->AllocatorFree(allocator, text));
        return card;
    }

    struct Release {
        void operator()(OrtEnv* env) const { api()->ReleaseEnv(env); }
        void operator()(OrtSession* session) const { api()->ReleaseSession(session); }
    };
    std::unique_ptr<OrtEnv, Release> env_;  // before the session, which it outlives
    std::unique_ptr<OrtSession, Release> session_;
    gloam::Card card_;
};

}  // namespace

int main(int count, char** words) {
    return gloam::describe_lines<Model>("describe", "MODEL.onnx", count, words);
}
