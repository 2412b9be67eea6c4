// JPEG files, where libjpeg was found.
#ifdef EVM_JPEG
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

#include <jerror.h>

#include "image.hpp"

namespace evm {
namespace {

struct Reader {
  jpeg_decompress_struct info = {};
  jpeg_error_mgr manager = {};
  std::jmp_buf back = {};
  char message[JMSG_LENGTH_MAX] = {};
  Image image;

  ~Reader() { jpeg_destroy_decompress(&info); }
};

void fail(j_common_ptr info) {
  auto* reader = static_cast<Reader*>(info->client_data);
  info->err->format_message(info, reader->message);
  std::longjmp(reader->back, 1);
}

void heed(j_common_ptr info, int level) {  // a file that ends early is a damaged one; other remarks are let pass
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) fail(info);
}

// False after a jump. What a jump leaves behind lies in `reader`, which outlives it.
bool read_header(Reader& reader, const Bytes& data) {
  if (setjmp(reader.back)) return false;
  jpeg_create_decompress(&reader.info);
  jpeg_mem_src(&reader.info, data.data(), static_cast<unsigned long>(data.size()));
  jpeg_save_markers(&reader.info, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&reader.info, TRUE);
  reader.info.out_color_space = JCS_RGB;
  return true;
}

bool read_pixels(Reader& reader) {
  if (setjmp(reader.back)) return false;
  jpeg_start_decompress(&reader.info);
  while (reader.info.output_scanline < reader.info.output_height) {
    JSAMPROW row = reader.image.rgb.data() + size_t{reader.info.output_scanline} * reader.info.output_width * 3;
    jpeg_read_scanlines(&reader.info, &row, 1);
  }
  jpeg_finish_decompress(&reader.info);
  return true;
}

}  // namespace

Image decode_jpeg(const Bytes& data, int& orientation) {
  Reader reader;
  reader.info.err = jpeg_std_error(&reader.manager);
  reader.info.client_data = &reader;
  reader.manager.error_exit = fail;
  reader.manager.emit_message = heed;
  bool read = read_header(reader, data);
  if (read) {
    const jpeg_decompress_struct& info = reader.info;
    if (info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK) throw Error("a JPEG file in CMYK");
    for (auto marker = info.marker_list; marker && orientation == 1; marker = marker->next)
      if (marker->data_length > 6 && std::memcmp(marker->data, "Exif\0\0", 6) == 0)
        orientation = orientation_of(marker->data + 6, marker->data_length - 6);
    reader.image = blank(info.image_width, info.image_height);
    read = read_pixels(reader);
  }
  if (!read) throw Error(std::string("a damaged JPEG file (") + reader.message + ")");
  return std::move(reader.image);
}

}  // namespace evm
#endif
