// From an RGB image to the tensor that the bundle's manifest asks for.

import { covering, resizedCentre } from "./resize.mjs";

const MOST_PIXELS = 64_000_000;

/** {crop, data}: the image as the model sees it, and its input: float32 NCHW, or the crop's bytes where baked. */
export function preprocess(image, preprocessing) {
  const [height, width] = preprocessing.image_size;
  const cover = [height, width].map((side) => Math.floor(side / preprocessing.crop_pct));
  const size = covering(image.height, image.width, cover);
  if (size[0] * size[1] > MOST_PIXELS) {
    throw new Error(`an image of ${image.width}x${image.height} is too narrow for ${width}x${height}: crop it first`);
  }
  const crop = resizedCentre(image, size, [height, width]);
  return { crop, data: preprocessing.baked ? crop.data : normalised(crop, preprocessing) };
}

/** Rounded to float32 after each step, as NumPy does. */
function normalised({ data }, { mean, std }) {
  const plane = data.length / 3;
  const values = new Float32Array(data.length);
  for (let channel = 0; channel < 3; channel++) {
    const [middle, deviation] = [Math.fround(mean[channel]), Math.fround(std[channel])];
    for (let at = 0; at < plane; at++) {
      const unit = Math.fround(data[at * 3 + channel] / 255);
      values[channel * plane + at] = Math.fround(Math.fround(unit - middle) / deviation);
    }
  }
  return values;
}
