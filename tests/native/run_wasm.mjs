// Runs operators of the page's module: the module's file and cases ([{operator, inputs, attributes}]) to results, as JSON.
import { readFileSync } from "node:fs";

const [, , page, module] = process.argv;
const { Kernels } = await import(page);
const KINDS = { float32: Float32Array, uint8: Uint8Array, int8: Int8Array, int64: BigInt64Array };
const kernels = await Kernels.open(readFileSync(module));
const mark = kernels.mark();

function tensor({ type, dims, data }) {
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  return { type, dims, data: new KINDS[type](bytes.buffer) };
}

function answer({ operator, inputs, attributes }) {
  try {
    kernels.release(mark);
    const result = kernels.run(operator, inputs.map((each) => kernels.place(tensor(each))), attributes);
    const { buffer, byteOffset, byteLength } = kernels.view(result);
    return { dims: result.dims, data: Buffer.from(buffer, byteOffset, byteLength).toString("base64") };
  } catch (error) {
    return { error: error.message };
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0)).map(answer)));
