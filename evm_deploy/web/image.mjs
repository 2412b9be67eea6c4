// From an image file to RGB bytes: upright, alpha dropped, colours as they are in the file.

import { transparentPng } from "./png.mjs";

const MOST_BYTES = 256 << 20;
const MOST_PIXELS = 64_000_000;
const STRIP = 256; // rows; phones refuse a canvas as large as their photographs

/** Decodes a Blob to {width, height, data}. Rejects with a sentence that says what is wrong with it. */
export async function decoded(blob) {
  if (blob.size > MOST_BYTES) throw new Error("the file has more than 256 megabytes: choose an image");
  return (await transparentPng(blob)) ?? read(await bitmap(blob));
}

async function bitmap(blob) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  let picture;
  try {
    picture = await createImageBitmap(blob, options);
  } catch {
    throw new Error("this file is not an image that this browser reads: choose a PNG or JPEG");
  }
  if (picture.width * picture.height > MOST_PIXELS) {
    picture.close();
    throw new Error("the image has more than 64 megapixels: make it smaller first");
  }
  return picture;
}

function read(picture) {
  const { width, height } = picture;
  const canvas = Object.assign(document.createElement("canvas"), { width, height: Math.min(STRIP, height) });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const data = new Uint8Array(width * height * 3);
  for (let top = 0, to = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top);
    context.clearRect(0, 0, width, STRIP);
    context.drawImage(picture, 0, top, width, rows, 0, 0, width, rows);
    const strip = context.getImageData(0, 0, width, rows).data;
    for (let at = 0; at < strip.length; at += 4) {
      data[to++] = strip[at];
      data[to++] = strip[at + 1];
      data[to++] = strip[at + 2];
    }
  }
  picture.close();
  return { width, height, data };
}
