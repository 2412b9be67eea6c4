// PNG files, where libpng was found: as Pillow gives them in RGB, that is without gamma and with alpha dropped.
#ifdef EVM_PNG
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "image.hpp"

namespace evm {
namespace {

struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  const Bytes& data;
  size_t at = 0;
  std::string message;
  Image image;
  std::vector<uint8_t*> rows;

  explicit Reader(const Bytes& bytes) : data(bytes) {}
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

void fail(png_structp png, png_const_charp message) {
  static_cast<Reader*>(png_get_error_ptr(png))->message = message;
  png_longjmp(png, 1);
}

void ignore(png_structp, png_const_charp) {}

void give(png_structp png, png_bytep to, size_t count) {
  auto* reader = static_cast<Reader*>(png_get_io_ptr(png));
  if (count > reader->data.size() - reader->at) png_error(png, "cut off");
  std::memcpy(to, reader->data.data() + reader->at, count);
  reader->at += count;
}

// False after a jump. What a jump leaves behind lies in `reader`, which outlives it.
bool read_header(Reader& reader) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_set_read_fn(reader.png, &reader, give);
  png_set_crc_action(reader.png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_read_info(reader.png, reader.info);
  return true;
}

bool read_pixels(Reader& reader, int& orientation) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_set_expand(reader.png);
  png_set_strip_16(reader.png);
  png_set_gray_to_rgb(reader.png);
  png_set_strip_alpha(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  if (png_get_rowbytes(reader.png, reader.info) != static_cast<size_t>(reader.image.width) * 3)
    png_error(reader.png, "of another kind");
  png_read_image(reader.png, reader.rows.data());
  png_read_end(reader.png, reader.info);
#ifdef PNG_eXIf_SUPPORTED
  png_uint_32 size = 0;
  png_bytep block = nullptr;
  if (png_get_eXIf_1(reader.png, reader.info, &size, &block)) orientation = orientation_of(block, size);
#endif
  return true;
}

}  // namespace

Image decode_png(const Bytes& data, int& orientation) {
  Reader reader(data);
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, fail, ignore);
  reader.info = reader.png ? png_create_info_struct(reader.png) : nullptr;
  if (!reader.info) throw Error("libpng cannot be used");
  bool read = read_header(reader);
  if (read) {
    reader.image = blank(png_get_image_width(reader.png, reader.info), png_get_image_height(reader.png, reader.info));
    for (size_t y = 0; y < static_cast<size_t>(reader.image.height); ++y)
      reader.rows.push_back(reader.image.rgb.data() + y * static_cast<size_t>(reader.image.width) * 3);
    read = read_pixels(reader, orientation);
  }
  if (!read) throw Error("a damaged PNG file (" + reader.message + ")");
  return std::move(reader.image);
}

}  // namespace evm
#endif
