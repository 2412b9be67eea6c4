// What the page shows. Names come from files and are only ever set as text.

import { colourOf } from "./findings.mjs";
import { quantile } from "./measure.mjs";

const SVG = "http://www.w3.org/2000/svg";
const STRIP = { width: 300, height: 24, most: 400 }; // dots

export const find = (id) => document.getElementById(id);

/** The line under the title and its bar: `share` of 1, null while nobody knows, undefined when there is nothing to do. */
export function status(text, share) {
  if (find("status").textContent !== text) find("status").textContent = text;
  const bar = find("progress");
  bar.classList.toggle("done", share === undefined);
  if (share === null || share === undefined) bar.removeAttribute("value");
  else bar.value = share;
}

/** Sentences on what was not run here. */
export function showMissing(texts) {
  find("missing").hidden = texts.length === 0;
  find("missing").replaceChildren(...texts.map((text) => element("li", {}, text)));
}

/** A sentence above everything else. */
export function notice(text, bad = false) {
  const list = find("notices");
  list.hidden = false;
  list.append(element("li", { className: bad ? "notice bad" : "notice" }, text));
}

/** One line for each contender: whether it gave the golden output. */
export function showChecks(contenders) {
  const line = ({ name, golden, error }) => {
    const passed = golden?.passed && error === null;
    const off = golden?.relative_error;
    const said = passed ? `passed: off by ${off.toExponential(1)} of ${golden.tolerance.toExponential(1)}` : error;
    return element("li", {}, element("span", {}, name), element("span", { className: passed ? "good" : "bad" }, said));
  };
  find("checks").replaceChildren(...contenders.map(line));
}

/** A card for each contender, all on one scale. */
export function showResults(contenders) {
  const slowest = Math.max(...contenders.flatMap(({ samples }) => (samples ? [quantile(samples, 0.99)] : [])));
  find("results").replaceChildren(...contenders.map((contender) => card(contender, slowest * 1.05)));
}

function card({ bundle, way, samples, error, loadMs, firstMs, steady }, scale) {
  const head = element("h3", {}, bundle.name, " ", element("small", {}, way.name));
  if (!samples) return element("li", {}, head, element("p", { className: "bad" }, error ?? "not measured"));
  const middle = quantile(samples, 0.5);
  const median = element("p", { className: "median" }, element("strong", {}, figure(middle)), "ms, the median");
  const numbers = { p90: quantile(samples, 0.9), p99: quantile(samples, 0.99), first: firstMs, load: loadMs };
  const parts = Object.entries(numbers).map(([name, value]) => element("span", {}, `${name} ${figure(value)} ms`));
  parts.push(element("span", {}, `${samples.length} runs`));
  if (!steady) parts.push(element("span", { className: "unsettled" }, "times had not settled"));
  return element("li", {}, head, median, strip(samples, middle, scale), element("p", { className: "numbers" }, ...parts));
}

/** Each run a dot, in the order of turns from top to bottom. */
function strip(samples, middle, scale) {
  const { width, height, most } = STRIP;
  const box = drawing("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "strip", role: "img" });
  const range = `${figure(Math.min(...samples))} to ${figure(Math.max(...samples))} ms`;
  box.append(Object.assign(drawing("title", {}), { textContent: `${samples.length} runs of ${range}` }));
  const x = (value) => Math.min((value / scale) * width, width - 1);
  box.append(drawing("line", { x1: 0, x2: width, y1: height - 1, y2: height - 1 }));
  const step = Math.ceil(samples.length / most);
  for (let at = 0; at < samples.length; at += step) {
    const y = 3 + (at / samples.length) * (height - 8);
    box.append(drawing("ellipse", { cx: x(samples[at]), cy: y, rx: 1.2, ry: 1.6, opacity: 0.5 }));
  }
  box.append(drawing("line", { x1: x(middle), x2: x(middle), y1: 0, y2: height, class: "middle" }));
  return box;
}

/** The best classes with their shares, and the square that the model saw, or the image with the boxes of things. */
export function showClasses(classes, crop, took, boxes = []) {
  const row = ({ label, share }) => {
    const box = drawing("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    box.append(drawing("rect", { width: share * 100, height: 10 }));
    const percent = element("span", {}, `${(share * 100).toFixed(1)} %`);
    return element("li", {}, box, element("span", { className: "name" }, label), percent);
  };
  find("seen").hidden = false;
  find("classes").replaceChildren(...classes.map(row));
  find("took").textContent = took;
  const canvas = Object.assign(find("crop"), { width: crop.width, height: crop.height });
  const pixels = new ImageData(crop.width, crop.height);
  for (let at = 0, from = 0; at < pixels.data.length; at += 4, from += 3) {
    pixels.data.set([crop.data[from], crop.data[from + 1], crop.data[from + 2], 255], at);
  }
  const pen = canvas.getContext("2d");
  pen.putImageData(pixels, 0, 0);
  pen.lineWidth = Math.max(1, Math.round(Math.max(crop.width, crop.height) / 400));
  pen.font = `${Math.max(10, Math.round(Math.max(crop.width, crop.height) / 50))}px sans-serif`;
  for (const { box: [x0, y0, x1, y1], index, label } of [...boxes].reverse()) {
    pen.strokeStyle = pen.fillStyle = `rgb(${colourOf(index).join(" ")})`;
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
    pen.fillText(label, x0 + pen.lineWidth, Math.max(y0 - pen.lineWidth, 10));
  }
}

/** Names and values; unknown values are left out. */
export function showFacts(facts) {
  const known = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined);
  const rows = known.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]);
  find("facts").replaceChildren(...rows);
}

export function figure(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function drawing(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
