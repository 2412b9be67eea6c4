// Which way up a picture is held.

const TAG = 0x0112;
const SHORT = 3;

/** EXIF's orientation, 1 to 8, in such a block of bytes; 1 where it has none, or is not EXIF. */
export function orientationOf(exif) {
  const little = exif[0] === 0x49;
  const known = (little ? [0x49, 0x49, 42, 0] : [0x4d, 0x4d, 0, 42]).every((value, at) => exif[at] === value);
  if (!known || exif.length < 8) return 1;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.length);
  const table = view.getUint32(4, little);
  if (table + 2 > exif.length) return 1;
  const count = view.getUint16(table, little);
  for (let index = 0, at = table + 2; index < count && at + 12 <= exif.length; index++, at += 12) {
    if (view.getUint16(at, little) !== TAG) continue;
    const value = view.getUint16(at + 8, little);
    const valid = view.getUint16(at + 2, little) === SHORT && view.getUint32(at + 4, little) === 1;
    return valid && value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/** {width, height, data} turned as such an orientation says. */
export function upright({ width, height, data }, orientation) {
  if (orientation === 1) return { width, height, data };
  const swapped = orientation > 4;
  const fromRight = [2, 3, 7, 8].includes(orientation);
  const fromBelow = [3, 4, 6, 7].includes(orientation);
  const [across, down] = swapped ? [height, width] : [width, height];
  const turned = new Uint8Array(data.length);
  for (let y = 0, to = 0; y < down; y++) {
    for (let x = 0; x < across; x++, to += 3) {
      const column = fromRight ? width - 1 - (swapped ? y : x) : swapped ? y : x;
      const row = fromBelow ? height - 1 - (swapped ? x : y) : swapped ? x : y;
      const from = (row * width + column) * 3;
      for (let channel = 0; channel < 3; channel++) turned[to + channel] = data[from + channel];
    }
  }
  return { width: across, height: down, data: turned };
}
