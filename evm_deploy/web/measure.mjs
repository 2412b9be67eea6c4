// Timing: every contender (a bundle in one way) loaded and checked, warmed up until steady, then measured in turns.

import { TASKS } from "./findings.mjs";
import { golden } from "./golden.mjs";
import { Thread } from "./ways.mjs";

// As the profiler does it everywhere (evm_deploy/profiling/agent/timing.py).
const WINDOW = 5; // minimum number of turns
const WINDOW_MS = 100; // that a window lasts at least
const AGREE = 0.05; // medians of two windows agree if they differ by less
const MOST_WINDOWS = 24;
const MOST_WARM_UP_MS = 20_000; // for each contender
const MOST_TURNS = 100_000;

/** Starts a thread for `way`; its models are loaded into it by `load`. */
export async function start(way) {
  const thread = new Thread();
  try {
    const { ms, accelerator } = await thread.call("start", { way, base: document.baseURI });
    return { way, thread, startMs: ms, accelerator };
  } catch (error) {
    thread.close();
    throw error;
  }
}

/** Whether the model is there in the form that the way runs: whole, or cut for our kernels. */
export const fits = (bundle, way) => !way.kernels || bundle.cut !== null;

/** A contender {bundle, way, runner, name, loadMs, firstMs, golden, error}: loaded, and held to the golden pair. */
export async function load(bundle, runner) {
  const { way, thread } = runner;
  const contender = { bundle, way, runner, name: `${bundle.name} (${way.name})`, error: null };
  try {
    const cut = way.kernels ? { ...bundle.cut, kernels: way.kernels } : null;
    const given = { name: bundle.name, model: bundle.model, file: bundle.manifest.model_file, input: bundle.input, cut };
    const { outputs, loadMs, firstMs } = await thread.call("load", given);
    Object.assign(contender, { loadMs, firstMs, golden: golden(outputs, bundle.expected, bundle.limits, TASKS[bundle.manifest.task]) });
    if (!contender.golden.passed) contender.error = wrong(contender.golden);
  } catch (error) {
    contender.error = `it does not run here: ${error.message}`;
  }
  return contender;
}

/** Contenders that cannot be: the runtime does not start in this way. */
export function failed(bundle, way, error) {
  return { bundle, way, runner: null, name: `${bundle.name} (${way.name})`, error: `no runtime: ${error.message}` };
}

/**
 * Measures the contenders that have no error: gives each `samples`, `warmUpRuns` and `steady`, or an error.
 * `method` {iterations, seconds, warm_up}; `tell({stage, done, of})`; `stopped()` ends the turns early.
 */
export async function measure(contenders, method, tell, stopped) {
  const turns = new Turns(contenders.filter(({ error }) => error === null));
  await warmUp(turns, method.warm_up, tell, stopped);
  turns.forget();
  const began = performance.now();
  const budget = () => (method.seconds === null ? Infinity : method.seconds * 1000 * turns.live.length);
  const enough = () => (method.seconds === null ? turns.count >= method.iterations : turns.count >= MOST_TURNS);
  while (turns.live.length && !enough()) {
    const passed = performance.now() - began;
    if (turns.count >= 2 && (passed >= budget() || stopped())) break;
    await turns.next();
    tell({ stage: "Measuring", ...progress(turns.count, performance.now() - began, method, budget()) });
  }
  for (const [at, contender] of turns.all.entries()) {
    if (contender.error === null) contender.samples = turns.times[at];
  }
}

function progress(count, passed, method, budget) {
  return method.seconds === null ? { done: count, of: method.iterations } : { done: Math.min(passed, budget), of: budget };
}

async function warmUp(turns, least, tell, stopped) {
  const began = performance.now();
  await turns.next();
  const first = turns.times.reduce((sum, [time]) => sum + (time ?? 0), 0) * 2;
  const window = Math.max(WINDOW, Math.min(100, Math.ceil(WINDOW_MS / Math.max(first, 0.001))));
  for (;;) {
    const until = turns.count + Math.max(1, window - (turns.count % window));
    while (turns.count < until && turns.live.length && !(stopped() && turns.count >= 2)) {
      await turns.next();
      tell({ stage: "Warming up", done: null, of: null });
    }
    const steady = turns.times.map((times) => agree(times, window));
    const late = performance.now() - began > MOST_WARM_UP_MS * turns.all.length;
    const over = turns.count >= Math.max(least, MOST_WINDOWS * window) || (late && turns.count >= least);
    const done = over || stopped() || (steady.every(Boolean) && turns.count >= least);
    if (done || !turns.live.length) {
      turns.all.forEach((contender, at) => Object.assign(contender, { warmUpRuns: turns.count * 2, steady: steady[at] }));
      return;
    }
  }
}

/** In a turn each contender runs once untimed, which brings back its caches, and once timed; every second turn goes
 * backwards. One that fails is out. */
class Turns {
  constructor(contenders) {
    this.all = contenders;
    this.forget();
    this.backwards = false;
  }

  forget() {
    this.times = this.all.map(() => []);
    this.count = 0;
  }

  get live() {
    return this.all.filter(({ error }) => error === null);
  }

  async next() {
    const order = this.all.map((_, at) => at);
    if (this.backwards) order.reverse();
    for (const at of order) {
      const contender = this.all[at];
      if (contender.error !== null) continue;
      try {
        const given = { name: contender.bundle.name };
        await contender.runner.thread.call("time", given);
        this.times[at].push(await contender.runner.thread.call("time", given));
      } catch (error) {
        contender.error = `it failed while it was measured: ${error.message}`;
      }
    }
    this.backwards = !this.backwards;
    this.count++;
  }
}

function agree(times, window) {
  if (times.length < 2 * window) return false;
  const [last, before] = [times.slice(-window), times.slice(-2 * window, -window)].map((part) => quantile(part, 0.5));
  return Math.abs(last - before) <= AGREE * Math.max(last, before);
}

/** Linear between the neighbouring samples, as NumPy's. */
export function quantile(samples, share) {
  const sorted = [...samples].sort((one, other) => one - other);
  const place = (sorted.length - 1) * share;
  const below = Math.floor(place);
  return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

function wrong({ relative_error: error, tolerance }) {
  const by = error === null ? "is not finite" : `is off by ${error.toExponential(1)} of ${tolerance.toExponential(1)}`;
  return `the golden pair ${by}: not timed`;
}
