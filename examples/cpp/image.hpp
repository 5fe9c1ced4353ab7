// Pixels as gloam sees them: JPEG by libjpeg-turbo, upright by EXIF; PPM; Pillow's LANCZOS, to the last bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <jpeglib.h>
#include <jerror.h>

namespace gloam {

constexpr int SMALLEST_SIDE = 32;
constexpr int64_t MOST_PIXELS = 120'000'000;

struct Image {
    int width = 0, height = 0;
    std::vector<uint8_t> pixels;  // RGB, rows from the top
};

inline void expect_size(int64_t width, int64_t height) {
    if (width < 1 || height < 1 || width * height > MOST_PIXELS)
        throw std::runtime_error("an image of " + std::to_string(width) + "x" + std::to_string(height) + " px");
}

inline std::vector<uint8_t> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file || bytes.empty()) throw std::runtime_error("cannot be read, or is empty");
    return bytes;
}

// The orientation that an APP1 segment of a JPEG states, 1 to 8; 1 where it states none.
inline int exif_orientation(const uint8_t* data, size_t size) {
    if (size < 14 || std::memcmp(data, "Exif\0\0", 6) != 0) return 1;
    const uint8_t* tiff = data + 6;
    const size_t length = size - 6;
    const bool big = tiff[0] == 'M';
    const auto number = [&](size_t at, int bytes) -> uint32_t {
        uint32_t value = 0;
        for (int i = 0; i < bytes; ++i) value |= uint32_t(tiff[at + i]) << 8 * (big ? bytes - 1 - i : i);
        return value;
    };
    const size_t directory = number(4, 4);
    if (directory + 2 > length) return 1;
    const size_t entries = number(directory, 2);
    for (size_t at = directory + 2; at + 12 <= length && at < directory + 2 + 12 * entries; at += 12) {
        if (number(at, 2) != 0x0112) continue;
        const uint32_t orientation = number(at + 8, 2);
        return orientation >= 1 && orientation <= 8 ? int(orientation) : 1;
    }
    return 1;
}

// The picture as an EXIF orientation says that it is seen.
inline Image turned(const Image& image, int orientation) {
    if (orientation == 1) return image;
    const bool swapped = orientation >= 5;
    Image upright{swapped ? image.height : image.width, swapped ? image.width : image.height, {}};
    upright.pixels.resize(image.pixels.size());
    const bool right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    for (int y = 0; y < upright.height; ++y)
        for (int x = 0; x < upright.width; ++x) {
            int column = swapped ? y : x, row = swapped ? x : y;
            if (right) column = image.width - 1 - column;
            if (bottom) row = image.height - 1 - row;
            std::copy_n(&image.pixels[(size_t(row) * image.width + column) * 3], 3,
                        &upright.pixels[(size_t(y) * upright.width + x) * 3]);
        }
    return upright;
}

struct JpegErrors {
    jpeg_error_mgr manager;
    std::jmp_buf back;
    bool truncated;
};

// Unpacks into `image`, which lives outside of what an error jumps over; false with a reason where that fails.
inline bool unpack(jpeg_decompress_struct& jpeg, JpegErrors& errors, Image& image, int& orientation, char* reason) {
    if (setjmp(errors.back) != 0) {
        errors.manager.format_message(reinterpret_cast<j_common_ptr>(&jpeg), reason);
        return false;
    }
    jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&jpeg, TRUE);
    if (int64_t(jpeg.image_width) * jpeg.image_height > MOST_PIXELS) {
        std::snprintf(reason, JMSG_LENGTH_MAX, "more than %lld pixels", static_cast<long long>(MOST_PIXELS));
        return false;
    }
    if (jpeg.num_components == 4) {
        std::snprintf(reason, JMSG_LENGTH_MAX, "a JPEG of four inks, which this program does not mix; convert it to RGB");
        return false;
    }
    for (auto marker = jpeg.marker_list; marker != nullptr && orientation == 1; marker = marker->next)
        orientation = exif_orientation(marker->data, marker->data_length);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);  // libjpeg-turbo's defaults: JDCT_ISLOW, fancy upsampling
    image.width = int(jpeg.output_width);
    image.height = int(jpeg.output_height);
    image.pixels.resize(size_t(image.width) * image.height * 3);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = &image.pixels[size_t(jpeg.output_scanline) * image.width * 3];
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    return !errors.truncated;
}

inline Image decode_jpeg(const std::vector<uint8_t>& bytes, bool upright) {
    Image image;
    int orientation = 1;
    char reason[JMSG_LENGTH_MAX] = "corrupt or truncated";
    jpeg_decompress_struct jpeg;
    JpegErrors errors{};
    jpeg.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = [](j_common_ptr info) { std::longjmp(reinterpret_cast<JpegErrors*>(info->err)->back, 1); };
    errors.manager.emit_message = [](j_common_ptr info, int level) {
        const int code = info->err->msg_code;
        if (level < 0 && (code == JWRN_HIT_MARKER || code == JWRN_JPEG_EOF))
            reinterpret_cast<JpegErrors*>(info->err)->truncated = true;
    };
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, bytes.data(), bytes.size());
    const bool good = unpack(jpeg, errors, image, orientation, reason);
    jpeg_destroy_decompress(&jpeg);
    if (!good) throw std::runtime_error(reason);
    return upright ? turned(image, orientation) : image;
}

// A binary PPM of 8 bits: pixels that no decoder touches.
inline Image decode_ppm(const std::vector<uint8_t>& bytes) {
    int width = 0, height = 0, most = 0, begin = 0;
    const std::string head(bytes.begin(), bytes.begin() + std::min<size_t>(bytes.size(), 64));
    if (std::sscanf(head.c_str(), "P6 %d %d %d%n", &width, &height, &most, &begin) != 3 || most != 255)
        throw std::runtime_error("no binary PPM of 8 bits");
    expect_size(width, height);
    const size_t size = size_t(width) * height * 3;
    if (bytes.size() < begin + 1 + size) throw std::runtime_error("corrupt or truncated");
    return {width, height, {bytes.begin() + begin + 1, bytes.begin() + begin + 1 + std::ptrdiff_t(size)}};
}

inline Image decode(const std::string& path, bool upright) {
    const std::vector<uint8_t> bytes = read_file(path);
    if (bytes.size() > 2 && bytes[0] == 'P' && bytes[1] == '6') return decode_ppm(bytes);
    if (bytes.size() > 2 && bytes[0] == 0xFF && bytes[1] == 0xD8) return decode_jpeg(bytes, upright);
    throw std::runtime_error("neither JPEG nor binary PPM");
}

// One pass of Pillow's resizing: `lines` rows of `from` pixels, `step` bytes from pixel to pixel, to `to` pixels.
inline std::vector<uint8_t> lanczos_pass(const std::vector<uint8_t>& source, int from, int to, int lines, bool across) {
    constexpr int BITS = 22;  // weights are whole numbers of 2^-22, as Pillow's
    const auto sinc = [](double x) { return x == 0 ? 1.0 : std::sin(x * M_PI) / (x * M_PI); };
    const double scale = double(from) / to, support = 3 * std::max(scale, 1.0), shrink = 1 / std::max(scale, 1.0);
    std::vector<uint8_t> made(size_t(to) * lines * 3);
    std::vector<double> weights;
    std::vector<int> whole;
    for (int at = 0; at < to; ++at) {
        const double centre = (at + 0.5) * scale;
        const int first = std::max(int(centre - support + 0.5), 0), last = std::min(int(centre + support + 0.5), from);
        weights.assign(last - first, 0);
        double sum = 0;
        for (int i = 0; i < last - first; ++i) {
            const double x = (i + first - centre + 0.5) * shrink;
            sum += weights[i] = -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0;
        }
        whole.clear();
        for (const double weight : weights) {
            const double share = weight / sum * (1 << BITS);
            whole.push_back(int(share < 0 ? share - 0.5 : share + 0.5));
        }
        for (int line = 0; line < lines; ++line)
            for (int c = 0; c < 3; ++c) {
                int total = 1 << (BITS - 1);
                for (int i = first; i < last; ++i) {
                    const size_t pixel = across ? size_t(line) * from + i : size_t(i) * lines + line;
                    total += source[pixel * 3 + c] * whole[i - first];
                }
                const size_t pixel = across ? size_t(line) * to + at : size_t(at) * lines + line;
                made[pixel * 3 + c] = uint8_t(std::clamp(total >> BITS, 0, 255));
            }
    }
    return made;
}

// An image whose longer side is at most `most`, as Pillow's thumbnail reduces it by LANCZOS.
inline Image reduced(const Image& image, int most) {
    if (std::max(image.width, image.height) <= most) return image;
    const bool wide = image.width >= image.height;
    const double aspect = double(image.width) / image.height;
    const double side = double(most) * std::min(image.width, image.height) / std::max(image.width, image.height);
    const int low = std::max(int(std::floor(side)), 1), high = int(std::ceil(side));
    const auto off = [&](int other) { return std::fabs(aspect - (wide ? double(most) / other : double(other) / most)); };
    const int other = off(low) <= off(high) ? low : high;
    Image small{wide ? most : other, wide ? other : most, image.pixels};
    if (small.width != image.width)
        small.pixels = lanczos_pass(small.pixels, image.width, small.width, image.height, true);
    if (small.height != image.height)
        small.pixels = lanczos_pass(small.pixels, image.height, small.height, small.width, false);
    return small;
}

}  // namespace gloam
