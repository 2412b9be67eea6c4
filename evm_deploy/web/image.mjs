// From an image file to RGB bytes: upright, alpha dropped, colours as they are in the file, or a refusal.

import { orientationOf, upright } from "./exif.mjs";
import { plainJpeg } from "./jpeg.mjs";
import { checkSize, damaged } from "./limits.mjs";
import { readPng } from "./png.mjs";
import { plainWebp } from "./webp.mjs";

const MOST_BYTES = 512 << 20;
const STRIP = 256; // rows; phones refuse a canvas as large as their photographs

const KINDS = [
  { at: 0, magic: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], read: readPng },
  { at: 0, magic: [0xff, 0xd8, 0xff], read: (bytes) => browsers(plainJpeg(bytes), "image/jpeg") },
  { at: 8, magic: [0x57, 0x45, 0x42, 0x50], read: (bytes) => browsers(plainWebp(bytes), "image/webp") },
  { at: 0, magic: [0x47, 0x49, 0x46, 0x38], read: (bytes) => browsers({ bytes }, "image/gif") },
  { at: 0, magic: [0x42, 0x4d], read: (bytes) => browsers({ bytes }, "image/bmp") },
];

/** Decodes a Blob to {width, height, data}. Rejects with a sentence that says what is wrong with it. */
export async function decoded(blob) {
  if (blob.size > MOST_BYTES) throw new Error("the file has more than 512 megabytes: choose an image");
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const kind = KINDS.find(({ at, magic }) => magic.every((value, place) => bytes[at + place] === value));
  if (!kind) throw new Error("this file is not an image that this page reads: choose a PNG or JPEG");
  const picture = await kind.read(bytes);
  return upright(picture, orientationOf(picture.exif));
}

/** Has the browser decode `bytes`, which have neither profile nor orientation. */
async function browsers({ bytes, exif = new Uint8Array(0) }, type) {
  const options = { imageOrientation: "none", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const picture = await createImageBitmap(new Blob([bytes], { type }), options).catch(() => {
    throw damaged();
  });
  try {
    checkSize(picture.width, picture.height);
    return { ...read(picture), exif };
  } finally {
    picture.close();
  }
}

/** A canvas multiplies colours by alpha: what is not opaque has lost some, and rows that are missing are clear. */
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
      if (strip[at + 3] !== 255) throw new Error("the image is transparent or damaged: save it as PNG");
      data[to++] = strip[at];
      data[to++] = strip[at + 1];
      data[to++] = strip[at + 2];
    }
  }
  return { width, height, data };
}
