// JPEG files, taken apart before the browser decodes them: what decoders treat in different ways is left out or refused.

import { checkSize, damaged } from "./limits.mjs";

const [TABLES, RESTARTS, END, SCAN] = [0xc4, [0xd0, 0xd7], 0xd9, 0xda];
const FRAMES = [0xc0, 0xc1, 0xc2]; // baseline, extended, progressive
const KEPT = [0xe0, 0xee]; // of the segments for applications, JFIF and Adobe: they say what the channels are
const EXIF = [0x45, 0x78, 0x69, 0x66, 0, 0];

/** {bytes, exif} of the bytes of a JPEG: the first picture without profile, and its first EXIF. Throws. */
export function plainJpeg(bytes) {
  const kept = [];
  let exif = null;
  let seen = false;
  for (let at = 0, scanning = false; ; ) {
    const start = nextMarker(bytes, at, scanning);
    const marker = bytes[start + 1];
    if (scanning) kept.push(bytes.subarray(at, start));
    if (marker === END) {
      if (!seen) throw damaged();
      return { bytes: joined([...kept, bytes.subarray(start, start + 2)]), exif: exif ?? new Uint8Array(0) };
    }
    const bare = marker === 0xd8 || marker === 1;
    const end = bare ? start + 2 : start + 2 + ((bytes[start + 2] << 8) | bytes[start + 3]);
    if (!(end <= bytes.length) || (!bare && end < start + 4)) throw damaged();
    const body = bytes.subarray(start + 4, end);
    if (marker >= 0xc0 && marker <= 0xcf && marker !== TABLES) checkFrame(marker, body, seen);
    seen ||= FRAMES.includes(marker);
    if (marker === 0xe1 && EXIF.every((value, place) => body[place] === value)) exif ??= body.subarray(EXIF.length);
    const application = (marker >= 0xe0 && marker <= 0xef) || marker === 0xfe;
    if (!application || KEPT.includes(marker)) kept.push(bytes.subarray(start, end));
    if (marker === SCAN && !seen) throw damaged();
    scanning = marker === SCAN;
    at = end;
  }
}

/** Where the next marker is; in a scan, restarts are part of the data. */
function nextMarker(bytes, at, scanning) {
  for (; at + 1 < bytes.length; at++) {
    const next = bytes[at + 1];
    if (bytes[at] !== 0xff || next === 0 || next === 0xff) continue;
    if (!scanning || next < RESTARTS[0] || next > RESTARTS[1]) return at;
  }
  throw damaged();
}

function checkFrame(marker, body, seen) {
  const [precision, , , , , channels] = body;
  const [height, width] = [(body[1] << 8) | body[2], (body[3] << 8) | body[4]];
  if (seen || body.length < 6 || !height || !width) throw damaged();
  checkSize(width, height);
  if (!FRAMES.includes(marker) || precision !== 8 || (channels !== 1 && channels !== 3)) {
    throw new Error("this kind of JPEG is not read here: save the image as PNG, or as JPEG in RGB");
  }
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
