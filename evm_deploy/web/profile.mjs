// The document that the page sends or saves: version 1 of the profile's schema (evm_deploy/profiling/report.py).

import { quantile } from "./measure.mjs";

const SCHEMA = "evm-deploy/profile";
const VERSION = 1;

/**
 * `contenders` after `measure`; `config` of the page; `state` {before, after, hidden, stopped, missing, device}.
 */
export function profileOf(contenders, config, state) {
  const threads = new Set(contenders.map(({ way }) => way.threads));
  return {
    schema: SCHEMA,
    version: VERSION,
    created: new Date().toISOString(),
    tool: config.tool,
    device: { ...state.device, accelerator: accelerator(contenders) },
    conditions: {
      before: {},
      after: {},
      threads: threads.size === 1 ? [...threads][0] : null,
      affinity: null,
      versions: { "onnxruntime-web": config.runtime, ...state.versions },
      power: state.power,
    },
    method: { ...config.method, interleaved: true },
    results: contenders.map(result),
    warnings: [...state.missing, ...warnings(contenders, state)],
  };
}

function result({ bundle, way, runner, name, ...found }) {
  const { manifest } = bundle;
  return {
    name,
    bundle: bundle.name,
    runtime: way.threads === 1 ? way.runtime : `${way.runtime}, ${way.threads} threads`,
    provider: way.provider,
    target: manifest.target,
    precision: manifest.precision,
    sha256: bundle.sha256,
    size_bytes: bundle.model.length,
    error: found.error,
    golden: found.golden ?? null,
    load_ms: found.loadMs ?? null,
    first_ms: found.firstMs ?? null,
    warm_up_runs: found.warmUpRuns ?? null,
    steady: found.steady ?? null,
    samples_ms: found.error === null ? found.samples : [],
    notes: runner ? [`the runtime started in ${runner.startMs.toFixed(0)} ms`] : [],
  };
}

function accelerator(contenders) {
  return contenders.map(({ runner }) => runner?.accelerator).find(Boolean) ?? null;
}

function warnings(contenders, { hidden, stopped, resolution }) {
  const said = [];
  if (hidden) said.push("The page was in the background while it measured: browsers slow such pages down.");
  if (stopped) said.push("It was stopped before it had measured as often as was asked.");
  for (const { name, samples, steady, error } of contenders) {
    if (error !== null) continue;
    if (!steady) said.push(`${name}: times had not settled when timing began.`);
    if (quantile(samples, 0.5) < 20 * resolution) {
      said.push(`${name}: the browser's clock has steps of ${resolution.toPrecision(1)} ms, too coarse for these times.`);
    }
  }
  return said;
}

/** What the browser tells of the device it is on. */
export async function deviceFacts() {
  const data = navigator.userAgentData;
  const names = ["platformVersion", "architecture", "bitness", "model", "fullVersionList"];
  const more = (await data?.getHighEntropyValues(names).catch(() => null)) ?? {};
  const brand = (more.fullVersionList ?? data?.brands ?? []).find((each) => !/not.a.brand/i.test(each.brand));
  const os = [data?.platform, more.platformVersion].filter(Boolean).join(" ");
  return {
    device: {
      kind: "browser",
      name: more.model || data?.platform || guessed(navigator.userAgent),
      os: os || null,
      machine: [more.architecture, more.bitness].filter(Boolean).join(" ") || null,
      cores: navigator.hardwareConcurrency ?? null,
      user_agent: navigator.userAgent.slice(0, 400),
    },
    versions: brand ? { [brand.brand]: brand.version } : {},
    power: await power(),
    resolution: clockStep(),
  };
}

function guessed(agent) {
  return /iPhone|iPad|Android|Macintosh|Windows|Linux/.exec(agent)?.[0] ?? "browser";
}

async function power() {
  const battery = await navigator.getBattery?.().catch(() => null);
  if (!battery) return {};
  const share = `${Math.round(battery.level * 100)} %`;
  return { battery: battery.charging ? `${share}, on mains` : share };
}

/** The smallest step of the clock seen, in ms: browsers make it coarse on purpose. */
function clockStep() {
  let least = Infinity;
  for (let seen = 0; seen < 20; seen++) {
    const from = performance.now();
    let now = from;
    while (now === from) now = performance.now();
    least = Math.min(least, now - from);
  }
  return least;
}
