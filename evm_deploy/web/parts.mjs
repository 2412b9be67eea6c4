// A model cut at our operators (evm_deploy/graph/cut.py): onnxruntime-web runs the parts, our module what is between.

import { Kernels } from "./kernels.mjs";

const VERSION = 1;
const WIDTHS = { float32: 4, uint8: 1, int8: 1, int64: 8 };

/** The plan of a cut graph, of its bytes. Throws where it is none that this page knows. */
export function readPlan(bytes) {
  const plan = JSON.parse(new TextDecoder().decode(bytes));
  if (plan.version !== VERSION) throw new Error(`the plan of a cut graph is of version ${plan.version}, not ${VERSION}`);
  return plan;
}

/** Runs as a session of onnxruntime-web does: `inputNames`, `outputNames`, `run(feeds)`. */
export class Parts {
  /**
   * The graph is cut to {plan, files: bytes by name, kernels: the bytes of evm_ops.wasm}; `model` has the bytes of the
   * whole model, in which the weights are, and `file` is its name.
   */
  static async open(ort, options, { plan, files, kernels }, model, file) {
    const made = new Parts();
    made.#ort = ort;
    made.#plan = plan;
    made.#kernels = await Kernels.open(kernels);
    const given = { ...options, externalData: [{ path: file, data: model }] };
    for (const step of plan.steps) {
      if (step.part) made.#sessions.set(step.part, await ort.InferenceSession.create(files[step.part], given));
    }
    for (const [name, weight] of Object.entries(plan.weights)) made.#weights.set(name, made.#kernels.place(weightOf(weight, model)));
    made.#mark = made.#kernels.mark();
    plan.steps.forEach((step, at) => step.inputs.forEach((name) => made.#last.set(name, at)));
    return made;
  }

  #ort;
  #plan;
  #kernels;
  #mark;
  #sessions = new Map();
  #weights = new Map();
  #last = new Map(); // the last step that uses a value

  get inputNames() {
    return this.#plan.inputs;
  }

  get outputNames() {
    return this.#plan.outputs;
  }

  async run(feeds) {
    const values = new Map(Object.entries(feeds)); // tensors of onnxruntime-web, and of the kernels ({pointer})
    this.#kernels.release(this.#mark);
    for (const [at, step] of this.#plan.steps.entries()) {
      if (step.part) await this.#runPart(step, values);
      else values.set(step.output, this.#runKernel(step, values));
      this.#forget(at, values);
    }
    return Object.fromEntries(this.#plan.outputs.map((name) => [name, this.#outside(values.get(name), true)]));
  }

  async #runPart({ part, inputs }, values) {
    const feeds = Object.fromEntries(inputs.map((name) => [name, this.#outside(values.get(name))]));
    for (const [name, tensor] of Object.entries(await this.#sessions.get(part).run(feeds))) values.set(name, tensor);
  }

  #runKernel({ operator, inputs, attributes }, values) {
    return this.#kernels.run(operator, inputs.map((name) => this.#weights.get(name) ?? this.#inside(name, values)), attributes);
  }

  /** In the memory of the kernels; what was copied there is kept for other kernels. */
  #inside(name, values) {
    const value = values.get(name);
    if (value.pointer !== undefined) return value;
    return this.#kernels.place(value);
  }

  #outside(value, copied = false) {
    if (value.pointer === undefined) return value;
    const view = this.#kernels.view(value);
    return new this.#ort.Tensor(value.type, copied ? view.slice() : view, value.dims);
  }

  #forget(at, values) {
    for (const name of this.#plan.steps[at].inputs) if (this.#last.get(name) === at && !this.#plan.outputs.includes(name)) values.delete(name);
    if (![...values.values()].some(({ pointer }) => pointer !== undefined)) this.#kernels.release(this.#mark);
  }
}

function weightOf({ type, dims, offset }, model) {
  const bytes = dims.reduce((product, side) => product * side, WIDTHS[type]);
  return { type, dims, data: model.subarray(offset, offset + bytes) };
}
