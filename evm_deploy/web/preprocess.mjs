// From an RGB image to the tensor that the bundle's manifest asks for.

import { fittedSize, resizedBilinear } from "./keep-ratio.mjs";
import { checkSize } from "./limits.mjs";
import { INTERPOLATIONS, resizedPart } from "./resize.mjs";

/** What each resize makes of an image on a canvas {height, width}: the size {height, width} that it gets. */
const RESIZES = {
  cover: ({ height, width }, canvas) =>
    canvas.width * height >= canvas.height * width
      ? { height: Math.floor((canvas.width * height) / width), width: canvas.width }
      : { height: canvas.height, width: Math.floor((canvas.height * width) / height) },
  squash: (image, canvas) => canvas,
  letterbox: ({ height, width }, canvas) =>
    canvas.width * height <= canvas.height * width
      ? { height: Math.max(1, rounded(canvas.width * height, width)), width: canvas.width }
      : { height: canvas.height, width: Math.max(1, rounded(canvas.height * width, height)) },
};
const ORDERS = { RGB: [0, 1, 2], BGR: [2, 1, 0] };
const DEFAULTS = { resize: "cover", fill: 0, scale: null }; // manifests of before have none of them
const NAMES = ["image_size", "crop_pct", "interpolation", "channels", "mean", "std", "baked", "resize", "fill", "scale"];

/** The manifest's preprocessing, whole. Throws where it has what is not known here. */
export function readSteps(said) {
  const steps = { ...DEFAULTS, ...said };
  const { image_size: sides, crop_pct: share, mean, std, resize, fill, scale } = steps;
  const fits = resize === "fit" && steps.interpolation === "opencv_bilinear" && share === 1;
  const known = scale === null && Object.hasOwn(INTERPOLATIONS, steps.interpolation) && Object.hasOwn(RESIZES, resize);
  const whole = (value, least, most) => Number.isInteger(value) && value >= least && value <= most;
  const three = (values, least) => values?.length === 3 && values.every((value) => Number.isFinite(value) && value > least);
  const valid =
    Object.keys(steps).every((name) => NAMES.includes(name)) &&
    sides?.length === 2 && sides.every((side) => whole(side, 1, 4096)) && share >= 0.1 && share <= 1 &&
    three(mean, -Infinity) && three(std, 0) && whole(fill, 0, 255) && (fill === 0 || resize === "letterbox") &&
    (fits || known) && (scale === null || (scale.length === 2 && scale.every((side) => whole(side, 1, 4096)))) &&
    Object.hasOwn(ORDERS, steps.channels) && typeof steps.baked === "boolean";
  if (!valid) throw new Error("the manifest asks for a preparation of images that this page does not know");
  return steps;
}

/** Where an image lies in the input of a detector or segmenter, at the upper left: its sizes {original, content}. */
export function placed(image, { image_size: [height, width], scale, baked }) {
  const original = { height: image.height, width: image.width };
  if (baked) return { original, content: original };
  if (scale === null) return { original, content: fittedSize(image, height, width) };
  const [long, short] = scale;
  return { original, content: image.height > image.width ? fittedSize(image, long, short) : fittedSize(image, short, long) };
}

/**
 * {crop, data, shape}: the image as the model sees it, in RGB, and its input: float32 NCHW, or bytes NHWC where baked, in
 * the order of its channels. `steps` are of `readSteps`.
 */
export function preprocess(image, steps) {
  const fits = steps.resize === "fit";
  const crop = fits ? resizedBilinear(image, placed(image, steps).content) : cropped(image, steps);
  const size = fits && (steps.baked || steps.scale) ? [crop.height, crop.width] : steps.image_size;
  if (steps.baked) return { crop, data: ordered(crop, steps), shape: [1, ...size, 3] };
  return { crop, data: padded(normalised(crop, steps), crop, size), shape: [1, 3, ...size] };
}

/** Zeros below and to the right of the planes of an image that was fitted into [height, width]. */
function padded(values, { height, width }, [rows, columns]) {
  if (height === rows && width === columns) return values;
  const all = new Float32Array(3 * rows * columns);
  for (let line = 0; line < 3 * height; line++) {
    const to = (Math.floor(line / height) * rows + (line % height)) * columns;
    all.set(values.subarray(line * width, (line + 1) * width), to);
  }
  return all;
}

function cropped(image, { image_size: [height, width], crop_pct: share, resize, interpolation, fill }) {
  const canvas = { height: Math.floor(height / share), width: Math.floor(width / share) };
  const size = RESIZES[resize](image, canvas);
  const whole = { height: Math.max(canvas.height, size.height), width: Math.max(canvas.width, size.width) };
  checkSize(whole.width, Math.max(whole.height, image.height));
  const rows = visible(whole.height, size.height, height);
  const columns = visible(whole.width, size.width, width);
  const data = new Uint8Array(height * width * 3).fill(fill);
  if (rows.count < 1 || columns.count < 1) return { width, height, data };
  const part = { top: rows.from, left: columns.from, height: rows.count, width: columns.count };
  const { data: seen } = resizedPart(image, size, part, interpolation);
  for (let row = 0; row < rows.count; row++) {
    const line = seen.subarray(row * columns.count * 3, (row + 1) * columns.count * 3);
    data.set(line, ((row + rows.to) * width + columns.to) * 3);
  }
  return { width, height, data };
}

/** Of a side `size` in the middle of `whole`, what the crop in the middle has: from where, how much, and to where. */
function visible(whole, size, crop) {
  const start = halfEven(whole - crop) - halfEven(whole - size);
  const from = Math.max(start, 0);
  return { from, count: Math.min(start + crop, size) - from, to: from - start };
}

function ordered({ data }, { channels }) {
  const order = ORDERS[channels];
  return data.map((_, at) => data[at - (at % 3) + order[at % 3]]);
}

/** Rounded to float32 after each step, as NumPy does. */
function normalised({ data }, { mean, std, channels }) {
  const plane = data.length / 3;
  const values = new Float32Array(data.length);
  for (let channel = 0; channel < 3; channel++) {
    const [middle, deviation] = [Math.fround(mean[channel]), Math.fround(std[channel])];
    const from = ORDERS[channels][channel];
    for (let at = 0; at < plane; at++) {
      const unit = Math.fround(data[at * 3 + from] / 255);
      values[channel * plane + at] = Math.fround(Math.fround(unit - middle) / deviation);
    }
  }
  return values;
}

/** The nearest whole number to a / b, of two the greater. */
function rounded(a, b) {
  return Math.floor((2 * a + b) / (2 * b));
}

/** Half of a margin; halves of a pixel go to the even neighbour. */
function halfEven(margin) {
  const low = Math.floor(margin / 2);
  return margin % 2 && low % 2 ? low + 1 : low;
}
