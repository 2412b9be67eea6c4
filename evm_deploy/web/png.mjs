// PNG files with transparency, read here: a canvas multiplies colours by alpha, and the colour below is lost.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // of a pixel, by type of colour
const DEPTHS = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const MOST_PIXELS = 64_000_000;

/** The {width, height, data} of a PNG that has alpha; null for any other file, and for one the browser must turn. */
export async function transparentPng(blob) {
  const head = new Uint8Array(await blob.slice(0, 8).arrayBuffer());
  if (head.length < 8 || SIGNATURE.some((value, at) => head[at] !== value)) return null;
  const chunks = split(new DataView(await blob.arrayBuffer()));
  const header = chunks && headerOf(chunks);
  if (!header || chunks.eXIf || !(chunks.tRNS || header.type === 4 || header.type === 6)) return null;
  const { width, height, interlaced } = header;
  if (width * height > MOST_PIXELS) throw new Error("the image has more than 64 megapixels: make it smaller first");
  const passes = interlaced ? PASSES : [[0, 0, 1, 1]];
  const parts = passes.map(([x, y, dx, dy]) => ({
    x, y, dx, dy, columns: Math.ceil((width - x) / dx), rows: Math.ceil((height - y) / dy),
  })).filter(({ columns, rows }) => columns > 0 && rows > 0);
  const length = parts.reduce((sum, { columns, rows }) => sum + rows * (1 + stride(header, columns)), 0);
  const lines = await inflated(chunks.IDAT ?? [], length);
  const data = new Uint8Array(width * height * 3);
  let at = 0;
  for (const part of parts) at = place(header, part, lines, at, data, chunks.PLTE?.[0]);
  return { width, height, data };
}

function split(view) {
  const chunks = {};
  for (let at = 8; at + 12 <= view.byteLength; ) {
    const length = view.getUint32(at);
    if (at + 12 + length > view.byteLength) return null; // cut off: the browser says so
    const name = String.fromCharCode(...[4, 5, 6, 7].map((place) => view.getUint8(at + place)));
    (chunks[name] ??= []).push(new Uint8Array(view.buffer, at + 8, length));
    at += 12 + length;
  }
  return chunks;
}

function headerOf({ IHDR }) {
  if (IHDR?.[0].length !== 13) return null;
  const bytes = IHDR[0];
  const view = new DataView(bytes.buffer, bytes.byteOffset, 13);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, type] = [bytes[8], bytes[9]];
  const known = DEPTHS[type]?.includes(depth) && width > 0 && height > 0 && bytes[12] < 2;
  return known ? { width, height, depth, type, interlaced: bytes[12] === 1 } : null;
}

const stride = ({ type, depth }, columns) => Math.ceil((columns * SAMPLES[type] * depth) / 8);

/** Exactly `length` bytes: a stream that promises less, or goes on, is damaged. */
async function inflated(parts, length) {
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const bytes = new Uint8Array(length);
  let at = 0;
  try {
    for (let step = await reader.read(); !step.done && at < length; step = await reader.read()) {
      bytes.set(step.value.subarray(0, length - at), at);
      at += Math.min(step.value.length, length - at);
    }
  } catch {
    at = -1;
  }
  reader.cancel().catch(() => {});
  if (at !== length) throw new Error("the image is damaged: copy or save it again");
  return bytes;
}

/** Undoes the filters of one pass and puts its pixels where they belong. Returns where the next pass begins. */
function place(header, part, lines, start, data, palette) {
  const bytes = stride(header, part.columns);
  const step = Math.max(1, (SAMPLES[header.type] * header.depth) >> 3);
  let above = new Uint8Array(bytes);
  for (let row = 0; row < part.rows; row++, start += 1 + bytes) {
    const line = lines.subarray(start + 1, start + 1 + bytes);
    unfilter(lines[start], line, above, step);
    for (let column = 0; column < part.columns; column++) {
      const to = ((part.y + row * part.dy) * header.width + part.x + column * part.dx) * 3;
      pixel(header, line, column, palette, data, to);
    }
    above = line;
  }
  return start;
}

function unfilter(kind, line, above, step) {
  if (kind > 4) throw new Error("the image is damaged: copy or save it again");
  for (let at = 0; at < line.length; at++) {
    const left = at < step ? 0 : line[at - step];
    const corner = at < step ? 0 : above[at - step];
    line[at] += [0, left, above[at], (left + above[at]) >> 1, kind === 4 ? paeth(left, above[at], corner) : 0][kind];
  }
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [a, b, c] = [left, up, corner].map((value) => Math.abs(guess - value));
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

function pixel({ type, depth }, line, column, palette, data, to) {
  const sample = (index) => bits(line, column * SAMPLES[type] + index, depth);
  if (type === 3) {
    for (let channel = 0; channel < 3; channel++) data[to + channel] = palette?.[sample(0) * 3 + channel] ?? 0;
  } else {
    const colour = type === 2 || type === 6;
    const scale = depth < 8 ? 255 / ((1 << depth) - 1) : 1;
    for (let channel = 0; channel < 3; channel++) data[to + channel] = sample(colour ? channel : 0) * scale;
  }
}

/** A sample; of 16 bits the high byte. */
function bits(line, index, depth) {
  if (depth >= 8) return line[index * (depth >> 3)];
  const bit = index * depth;
  return (line[bit >> 3] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}
