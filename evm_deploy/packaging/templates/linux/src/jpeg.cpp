// JPEG files, where libjpeg was found: as Pillow gives them in RGB, those of four inks too.
#ifdef EVM_JPEG
#include <algorithm>
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
  Bytes inks;  // a row of four inks
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
  const int channels = reader.info.num_components;
  if (channels != 1 && channels != 3 && channels != 4) ERREXIT(&reader.info, JERR_CONVERSION_NOTIMPL);
  reader.info.out_color_space = channels == 4 ? JCS_CMYK : JCS_RGB;
  return true;
}

// Of cyan, magenta, yellow and black, each as much light as it lets pass: what Adobe writes, and Pillow takes for granted.
void mix(const Bytes& inks, uint8_t* rgb) {
  for (size_t at = 0; at < inks.size(); at += 4)
    for (size_t c = 0; c < 3; ++c) {
      const int product = (255 - inks[at + c]) * inks[at + 3] + 128;
      *rgb++ = static_cast<uint8_t>(std::max(inks[at + 3] - ((product >> 8) + product) / 256, 0));
    }
}

bool read_pixels(Reader& reader) {
  if (setjmp(reader.back)) return false;
  jpeg_start_decompress(&reader.info);
  while (reader.info.output_scanline < reader.info.output_height) {
    uint8_t* rgb = reader.image.rgb.data() + size_t{reader.info.output_scanline} * reader.info.output_width * 3;
    JSAMPROW row = reader.inks.empty() ? rgb : reader.inks.data();
    jpeg_read_scanlines(&reader.info, &row, 1);
    if (!reader.inks.empty()) mix(reader.inks, rgb);
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
    bool found = false;  // the first EXIF counts
    for (auto marker = info.marker_list; marker && !found; marker = marker->next) {
      found = marker->data_length >= 6 && std::memcmp(marker->data, "Exif\0\0", 6) == 0;
      if (found) orientation = orientation_of(marker->data + 6, marker->data_length - 6);
    }
    reader.image = blank(info.image_width, info.image_height);
    if (info.out_color_space == JCS_CMYK) reader.inks.resize(size_t{info.image_width} * 4);
    read = read_pixels(reader);
  }
  if (!read) throw Error(std::string("a damaged JPEG file (") + reader.message + ")");
  return std::move(reader.image);
}

}  // namespace evm
#endif
