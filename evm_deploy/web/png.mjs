// PNG files, read here: browsers differ in what they do with transparency, 16 bits, profiles and damage.

import { checkSize, damaged } from "./limits.mjs";

const SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // of a pixel, by type of colour
const DEPTHS = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const CRITICAL = ["IHDR", "PLTE", "IDAT", "IEND"]; // the chunks that a reader must know

/** {width, height, data, exif} of the bytes of a PNG: RGB without alpha, of 16 bits the high byte. Throws. */
export async function readPng(bytes) {
  const chunks = split(bytes);
  const header = headerOf(chunks);
  const { width, height, interlaced } = header;
  checkSize(width, height);
  const parts = (interlaced ? PASSES : [[0, 0, 1, 1]]).map(([x, y, dx, dy]) => ({
    x, y, dx, dy, columns: Math.ceil((width - x) / dx), rows: Math.ceil((height - y) / dy),
  })).filter(({ columns, rows }) => columns > 0 && rows > 0);
  const length = parts.reduce((sum, { columns, rows }) => sum + rows * (1 + stride(header, columns)), 0);
  const lines = await inflated(chunks.IDAT ?? [], length);
  const data = new Uint8Array(width * height * 3);
  const colours = tableOf(header, chunks.PLTE?.[0]);
  let at = 0;
  for (const part of parts) at = place(header, part, lines, at, data, colours);
  return { width, height, data, exif: chunks.eXIf?.[0] ?? new Uint8Array(0) };
}

/** The bodies of the chunks by name, each held against its sum, up to the last one. */
function split(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = {};
  for (let at = 8, name = ""; name !== "IEND"; ) {
    if (at + 12 > bytes.length) throw damaged();
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > bytes.length || crc32(bytes.subarray(at + 4, end)) !== view.getUint32(end)) throw damaged();
    name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const first = (name === "IHDR") === (at === 8);
    if (name[0] >= "A" && name[0] <= "Z" && !(CRITICAL.includes(name) && first)) throw damaged();
    (chunks[name] ??= []).push(bytes.subarray(at + 8, end));
    at = end + 4;
  }
  return chunks;
}

const CRC = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let sum = ~0;
  for (let at = 0; at < bytes.length; at++) sum = CRC[(sum ^ bytes[at]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

function headerOf({ IHDR, PLTE }) {
  const bytes = IHDR?.[0];
  if (bytes?.length !== 13) throw damaged();
  const view = new DataView(bytes.buffer, bytes.byteOffset, 13);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, type, compression, filters, interlace] = bytes.subarray(8);
  const known = DEPTHS[type]?.includes(depth) && !compression && !filters && interlace < 2 && (type !== 3 || PLTE);
  if (!known || !width || !height) throw damaged();
  return { width, height, depth, type, interlaced: interlace === 1 };
}

const stride = ({ type, depth }, columns) => Math.ceil((columns * SAMPLES[type] * depth) / 8);

/** The first `length` bytes of a stream that has as many. */
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
  if (at !== length) throw damaged();
  return bytes;
}

/** RGB of each value of a pixel of one sample of at most 8 bits; null for other pixels. */
function tableOf({ type, depth }, palette) {
  if (type !== 3 && (type !== 0 || depth === 16)) return null;
  const level = 255 / ((1 << depth) - 1);
  return Uint8Array.from({ length: 3 << depth }, (_, at) => (type === 3 ? palette[at] ?? 0 : Math.floor(at / 3) * level));
}

/** Undoes the filters of one pass and puts its pixels where they belong. Returns where the next pass begins. */
function place(header, part, lines, start, data, colours) {
  const bytes = stride(header, part.columns);
  const step = Math.max(1, (SAMPLES[header.type] * header.depth) >> 3);
  let above = new Uint8Array(bytes);
  for (let row = 0; row < part.rows; row++, start += 1 + bytes) {
    const line = lines.subarray(start + 1, start + 1 + bytes);
    if (lines[start] >= FILTERS.length) throw damaged();
    FILTERS[lines[start]](line, above, step);
    const to = ((part.y + row * part.dy) * header.width + part.x) * 3;
    if (colours) lookUp(header.depth, line, part.columns, colours, data, to, part.dx * 3);
    else copy(header, line, part.columns, step, data, to, part.dx * 3);
    above = line;
  }
  return start;
}

/** What each filter adds to a line, of which `step` bytes are a pixel, from the pixels to the left and above. */
const FILTERS = [
  () => {},
  (line, above, step) => {
    for (let at = step; at < line.length; at++) line[at] += line[at - step];
  },
  (line, above) => {
    for (let at = 0; at < line.length; at++) line[at] += above[at];
  },
  (line, above, step) => {
    for (let at = 0; at < line.length; at++) line[at] += ((at < step ? 0 : line[at - step]) + above[at]) >> 1;
  },
  (line, above, step) => {
    for (let at = 0; at < step && at < line.length; at++) line[at] += above[at];
    for (let at = step; at < line.length; at++) {
      const left = line[at - step];
      const up = above[at];
      const corner = above[at - step];
      const a = Math.abs(up - corner);
      const b = Math.abs(left - corner);
      const c = Math.abs(left + up - 2 * corner);
      line[at] += a <= b && a <= c ? left : b <= c ? up : corner;
    }
  },
];

function lookUp(depth, line, columns, colours, data, to, apart) {
  const last = (1 << depth) - 1;
  for (let column = 0; column < columns; column++, to += apart) {
    const bit = column * depth;
    const from = 3 * ((line[bit >> 3] >> (8 - depth - (bit & 7))) & last);
    for (let channel = 0; channel < 3; channel++) data[to + channel] = colours[from + channel];
  }
}

/** Samples of whole bytes, `step` of them a pixel; of 16 bits the high byte comes first. */
function copy({ type, depth }, line, columns, step, data, to, apart) {
  const next = type === 2 || type === 6 ? depth >> 3 : 0;
  for (let column = 0, from = 0; column < columns; column++, from += step, to += apart) {
    for (let channel = 0; channel < 3; channel++) data[to + channel] = line[from + channel * next];
  }
}
