// WebP files, before the browser decodes them: what browsers treat in different ways is left out.

import { damaged } from "./limits.mjs";

const PROFILE = 0x20;
const EXIF = 0x08;
const PREFIX = [0x45, 0x78, 0x69, 0x66, 0, 0];

/** {bytes, exif} of the bytes of a WebP: a copy without profile and EXIF, and its EXIF. Throws. */
export function plainWebp(bytes) {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  let exif = null;
  for (let at = 12; at + 8 <= copy.length; ) {
    const name = String.fromCharCode(...copy.subarray(at, at + 4));
    const end = at + 8 + view.getUint32(at + 4, true);
    if (end > copy.length) throw damaged();
    if (name === "VP8X") copy[at + 8] &= ~(PROFILE | EXIF);
    if (name === "EXIF") exif ??= withoutPrefix(bytes.subarray(at + 8, end));
    if (name === "EXIF" || name === "ICCP") copy.fill(0x20, at, at + 4); // a name that no reader knows
    at = end + (end & 1);
  }
  return { bytes: copy, exif: exif ?? new Uint8Array(0) };
}

/** Some writers put the mark of JPEG's EXIF before it. */
function withoutPrefix(exif) {
  return PREFIX.every((value, at) => exif[at] === value) ? exif.subarray(PREFIX.length) : exif;
}
