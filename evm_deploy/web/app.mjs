// The page: opens the bundles, checks their golden pairs, runs images through them, measures, and sends the profile.

import { openBundle, openKernels } from "./bundle.mjs";
import { coloured, TASKS } from "./findings.mjs";
import { best } from "./golden.mjs";
import { decoded } from "./image.mjs";
import { failed, fits, load, measure, start } from "./measure.mjs";
import { placed, preprocess } from "./preprocess.mjs";
import { deviceFacts, profileOf } from "./profile.mjs";
import { figure, find, notice, showChecks, showClasses, showFacts, showMissing, showResults, status } from "./view.mjs";
import { available, preferred } from "./ways.mjs";

const CLASSES = 5;
const ROWS = 20; // of what a detector or segmenter found
const page = { config: null, bundles: [], ways: [], missing: [], contenders: [], device: null, stopped: false, hidden: false, sent: false, leaving: false };

async function main() {
  const config = await (await fetch("config.json", { credentials: "same-origin" })).json();
  page.config = config;
  document.title = find("title").textContent = config.title;
  find("method").textContent = method(config.method);
  if (config.mode === "profile") find("main").insertBefore(find("latency"), find("picture"));
  else keep();
  page.bundles = await bundles(config);
  page.device = await deviceFacts();
  Object.assign(page, await available(config, await openKernels(config)));
  facts();
  showMissing(page.missing);
  if (!page.ways.length) throw new Error("this browser can run the models in none of the ways that were asked for");
  await open([preferred(page.ways, page.bundles)]);
  ready();
  if (config.mode === "profile") await run();
  else status("Ready. Choose an image, or measure how fast it is.");
}

async function bundles({ models }) {
  const of = models.reduce((sum, { bytes }) => sum + bytes, 0);
  let arrived = 0;
  const opened = [];
  for (const entry of models) {
    const tell = (bytes) => {
      arrived += bytes;
      status(`Fetching ${entry.name}`, Math.min(arrived / of, 1));
    };
    opened.push(await openBundle(entry, tell));
  }
  return opened;
}

/** Loads every bundle in each of `ways`, one after another, and shows whether its golden pair passes. */
async function open(ways) {
  for (const way of ways) {
    const bundles = page.bundles.filter((bundle) => fits(bundle, way));
    if (!bundles.length) continue;
    status(`Starting ${way.name}`, null);
    let runner = null;
    let reason = null;
    await start(way).then((made) => (runner = made), (error) => (reason = error));
    for (const bundle of bundles) {
      say(`Loading ${bundle.name}, ${way.name}`, null);
      page.contenders.push(runner ? await load(bundle, runner) : failed(bundle, way, reason));
      showChecks(page.contenders);
    }
  }
}

function ready() {
  const able = page.contenders.filter(({ bundle, error }) => ["classification", ...Object.keys(TASKS)].includes(bundle.manifest.task) && !error);
  find("picture").hidden = able.length === 0;
  find("model").replaceChildren(...able.map(({ bundle }, at) => new Option(bundle.name, at)));
  find("model-choice").hidden = able.length < 2;
  find("camera-button").hidden = !matchMedia("(pointer: coarse)").matches;
  let last = null;
  const again = () => last && answer(able[Number(find("model").value)], last);
  for (const id of ["file", "camera"]) {
    find(id).addEventListener("change", ({ target }) => {
      last = target.files[0] ?? last;
      target.value = "";
      again();
    });
  }
  find("model").addEventListener("change", again);
  find("measure").addEventListener("click", () => run().catch(broken));
  find("stop").addEventListener("click", () => (page.stopped = true));
  document.addEventListener("visibilitychange", () => (page.hidden ||= document.hidden));
  busy(false);
}

function busy(measuring) {
  for (const id of ["file", "camera", "measure"]) find(id).disabled = measuring;
  find("measure").hidden = measuring;
  find("stop").hidden = !measuring;
}

/** Shows what a model says of an image file. */
async function answer({ bundle, runner }, file) {
  busy(true);
  find("stop").hidden = true;
  status("Reading the image", null);
  try {
    const image = await decoded(file);
    const { crop, data, shape } = preprocess(image, bundle.steps);
    const { type } = bundle.input;
    const { ms, outputs } = await runner.thread.call("run", { name: bundle.name, input: { type, shape, data } });
    const { seen, classes, boxes } = (TASKS[bundle.manifest.task] ? findings : scores)(bundle, image, crop, outputs);
    showClasses(classes, seen, `${figure(ms)} ms, ${runner.way.name}`, boxes);
    status(classes.length ? `${classes[0].label}, ${(classes[0].share * 100).toFixed(0)} %` : "Nothing was found.");
  } catch (error) {
    status(`The image was not used: ${error.message}.`);
  }
  busy(false);
}

/** What is shown of a classifier: {seen, classes}. */
function scores(bundle, image, crop, outputs) {
  return { seen: crop, classes: best(outputs[0], bundle.manifest.outputs[0].meaning, bundle.labels, CLASSES) };
}

/** What is shown of a detector or segmenter: {seen, classes, boxes}, in the pixels of the image. */
function findings({ manifest, steps, labels }, image, crop, outputs) {
  const found = TASKS[manifest.task].locate(outputs, placed(image, steps), labels);
  const rows = found.classes ?? found.things.map(({ label, score }) => ({ label, share: score }));
  return { seen: coloured(image, found), classes: rows.slice(0, ROWS), boxes: found.things };
}

async function run() {
  Object.assign(page, { stopped: false, hidden: document.hidden });
  busy(true);
  const awake = await navigator.wakeLock?.request("screen").catch(() => null);
  const open_ = new Set(page.contenders.map(({ way }) => way.name));
  await open(page.ways.filter(({ name }) => !open_.has(name)));
  setAside();
  const place = ({ bundle, way }) => page.bundles.indexOf(bundle) * page.ways.length + page.ways.indexOf(way);
  page.contenders.sort((one, other) => place(one) - place(other));
  for (const contender of page.contenders) delete contender.samples;
  const tell = ({ stage, done, of }) => say(stage, done === null ? null : done / of);
  await measure(page.contenders, page.config.method, tell, () => page.stopped);
  awake?.release();
  showResults(page.contenders);
  showChecks(page.contenders);
  const state = { ...page.device, missing: page.missing, hidden: page.hidden, stopped: page.stopped };
  const profile = JSON.stringify(profileOf(page.contenders, page.config, state));
  find("save").href = URL.createObjectURL(new Blob([profile], { type: "application/json" }));
  find("save").hidden = false;
  status("Measured.");
  busy(false);
  if (serving()) await send(profile);
}

/** A model that needs more than this WebGPU has gives a remark, or an error if WebGPU was requested. */
function setAside() {
  const lacking = ({ way, error, golden }) => way.provider === "webgpu" && error !== null && !golden;
  if (page.config.provider === "webgpu" || page.contenders.every(lacking)) return;
  for (const { name, error } of page.contenders.filter(lacking)) page.missing.push(`${name} was not measured: ${error}`);
  page.contenders = page.contenders.filter((contender) => !lacking(contender));
  showMissing(page.missing);
}

async function send(profile) {
  status("Sending the profile", null);
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("profile", { method: "POST", body: profile, headers, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`the profile was refused: ${(await answer.text()).slice(0, 300)}`);
  document.documentElement.dataset.sent = "yes";
  page.sent = true;
  status("Measured, and sent. You can still choose images here.");
}

/** Whether a profiler waits for what this page finds. */
function serving() {
  return page.config?.mode === "profile" && !page.sent;
}

let told = 0;

/** Shows where the work is, and now and then lets the server know that this page is alive. */
function say(text, share) {
  status(text, share);
  if (!serving() || performance.now() - told < 2000) return;
  told = performance.now();
  const stage = share === null ? text : `${text}, ${Math.round(share * 100)} %`;
  fetch("alive", { method: "POST", body: stage, credentials: "same-origin" }).catch(() => {});
}

function method({ iterations, seconds }) {
  const much = seconds === null ? `${iterations} runs of each` : `${seconds} seconds of each`;
  return `After warming up, ${much}, taking turns.`;
}

function facts() {
  const { device, versions, power } = page.device;
  showFacts({
    Device: device.name, System: device.os, Processor: device.machine, Cores: device.cores, ...versions, Battery: power.battery,
    "onnxruntime-web": page.config.runtime, Ways: page.ways.map(({ name }) => name).join("; "),
    Isolated: crossOriginIsolated ? "yes" : "no",
  });
}

/** In a package: starts the service worker that caches its files for offline use. */
function keep() {
  navigator.serviceWorker?.register("sw.js").catch(() => notice("This page cannot be kept for use without a network."));
}

/** Tells the server when the page is closed. Loaded again, it starts anew: what it had begun is gone. */
function watchClosing() {
  const leave = () => {
    page.leaving = true;
    setTimeout(() => (page.leaving = false), 5000); // or it stays, after all
  };
  addEventListener("beforeunload", leave); // some browsers end requests before `pagehide`
  addEventListener("pagehide", leave);
  addEventListener("pagehide", () => serving() && navigator.sendBeacon("closed"));
  addEventListener("pageshow", ({ persisted }) => persisted && serving() && location.reload());
}

function broken(error) {
  if (page.leaving) return;
  document.documentElement.dataset.failed = "yes";
  notice(`It stopped: ${error.message}.`, true);
  status("Stopped.");
  if (!serving()) return busy(false);
  fetch("failed", { method: "POST", body: String(error.message).slice(0, 500), credentials: "same-origin" }).catch(() => {});
}

watchClosing();
main().catch(broken);
