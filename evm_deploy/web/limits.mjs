// What is refused before it is decoded.

const MOST_PIXELS = 64_000_000;

/** Throws for an image of more pixels than 64 million. */
export function checkSize(width, height) {
  if (width * height > MOST_PIXELS) throw new Error("the image has more than 64 megapixels: make it smaller first");
}

export const damaged = () => new Error("the image is damaged: copy or save it again");
