// The ways in which this browser can run a model, and the thread that runs it in one of them.

const WASM = { module: "ort.wasm.min.mjs", engine: "ort-wasm-simd-threaded", provider: "wasm" };
const WEBGPU = { module: "ort.webgpu.min.mjs", engine: "ort-wasm-simd-threaded.asyncify", provider: "webgpu" };

/**
 * What config.json asks for ({provider, threads}) and this browser has: {ways, missing}. A way is {name, runtime,
 * provider, threads, module, engine, kernels}; `missing` says in sentences what it has not, and why. `kernels`: the bytes
 * of evm_ops.wasm, with which there are twice as many ways on WASM, or null.
 */
export async function available({ provider, threads }, kernels) {
  const cores = navigator.hardwareConcurrency || 1;
  const most = crossOriginIsolated ? cores : 1;
  const wanted = threads === 0 ? [...new Set([1, most])] : [threads];
  const ways = [];
  const missing = [];
  if (provider !== "webgpu") {
    const possible = wanted.filter((count) => count <= most || count <= 1);
    ways.push(...possible.flatMap((count) => (kernels ? [wasm(count), wasm(count, kernels)] : [wasm(count)])));
    if (possible.length < wanted.length || (threads === 0 && !crossOriginIsolated)) missing.push(noThreads(cores, threads));
  }
  if (await navigator.gpu?.requestAdapter().catch(() => null)) ways.push({ name: "WebGPU", ...WEBGPU, threads: 1, kernels: null });
  else missing.push(`WebGPU was not run: ${noGpu()}.`);
  const runtime = ({ provider, kernels }) => `onnxruntime-web ${provider}${kernels ? " + evm_ops" : ""}`;
  return { ways: ways.map((way) => ({ ...way, runtime: runtime(way) })), missing };
}

/** The way to run `bundles` with until all are measured: with our kernels and all threads, where all can be. */
export function preferred(ways, bundles) {
  const ours = ways.findLast(({ kernels }) => kernels);
  if (ours && bundles.every(({ cut }) => cut)) return ours;
  const last = ways.findLast(({ kernels }) => !kernels);
  return last.provider === "wasm" ? last : ways[0];
}

function wasm(threads, kernels = null) {
  const name = kernels ? "WASM with our kernels" : "WASM";
  return { name: `${name}, ${threads} ${threads === 1 ? "thread" : "threads"}`, ...WASM, threads, kernels };
}

function noThreads(cores, threads) {
  if (crossOriginIsolated) return `${threads} threads were not run: this browser tells of ${cores}.`;
  const why = isSecureContext ? "its server does not isolate it" : "that takes https or localhost";
  return `Several threads were not run: the page may not start them, ${why}.`;
}

function noGpu() {
  if (!isSecureContext) return "browsers offer it to pages from https or localhost only";
  return navigator.gpu ? "this browser found no GPU for it" : "this browser does not have it";
}

/** A thread that answers calls of worker.mjs: `await thread.call("run", {...})`. */
export class Thread {
  #worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });
  #waiting = new Map();
  #count = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, answer, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(answer);
      else reject(new Error(error));
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(event.message || "the thread of the runtime could not be started");
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
  }

  call(name, given) {
    const id = this.#count++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call: name, given });
    });
  }

  close() {
    this.#worker.terminate();
  }
}
