// Our operators as WebAssembly (native/wasm_module.cpp): tensors in its memory, and runs of its kernels on them.

const TYPES = { float32: [1, Float32Array], uint8: [2, Uint8Array], int8: [3, Int8Array], int64: [7, BigInt64Array] };
const MOST_RANK = 8;
const TENSOR_BYTES = 4 * (3 + MOST_RANK); // type, rank, data, dims

/** A tensor in the module's memory is {type, dims, pointer}. */
export class Kernels {
  /** Starts the module; `bytes` are those of evm_ops.wasm. */
  static async open(bytes) {
    const made = new Kernels();
    const refuse = (pointer) => {
      throw new Error(made.#text(pointer));
    };
    const { instance } = await WebAssembly.instantiate(bytes, { page: { refuse } });
    made.#module = instance.exports;
    return made;
  }

  #module;

  /** Copies a tensor into the memory. */
  place({ type, dims, data }) {
    const [, Kind] = known(type);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (bytes.length !== size(dims) * Kind.BYTES_PER_ELEMENT) throw new Error("a tensor is not as long as its shape says");
    const pointer = this.#module.take(bytes.length);
    new Uint8Array(this.#module.memory.buffer, pointer, bytes.length).set(bytes);
    return { type, dims: [...dims], pointer };
  }

  /** Runs one operator, by its name. The result stays in the memory until `release`. */
  run(operator, inputs, attributes) {
    const run = Object.hasOwn(this.#module, operator) ? this.#module[operator] : null;
    if (!run) throw new Error(`the module has no operator ${operator}`);
    const values = this.#module.take(8 * attributes.length);
    const pointer = this.#module.take(TENSOR_BYTES * (inputs.length + 1));
    new Float64Array(this.#module.memory.buffer, values, attributes.length).set(attributes);
    inputs.forEach((tensor, at) => this.#describe(pointer + TENSOR_BYTES * at, tensor));
    const result = pointer + TENSOR_BYTES * inputs.length;
    run(pointer, inputs.length, values, result);
    return this.#described(result);
  }

  /** The numbers of a tensor, in place: valid until the next call of this class. */
  view({ type, dims, pointer }) {
    const [, Kind] = known(type);
    return new Kind(this.#module.memory.buffer, pointer, size(dims));
  }

  /** Where the memory is taken up to; `release` gives back what was taken after it. */
  mark() {
    return this.#module.mark();
  }

  release(mark) {
    this.#module.release(mark);
  }

  #describe(pointer, { type, dims, pointer: data }) {
    if (dims.length > MOST_RANK) throw new Error(`a tensor has ${dims.length} axes`);
    new Int32Array(this.#module.memory.buffer, pointer, 3 + dims.length).set([known(type)[0], dims.length, data, ...dims]);
  }

  #described(pointer) {
    const [code, rank, data, ...dims] = new Int32Array(this.#module.memory.buffer, pointer, 3 + MOST_RANK);
    const [type] = Object.entries(TYPES).find(([, [each]]) => each === code);
    return { type, dims: dims.slice(0, rank), pointer: data };
  }

  #text(pointer) {
    const bytes = new Uint8Array(this.#module.memory.buffer, pointer, 256);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }
}

function known(type) {
  if (!Object.hasOwn(TYPES, type)) throw new Error(`the kernels know no tensors of ${type}`);
  return TYPES[type];
}

const size = (dims) => dims.reduce((product, side) => product * side, 1);
