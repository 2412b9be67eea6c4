// The ways in which this browser can run a model, and the thread that runs it in one of them.

const WASM = { module: "ort.wasm.min.mjs", engine: "ort-wasm-simd-threaded", provider: "wasm" };
const WEBGPU = { module: "ort.webgpu.min.mjs", engine: "ort-wasm-simd-threaded.asyncify", provider: "webgpu" };

/**
 * What config.json asks for ({provider, threads}) and this browser has: {ways, missing}. A way is {name, runtime,
 * provider, threads, module, engine}; `missing` says in sentences what it has not, and why.
 */
export async function available({ provider, threads }) {
  const cores = navigator.hardwareConcurrency || 1;
  const most = crossOriginIsolated ? cores : 1;
  const wanted = threads === 0 ? [...new Set([1, most])] : [threads];
  const ways = [];
  const missing = [];
  if (provider !== "webgpu") {
    ways.push(...wanted.filter((count) => count <= most || count <= 1).map(wasm));
    if (ways.length < wanted.length || (threads === 0 && !crossOriginIsolated)) missing.push(noThreads(cores, threads));
  }
  if (await navigator.gpu?.requestAdapter().catch(() => null)) ways.push({ name: "WebGPU", ...WEBGPU, threads: 1 });
  else missing.push(`WebGPU was not run: ${noGpu()}.`);
  return { ways: ways.map((way) => ({ ...way, runtime: `onnxruntime-web ${way.provider}` })), missing };
}

function wasm(threads) {
  return { name: threads === 1 ? "WASM, 1 thread" : `WASM, ${threads} threads`, ...WASM, threads };
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
