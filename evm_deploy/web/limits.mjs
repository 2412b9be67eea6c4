// What is refused before it is decoded.

const MOST_PIXELS = 64_000_000;

/** Throws for an image, as it is or resized, of more pixels than 64 million. */
export function checkSize(width, height) {
  if (width * height > MOST_PIXELS) throw new Error("the image has more than 64 megapixels, or would be resized to as many: make it smaller, or crop it, first");
}

export const damaged = () => new Error("the image is damaged: copy or save it again");
