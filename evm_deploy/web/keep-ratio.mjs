// Fits an image into a box, keeping its ratio, as OpenCV does: each bit is that of its INTER_LINEAR.

/** {height, width} that an image gets, as large as fits into (rows, columns). */
export function fittedSize({ height, width }, rows, columns) {
  const factor = Math.min(rows / height, columns / width);
  const side = (length) => Math.max(1, Math.floor(length * factor + 0.5));
  return { height: side(height), width: side(width) };
}

/** `image` {width, height, data: RGB bytes} resized to {height, width}. */
export function resizedBilinear(image, { height, width }) {
  if (image.height === height && image.width === width) return image;
  const down = neighbours(image.height, height);
  const across = neighbours(image.width, width);
  const data = new Uint8ClampedArray(height * width * 3);
  const at = (row, { first, second, near, far }, channel) =>
    (image.data[(row * image.width + first) * 3 + channel] * near + image.data[(row * image.width + second) * 3 + channel] * far) >> 4;
  let to = 0;
  for (const row of down) {
    for (const column of across) {
      for (let channel = 0; channel < 3; channel++) {
        const upper = (at(row.first, column, channel) * row.near) >> 16;
        const lower = (at(row.second, column, channel) * row.far) >> 16;
        data[to++] = (upper + lower + 2) >> 2;
      }
    }
  }
  return { width, height, data: new Uint8Array(data.buffer) };
}

/** Of each new place the two old ones that it lies between, and their weights in 11 bits. */
function neighbours(length, count) {
  const scale = 1 / (count / length); // rounded twice, as OpenCV does
  return Array.from({ length: count }, (_, place) => {
    const at = Math.fround((place + 0.5) * scale - 0.5);
    const before = Math.floor(at);
    const share = Math.fround(at - before);
    const inside = (old) => Math.min(Math.max(old, 0), length - 1);
    return { first: inside(before), second: inside(before + 1), near: weight(Math.fround(1 - share)), far: weight(share) };
  });
}

/** Rounded to the nearest; halves to the even one. */
function weight(share) {
  const exact = Math.fround(share * 2048);
  const low = Math.floor(exact);
  const rest = exact - low;
  return rest === 0.5 ? low + (low % 2) : Math.round(exact);
}
