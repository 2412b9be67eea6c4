// Plain NumPy arrays, version 1 to 3 of the format, of the types that bundles have.

const TYPES = { "<f4": ["float32", Float32Array], "|u1": ["uint8", Uint8Array], "<i4": ["int32", Int32Array], "<i8": ["int64", BigInt64Array] };

/** Whole numbers of 64 bits as those that are exact to 53, which classes are. */
export const plainNumbers = (data) => (data instanceof BigInt64Array ? Float64Array.from(data, Number) : data);

const MOST_BYTES = 1 << 29;

/** An ArrayBuffer to {type, shape, data}. Throws an Error: no such array, or not as long as it says. */
export function readNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
  if (bytes.length < 12 || bytes.length > MOST_BYTES || magic.some((value, at) => bytes[at] !== value)) {
    throw new Error("a golden array is not a NumPy file");
  }
  const view = new DataView(buffer);
  const [from, length] = bytes[6] === 1 ? [10, view.getUint16(8, true)] : [12, view.getUint32(8, true)];
  const header = new TextDecoder().decode(bytes.subarray(from, from + length));
  const [, descr] = /'descr': '([^']+)'/.exec(header) ?? [];
  const [, sides] = /'shape': \(([\d, ]*)\)/.exec(header) ?? [];
  const known = TYPES[descr];
  if (!known || sides === undefined || !header.includes("'fortran_order': False")) {
    throw new Error(`a golden array is of a kind that this page does not read (${String(descr).slice(0, 20)})`);
  }
  const shape = sides.split(",").filter((side) => side.trim()).map(Number);
  const [type, Kind] = known;
  const count = shape.reduce((product, side) => product * side, 1);
  const data = buffer.slice(from + length);
  if (data.byteLength !== count * Kind.BYTES_PER_ELEMENT) throw new Error("a golden array is cut off");
  return { type, shape, data: plainNumbers(new Kind(data)) };
}
