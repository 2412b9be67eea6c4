// What a detector or segmenter found, in the pixels of the image, and its colours over them.

const LEAST = 0.5; // the probability from which on a pixel is covered
const TURN = 0.61803398875; // of the circle of hues, to the next class
const MOST_CLASSES = 65536;

const THINGS = ["boxes", "scores", "labels"];

/**
 * The tasks that find something, by name: what their outputs are, in order, how far these are from the expected ones
 * ({error, most}) by the limits of config.json, and what was found ({things, classes, map}, of which only some are there).
 */
export const TASKS = {
  detection: { meanings: THINGS, compare: compareThings, locate: locateThings },
  instance_segmentation: { meanings: [...THINGS, "masks"], compare: compareThings, locate: locateThings },
  semantic_segmentation: { meanings: ["classes of pixels"], compare: compareClasses, locate: locateClasses },
};

/** Throws where the outputs of the manifest are not those of its task. */
export function checkTask({ task, outputs, preprocessing }) {
  const row = Object.hasOwn(TASKS, task) ? TASKS[task] : null;
  const same = row === null || row.meanings.join() === outputs.map(({ meaning }) => meaning).join();
  if (!same || (row !== null) !== (preprocessing.resize === "fit")) throw new Error(`the manifest is none of a model for ${task}`);
}

function locateThings([boxes, scores, indices, masks], { original, content }, labels) {
  const scale = [original.width / content.width, original.height / content.height];
  const wrong = new Error("the model gives boxes that are none");
  const count = scores.data.length;
  if (boxes.data.length !== 4 * count || indices.data.length !== count || (masks && masks.shape[0] !== count)) throw wrong;
  const things = Array.from({ length: count }, (_, at) => {
    const box = [0, 1, 2, 3].map((side) => boxes.data[4 * at + side] * scale[side % 2]);
    const [score, index] = [scores.data[at], indices.data[at]];
    if (!box.every(Number.isFinite) || !(score >= 0 && score <= 1) || !isClass(index)) throw wrong;
    return { box, score, index, label: nameOf(labels, index), mask: masks ? pasted(masks, at, box, original) : null };
  });
  return { things };
}

function locateClasses([output], { original, content }, labels) {
  const [batch, rows, columns] = output.shape;
  if (batch !== 1 || rows < content.height || columns < content.width || !output.data.every(isClass)) {
    throw new Error("the model gives classes that are none");
  }
  const nearest = (at, length, inside) => Math.min(Math.floor(((at + 0.5) * inside) / length), inside - 1);
  const map = new Uint16Array(original.height * original.width);
  const counts = new Map();
  const across = Array.from({ length: original.width }, (_, x) => nearest(x, original.width, content.width));
  for (let y = 0, to = 0; y < original.height; y++) {
    const from = nearest(y, original.height, content.height) * columns;
    for (let x = 0; x < original.width; x++) {
      const index = output.data[from + across[x]];
      map[to++] = index;
      counts.set(index, (counts.get(index) ?? 0) + 1);
    }
  }
  const classes = [...counts].map(([index, pixels]) => ({ index, label: nameOf(labels, index), share: pixels / map.length }));
  return { map, classes: classes.sort((one, other) => other.share - one.share || one.index - other.index) };
}

const isClass = (index) => Number.isInteger(index) && index >= 0 && index < MOST_CLASSES;
const nameOf = (labels, index) => labels?.[index] ?? `class ${index}`;

/** {top, left, height, width, covered}: the pixels of a box and beside it, and whether each is covered by its mask. */
function pasted({ data, shape: [, rows, columns] }, place, [x0, y0, x1, y1], original) {
  const down = shares(y0, y1, original.height, rows);
  const across = shares(x0, x1, original.width, columns);
  const [height, width] = [down.places.length, across.places.length];
  const covered = new Uint8Array(height * width);
  const cell = (row, column) =>
    row < 0 || row >= rows || column < 0 || column >= columns ? 0 : data[(place * rows + row) * columns + column];
  for (let y = 0, to = 0; y < height; y++) {
    const row = Math.floor(down.places[y]);
    const low = down.places[y] - row;
    for (let x = 0; x < width; x++) {
      const column = Math.floor(across.places[x]);
      const right = across.places[x] - column;
      const upper = cell(row, column) * (1 - right) + cell(row, column + 1) * right;
      const lower = cell(row + 1, column) * (1 - right) + cell(row + 1, column + 1) * right;
      covered[to++] = upper * (1 - low) + lower * low >= LEAST;
    }
  }
  return { top: down.first, left: across.first, height, width, covered };
}

/** The pixels of a side that a box reaches, and one more on either side: the first, and where each lies in the cells. */
function shares(start, end, length, cells) {
  const inside = (at) => Math.min(Math.max(at, 0), length);
  const [first, last] = [inside(Math.floor(start) - 1), inside(Math.ceil(end) + 1)];
  const place = (pixel) => (end === start ? 0.5 : (pixel + 0.5 - start) / (end - start)) * cells - 0.5;
  return { first, places: Array.from({ length: Math.max(last - first, 0) }, (_, at) => place(first + at)) };
}

/** [red, green, blue] of a class. */
export function colourOf(index) {
  const saturation = Math.floor(index / 12) % 2 ? 0.55 : 0.9;
  const channel = (offset) => {
    const turn = (offset + ((index * TURN) % 1) * 6) % 6;
    return Math.round(255 * 0.95 * (1 - saturation * Math.max(0, Math.min(turn, 4 - turn, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

/** `image` {width, height, data: RGB bytes} under the colours of what covers its pixels. */
export function coloured(image, { things = [], map = null }) {
  const data = image.data.slice();
  const colour = (pixel, [red, green, blue]) => {
    data[3 * pixel] = (data[3 * pixel] + red) / 2;
    data[3 * pixel + 1] = (data[3 * pixel + 1] + green) / 2;
    data[3 * pixel + 2] = (data[3 * pixel + 2] + blue) / 2;
  };
  const colours = new Map();
  map?.forEach((index, pixel) => {
    if (!colours.has(index)) colours.set(index, colourOf(index));
    colour(pixel, colours.get(index));
  });
  for (const { mask, index } of [...things].reverse()) {
    mask?.covered.forEach((covered, at) => {
      const pixel = (mask.top + Math.floor(at / mask.width)) * image.width + mask.left + (at % mask.width);
      if (covered) colour(pixel, colourOf(index));
    });
  }
  return { ...image, data };
}

/** By the share of the scores that detections have which one of the two alone found; `overlap` makes two boxes one. */
function compareThings(found, expected, { overlap: least, most }) {
  const box = ({ data }, at) => data.subarray(4 * at, 4 * at + 4);
  const total = [found, expected].reduce((sum, [, scores]) => scores.data.reduce((all, score) => all + score, sum), 0);
  const free = new Set(found[1].data.keys());
  let matched = 0;
  expected[1].data.forEach((score, at) => { // the best first choose
    let [best, overlap] = [null, least];
    for (const other of free) {
      const common = found[2].data[other] === expected[2].data[at] ? overlapOf(box(found[0], other), box(expected[0], at)) : 0;
      if (common > overlap) [best, overlap] = [other, common];
    }
    if (best === null) return;
    free.delete(best);
    matched += score + found[1].data[best];
  });
  return { error: total === 0 ? 0 : 1 - matched / total, most };
}

function overlapOf(one, other) {
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const side = (low, high) => Math.max(Math.min(one[high], other[high]) - Math.max(one[low], other[low]), 0);
  const common = side(0, 2) * side(1, 3);
  const whole = area(one) + area(other) - common;
  return whole > 0 ? common / whole : 0;
}

/** By the share of the pixels that have another class. */
function compareClasses([found], [expected], { most }) {
  const same = found.data.length === expected.data.length;
  const differing = expected.data.reduce((sum, index, at) => sum + (index !== found.data[at]), 0);
  return { error: same ? differing / expected.data.length : NaN, most };
}
