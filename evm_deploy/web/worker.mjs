// One way of running, in a thread of its own with an onnxruntime of its own: its number of threads is set once.

import { plainNumbers } from "./npy.mjs";
import { Parts } from "./parts.mjs";

// y = x, as ONNX. Loading it first keeps the runtime's own start out of the loading time of the models.
const IDENTITY = "CAc6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=";

const sessions = new Map();
let ort;
let options;

const calls = {
  /** Starts the runtime. {way, base} to {ms, accelerator}. */
  async start({ way, base }) {
    const began = performance.now();
    const url = (name) => new URL(`runtime/${name}`, base).href;
    ort = await import(url(way.module));
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = way.threads;
    ort.env.wasm.wasmPaths = { mjs: url(`${way.engine}.mjs`), wasm: url(`${way.engine}.wasm`) };
    options = {
      executionProviders: [way.provider],
      logSeverityLevel: 3,
      extra: {
        session: {
          force_spinning_stop: "1", // idle, it leaves the cores to the others
          ...(way.provider !== "wasm" && { disable_cpu_ep_fallback: "1" }), // what it has no kernel for is an error
        },
      },
    };
    const identity = await ort.InferenceSession.create(bytesOf(IDENTITY), options);
    await identity.run({ x: new ort.Tensor("float32", Float32Array.of(1), [1]) });
    const info = (await ort.env.webgpu?.device)?.adapterInfo;
    const names = [info?.vendor, info?.architecture, info?.device, info?.description].filter(Boolean);
    return { ms: performance.now() - began, accelerator: names.join(" ") || null };
  },

  /** Loads a model, cut or whole, and runs it once. {name, model, file, input, cut} to {loadMs, firstMs, outputs}. */
  async load({ name, model, file, input, cut }) {
    const began = performance.now();
    const session = cut ? await Parts.open(ort, options, cut, model, file) : await ort.InferenceSession.create(model, options);
    const loadMs = performance.now() - began;
    const made = { session, feeds: { [session.inputNames[0]]: tensor(input) } };
    sessions.set(name, made);
    const first = performance.now();
    const outputs = await session.run(made.feeds);
    const firstMs = performance.now() - first;
    return { loadMs, firstMs, outputs: plain(session, outputs) };
  },

  /** Runs a model on its golden input; the milliseconds that it took. */
  async time({ name }) {
    const { session, feeds } = sessions.get(name);
    const began = performance.now();
    await session.run(feeds);
    return performance.now() - began;
  },

  /** Runs a model on an input. {name, input} to {ms, outputs}. */
  async run({ name, input }) {
    const { session } = sessions.get(name);
    const feeds = { [session.inputNames[0]]: tensor(input) };
    const began = performance.now();
    const outputs = await session.run(feeds);
    return { ms: performance.now() - began, outputs: plain(session, outputs) };
  },
};

function tensor({ type, shape, data }) {
  return new ort.Tensor(type, data, shape);
}

/** In the order of the graph: the manifest's. */
function plain(session, outputs) {
  return session.outputNames.map((name) => ({ data: plainNumbers(outputs[name].data), shape: outputs[name].dims }));
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

self.onmessage = async ({ data: { id, call, given } }) => {
  try {
    self.postMessage({ id, answer: await calls[call](given) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error).slice(0, 300) });
  }
};
