// Pillow's antialiased bicubic resize of 8-bit RGB, to the bit, of the centre that the crop keeps and of no more.
// Columns first, as Pillow does it up to 12; 13 may take rows first, which moves some bytes by one.

const BITS = 22; // of a weight's fraction, as Pillow has them
const HALF = 1 << (BITS - 1);

/** The size (height, width) that `height` x `width` is resized to, to cover `cover` (height, width). */
export function covering(height, width, [coverHeight, coverWidth]) {
  return coverWidth * height >= coverHeight * width
    ? [Math.floor((coverWidth * height) / width), coverWidth]
    : [coverHeight, Math.floor((coverHeight * width) / height)];
}

/** `image` {width, height, data: RGB bytes} resized to `size` and cut to its centre of `crop`, both (height, width). */
export function resizedCentre(image, size, crop) {
  const top = halfEven((size[0] - crop[0]) / 2);
  const left = halfEven((size[1] - crop[1]) / 2);
  const rows = weights(image.height, size[0], top, crop[0]);
  const columns = weights(image.width, size[1], left, crop[1]);
  const first = rows.start[0];
  const last = Math.max(...rows.start.map((start, at) => start + rows.taps[at].length));
  const narrow = horizontal(image, columns, first, last);
  return { width: crop[1], height: crop[0], data: vertical(narrow, crop[1], rows, first) };
}

/** For each of `count` places of the output from `from` on: its first place of the input, and its weights. */
function weights(inputs, outputs, from, count) {
  const scale = inputs / outputs;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  const start = [];
  const taps = [];
  for (let place = from; place < from + count; place++) {
    const centre = (place + 0.5) * scale;
    const least = Math.max(Math.trunc(centre - support + 0.5), 0);
    const most = Math.min(Math.trunc(centre + support + 0.5), inputs);
    const row = [];
    let sum = 0;
    for (let at = least; at < most; at++) {
      row.push(bicubic((at - centre + 0.5) * (1 / stretch)));
      sum += row.at(-1);
    }
    start.push(least);
    taps.push(Int32Array.from(row, (weight) => fixed(sum === 0 ? weight : weight / sum)));
  }
  return { start, taps };
}

function horizontal(image, columns, first, last) {
  const count = columns.start.length;
  const data = new Uint8Array((last - first) * count * 3);
  for (let y = first, to = 0; y < last; y++) {
    for (let x = 0; x < count; x++, to += 3) {
      const taps = columns.taps[x];
      let at = (y * image.width + columns.start[x]) * 3;
      let [red, green, blue] = [HALF, HALF, HALF];
      for (let tap = 0; tap < taps.length; tap++, at += 3) {
        red += image.data[at] * taps[tap];
        green += image.data[at + 1] * taps[tap];
        blue += image.data[at + 2] * taps[tap];
      }
      data[to] = byte(red);
      data[to + 1] = byte(green);
      data[to + 2] = byte(blue);
    }
  }
  return data;
}

function vertical(narrow, width, rows, first) {
  const stride = width * 3;
  const data = new Uint8Array(rows.start.length * stride);
  for (let y = 0; y < rows.start.length; y++) {
    const taps = rows.taps[y];
    for (let x = 0; x < stride; x++) {
      let sum = HALF;
      for (let tap = 0, at = (rows.start[y] - first) * stride + x; tap < taps.length; tap++, at += stride) {
        sum += narrow[at] * taps[tap];
      }
      data[y * stride + x] = byte(sum);
    }
  }
  return data;
}

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0;
}

function fixed(weight) {
  return Math.trunc(weight * (1 << BITS) + (weight < 0 ? -0.5 : 0.5));
}

function byte(sum) {
  const value = sum >> BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function halfEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor & 1) : Math.round(value);
}
