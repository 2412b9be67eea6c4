// Pillow's resize of 8-bit RGB, to the bit, of a part of the result and of no more: first each row, then each column.

const BITS = 22; // of a weight's fraction, as Pillow has them
const HALF = 1 << (BITS - 1);

/** What makes the weights of each interpolation; all but the first are antialiased. */
export const INTERPOLATIONS = {
  nearest,
  bilinear: filtered(1, triangle),
  bicubic: filtered(2, bicubic),
  lanczos: filtered(3, lanczos),
};

/**
 * `image` {width, height, data: RGB bytes} resized to `size`, and of that the part {top, left, height, width}, which
 * lies in it. `size` is {height, width}.
 */
export function resizedPart(image, size, part, interpolation) {
  const weights = INTERPOLATIONS[interpolation];
  const rows = weights(image.height, size.height, part.top, part.height);
  const columns = weights(image.width, size.width, part.left, part.width);
  const first = rows.start[0];
  const last = Math.max(...rows.start.map((start, at) => start + rows.taps[at].length));
  const narrow = horizontal(image, columns, first, last);
  return { width: part.width, height: part.height, data: vertical(narrow, part.width, rows, first) };
}

/** For each of `count` places of the output from `from` on: its first place of the input, and its weights. */
function filtered(reach, filter) {
  return (inputs, outputs, from, count) => {
    const scale = inputs / outputs;
    const stretch = Math.max(scale, 1);
    const support = reach * stretch;
    const start = [];
    const taps = [];
    for (let place = from; place < from + count; place++) {
      const centre = (place + 0.5) * scale;
      const least = Math.max(Math.trunc(centre - support + 0.5), 0);
      const most = Math.min(Math.trunc(centre + support + 0.5), inputs);
      const row = [];
      let sum = 0;
      for (let at = least; at < most; at++) {
        row.push(filter((at - centre + 0.5) * (1 / stretch)));
        sum += row.at(-1);
      }
      start.push(least);
      taps.push(Int32Array.from(row, (weight) => fixed(sum === 0 ? weight : weight / sum)));
    }
    return { start, taps };
  };
}

/** Places are summed, as Pillow does it, which rounds otherwise than a product. */
function nearest(inputs, outputs, from, count) {
  const scale = inputs / outputs;
  const start = [];
  let at = scale * 0.5;
  for (let place = 0; place < from + count; place++, at += scale) {
    if (place >= from) start.push(Math.min(Math.trunc(at), inputs - 1));
  }
  return { start, taps: start.map(() => Int32Array.of(1 << BITS)) };
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

function triangle(distance) {
  const x = Math.abs(distance);
  return x < 1 ? 1 - x : 0;
}

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0;
}

function lanczos(distance) {
  return distance >= -3 && distance < 3 ? sinc(distance) * sinc(distance / 3) : 0;
}

function sinc(distance) {
  if (distance === 0) return 1;
  const x = distance * Math.PI;
  return Math.sin(x) / x;
}

function fixed(weight) {
  return Math.trunc(weight * (1 << BITS) + (weight < 0 ? -0.5 : 0.5));
}

function byte(sum) {
  const value = sum >> BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}
